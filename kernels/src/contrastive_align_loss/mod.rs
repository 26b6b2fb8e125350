//! The contrastive alignment loss of MDETR (Kamath et al., 2021, arXiv 2104.12763, equations 1 and 2), for every decoder
//! layer. With x = queries tokens^T / temperature and a query's positives the tokens that its target aligns with:
//!
//! ```text
//! boxes  = sum over queries with a positive of logsumexp over all tokens  (x) - sum over positives (x) / (positives + 1e-6)
//! tokens = sum over tokens with a positive  of logsumexp over all queries (x) - sum over positives (x) / (positives + 1e-6)
//! loss   = (boxes + tokens) / 2 / num_boxes
//! ```
//!
//! "All tokens" are those of the text padded to the batch's longest, as the published code has it; what a bucket of shapes adds
//! behind them is none.
//!
//! Saved: queries, tokens, num_boxes, and the derivative of (boxes + tokens) / 2 by x.

pub mod cases;
mod cpu;
mod cuda;
mod reference;

pub use cuda::KERNELS;

use crate::matching::{assert_kernel_dtypes, assert_matches_fit, matched_pairs};
use crate::op::{Cost, Cx, GradSlot, Op, Outputs, Pass, Saved};
use crate::{DType, Device, Real, Tensor, dispatch_real};

/// Inputs queries (L, B, Q, C) and tokens (B, N, C), both of unit length, align_map (T, N) of 0 and 1, token_count (1) i32,
/// matches (L, T) i32, image_of_target (T) i32, num_boxes (1); output the loss (L). Only the first `token_count` tokens of a
/// caption are there, and only those columns of the map are read.
#[derive(Clone, Copy, Debug)]
pub struct ContrastiveAlignLoss {
    /// What the cosines are divided by (0.07 as published).
    pub temperature: f64,
}

/// A number of positives as a divisor: + 1e-6 in f32 whatever the logits are, as published.
fn divisor<T: Real>(count: T) -> T {
    T::from_f64(f64::from(count.to_f64() as f32 + 1e-6))
}

#[derive(Clone, Copy)]
struct Sizes {
    layers: usize,
    images: usize,
    queries: usize,
    tokens: usize,
    /// Of the tokens: how many the host knows to be there.
    there: usize,
    channels: usize,
}

impl Sizes {
    #[track_caller]
    fn new(queries: &Tensor, tokens: &Tensor) -> Self {
        match (queries.shape(), tokens.shape()) {
            (&[layers, images, queries, channels], &[b, tokens, c]) if (b, c) == (images, channels) => {
                Sizes { layers, images, queries, tokens, there: tokens, channels }
            }
            (q, t) => {
                panic!("contrastive_align_loss: queries are {q:?}, not (L, B, Q, C), or tokens {t:?}, not (B, N, C)")
            }
        }
    }
}

impl Op for ContrastiveAlignLoss {
    fn name(&self) -> &'static str {
        "contrastive_align_loss"
    }

    #[track_caller]
    fn forward(&self, cx: &mut Cx, inputs: &[&Tensor]) -> Outputs {
        let &[queries, tokens, align_map, token_count, matches, image_of_target, num_boxes] = inputs else {
            panic!(
                "contrastive_align_loss: takes queries, tokens, align_map, token_count, matches, image_of_target, num_boxes"
            )
        };
        let sizes = Sizes::new(queries, tokens);
        let Sizes { layers, images, .. } = sizes;
        let total = image_of_target.len();
        assert_eq!(
            align_map.shape(),
            [total, sizes.tokens],
            "contrastive_align_loss: align_map is {:?}, tokens {:?}, targets {total}",
            align_map.shape(),
            tokens.shape()
        );
        for (name, t) in [("token_count", token_count), ("num_boxes", num_boxes)] {
            assert_eq!(t.len(), 1, "contrastive_align_loss: {name} is {:?}", t.shape());
        }
        assert_matches_fit("contrastive_align_loss", layers, matches, image_of_target);
        let dtype = queries.dtype();
        let mut loss = Tensor::empty(&[layers], dtype, cx.device);
        let mut coefficients = Tensor::empty(&[layers, images, sizes.queries, sizes.tokens], dtype, cx.device);
        let saved = |coefficients: &Tensor| Saved::tensors([queries, tokens, num_boxes, coefficients]);
        if let Device::Cuda(cuda) = cx.device {
            let floats = [queries, tokens, align_map, num_boxes];
            assert_kernel_dtypes("contrastive_align_loss", &floats, &[token_count, matches, image_of_target]);
            let inputs = [queries, tokens, align_map, token_count, matches, image_of_target, num_boxes];
            cuda::forward(cuda, &mut loss, &mut coefficients, inputs, self.temperature as f32, sizes);
            return Outputs::one(loss, saved(&coefficients));
        }
        let grid = [layers, images, sizes.queries];
        let sizes = Sizes { there: token_count.as_slice::<i32>()[0] as usize, ..sizes };
        assert!(
            sizes.there <= sizes.tokens,
            "contrastive_align_loss: {} tokens are there, of {:?}",
            sizes.there,
            tokens.shape()
        );
        let pairs = matched_pairs("contrastive_align_loss", grid, matches, image_of_target);
        let mut of_image = Tensor::empty(&[layers, images], dtype, cx.device);
        dispatch_real!("contrastive_align_loss", dtype, T => {
            let forward = if dtype == DType::F32 { cpu::forward::<T> } else { reference::forward::<T> };
            forward(
                of_image.as_mut_slice(),
                coefficients.as_mut_slice(),
                queries.as_slice(),
                tokens.as_slice(),
                &positives::<T>(align_map.as_slice(), &pairs, sizes),
                sizes,
                self.temperature as T,
            );
            let (of_image, num_boxes): (&[T], T) = (of_image.as_slice(), num_boxes.as_slice()[0]);
            for (layer, loss) in loss.as_mut_slice::<T>().iter_mut().enumerate() {
                *loss = of_image[layer * images..(layer + 1) * images].iter().sum::<T>() / num_boxes;
            }
        });
        Outputs::one(loss, saved(&coefficients))
    }

    fn backward(&self, cx: &mut Cx, saved: Saved, grad_outs: &[Option<&Tensor>], grads: &mut [GradSlot]) {
        let ([queries, tokens, num_boxes, coefficients], Some(dy)) = (&saved.tensors[..], grad_outs[0]) else {
            return;
        };
        let [dqueries, dtokens, ..] = grads else { panic!("contrastive_align_loss: seven gradients") };
        let sizes = Sizes::new(queries, tokens);
        if let Device::Cuda(cuda) = cx.device {
            let saved = [queries, tokens, num_boxes, coefficients];
            return cuda::backward(cuda, dqueries, dtokens, dy, saved, self.temperature as f32, sizes);
        }
        let divisor = self.temperature * num_boxes.item();
        let scales: Vec<f64> = dy.to_f64_vec().iter().map(|g| g / divisor).collect();
        dispatch_real!("contrastive_align_loss", queries.dtype(), T => {
            let backward = if queries.dtype() == DType::F32 { cpu::backward::<T> } else { reference::backward::<T> };
            backward(
                dqueries,
                dtokens,
                &scales.iter().map(|&s| s as T).collect::<Vec<T>>(),
                queries.as_slice(),
                tokens.as_slice(),
                coefficients.as_slice(),
                sizes,
            );
        });
    }

    fn cost(&self, pass: Pass, inputs: &[&Tensor]) -> Cost {
        let (Sizes { layers, images, queries, tokens, channels, .. }, size) =
            (Sizes::new(inputs[0], inputs[1]), inputs[0].dtype().size());
        let logits = layers * images * queries * tokens;
        let read = inputs[0].len() + inputs[1].len();
        match pass {
            Pass::Forward => Cost::new((2 * channels + 40) * logits, read * size).saving(logits * size),
            Pass::Backward => Cost::new(4 * channels * logits, (2 * read + logits) * size),
        }
    }
}

/// (L, B, Q, N): the row of the align map at matched queries, zeros elsewhere and behind the tokens that are there.
fn positives<T: Real>(align_map: &[T], pairs: &[(usize, usize)], sizes: Sizes) -> Vec<T> {
    let n = sizes.tokens;
    let mut positives = vec![T::zero(); sizes.layers * sizes.images * sizes.queries * n];
    for &(target, row) in pairs {
        positives[row * n..][..sizes.there].copy_from_slice(&align_map[target * n..][..sizes.there]);
    }
    positives
}
