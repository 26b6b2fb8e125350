//! A contrastive loss between images and phrases of their captions, the warm-up that binds image tokens to words before
//! boxes are learned. With cos(n, p) between grid cell n and phrase p:
//!
//! ```text
//! score(p, b) = (logsumexp over the cells n of image b of scale cos(n, p)) / divisor
//! loss        = mean over phrases of the cross entropy of softmax over candidate images (score(p, .)), target: p's image
//! ```
//!
//! An image is a candidate when its caption lacks the phrase, so that nothing true is pushed away; the own image always is.
//! The soft maximum over cells is multiple-instance learning (Ilse et al., 2018, arXiv 1802.04712, section 2.1), the cross
//! entropy InfoNCE (van den Oord et al., 2018, arXiv 1807.03748).
//!
//! Saved: features, phrases, and the derivative of the loss by every cosine.

pub mod cases;
mod cpu;
mod cuda;
mod reference;

pub use cuda::KERNELS;

use std::sync::Arc;

use crate::matching::assert_kernel_dtypes;
use crate::op::{Cost, Cx, GradSlot, Op, Outputs, Pass, Saved};
use crate::{DType, Device, Element, Tensor, dispatch_real};

/// Inputs features (N, C), the grid cells of B images one image after the other, phrases (P, C), both of unit length,
/// image_of_phrase (P) i32, candidates (P, B) i32 0 or 1; output the loss (), 0 without phrases.
#[derive(Clone, Debug)]
pub struct CaptionContrastiveLoss {
    /// B + 1 offsets: the cells of image b are rows `cells[b]..cells[b + 1]` of the features, at least one.
    pub cells: Arc<[usize]>,
    /// Multiplies the cosines.
    pub scale: f64,
    /// Divides the soft maximum over the cells.
    pub divisor: f64,
}

/// What forward reads.
struct Problem<'a, T> {
    features: &'a [T],
    phrases: &'a [T],
    image_of_phrase: &'a [i32],
    candidates: &'a [i32],
    cells: &'a [usize],
    scale: T,
    divisor: T,
}

impl CaptionContrastiveLoss {
    fn images(&self) -> usize {
        self.cells.len() - 1
    }

    fn problem<'a, T: Element>(&'a self, inputs: &[&'a Tensor]) -> Problem<'a, T> {
        Problem {
            features: inputs[0].as_slice(),
            phrases: inputs[1].as_slice(),
            image_of_phrase: inputs[2].as_slice(),
            candidates: inputs[3].as_slice(),
            cells: &self.cells,
            scale: T::from_f64(self.scale),
            divisor: T::from_f64(self.divisor),
        }
    }

    #[track_caller]
    fn check(&self, inputs: &[&Tensor]) {
        let &[features, phrases, image_of_phrase, candidates] = inputs else {
            panic!("caption_contrastive_loss: takes features, phrases, image_of_phrase, candidates")
        };
        let (n, c) = match *features.shape() {
            [n, c] if c > 0 => (n, c),
            _ => panic!("caption_contrastive_loss: features are {:?}, not (N, C)", features.shape()),
        };
        let ascending = self.cells.windows(2).all(|w| w[0] < w[1]);
        assert!(
            ascending && self.cells.first() == Some(&0) && self.cells.last() == Some(&n),
            "caption_contrastive_loss: cells {:?} do not split {n} features into images",
            self.cells
        );
        let (p, b) = (image_of_phrase.len(), self.images());
        for (name, t, shape) in [("phrases", phrases, [p, c]), ("candidates", candidates, [p, b])] {
            assert_eq!(
                t.shape(),
                shape,
                "caption_contrastive_loss: {name} are {:?}; features are {:?}, phrases {p}, images {b}",
                t.shape(),
                features.shape()
            );
        }
        if image_of_phrase.device() != Device::Cpu {
            return assert_kernel_dtypes(self.name(), &[features, phrases], &[image_of_phrase, candidates]);
        }
        let known = image_of_phrase.as_slice::<i32>().iter().all(|&image| (0..b as i32).contains(&image));
        assert!(known, "caption_contrastive_loss: image_of_phrase {image_of_phrase:?} names no image of {b}");
    }
}

impl Op for CaptionContrastiveLoss {
    fn name(&self) -> &'static str {
        "caption_contrastive_loss"
    }

    #[track_caller]
    fn forward(&self, cx: &mut Cx, inputs: &[&Tensor]) -> Outputs {
        self.check(inputs);
        let (features, phrases) = (inputs[0], inputs[1]);
        let dtype = features.dtype();
        let mut loss = Tensor::empty(&[], dtype, cx.device);
        let mut coefficients = Tensor::empty(&[phrases.shape()[0], features.shape()[0]], dtype, cx.device);
        if let Device::Cuda(cuda) = cx.device {
            let inputs = [features, phrases, inputs[2], inputs[3]];
            cuda::forward(cuda, &mut loss, &mut coefficients, inputs, self);
            return Outputs::one(loss, Saved::tensors([features, phrases, &coefficients]));
        }
        dispatch_real!("caption_contrastive_loss", dtype, T => {
            let forward = if dtype == DType::F32 { cpu::forward::<T> } else { reference::forward::<T> };
            loss.as_mut_slice::<T>()[0] = forward(coefficients.as_mut_slice(), &self.problem(inputs));
        });
        Outputs::one(loss, Saved::tensors([features, phrases, &coefficients]))
    }

    fn backward(&self, cx: &mut Cx, saved: Saved, grad_outs: &[Option<&Tensor>], grads: &mut [GradSlot]) {
        let ([features, phrases, coefficients], Some(dy)) = (&saved.tensors[..], grad_outs[0]) else { return };
        let [dfeatures, dphrases, ..] = grads else { panic!("caption_contrastive_loss: four gradients") };
        if let Device::Cuda(cuda) = cx.device {
            return cuda::backward(cuda, dfeatures, dphrases, dy, features, phrases, coefficients);
        }
        dispatch_real!("caption_contrastive_loss", dy.dtype(), T => {
            let backward = if dy.dtype() == DType::F32 { cpu::backward::<T> } else { reference::backward::<T> };
            backward(
                dfeatures,
                dphrases,
                dy.as_slice()[0],
                features.as_slice(),
                phrases.as_slice(),
                coefficients.as_slice(),
                features.last_axis(),
            );
        });
    }

    fn cost(&self, pass: Pass, inputs: &[&Tensor]) -> Cost {
        let (n, c, p) = (inputs[0].shape()[0], inputs[0].shape()[1], inputs[1].shape()[0]);
        let size = inputs[0].dtype().size();
        match pass {
            Pass::Forward => Cost::new((2 * c + 20) * n * p, (n + p) * c * size).saving(n * p * size),
            Pass::Backward => Cost::new(4 * c * n * p, (2 * (n + p) * c + n * p) * size),
        }
    }
}
