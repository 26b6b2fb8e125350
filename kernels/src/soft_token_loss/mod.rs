//! The soft-token classification loss of MDETR (Kamath et al., 2021, arXiv 2104.12763, section 2.2.2), for every decoder
//! layer, and the cardinality error of DETR, a metric.
//!
//! ```text
//! loss = sum over queries of weight * -(log_softmax(logits) . target) / num_boxes
//! ```
//!
//! The target of a matched query is its row of the positive map, with weight 1; of another one the last column, "no
//! object", with weight `eos_coef`. The cardinality error is the mean over images of |queries whose argmax is not the
//! last column - targets|.
//!
//! Saved: logits, positive_map, num_boxes, and per query its target and its logits' logsumexp.

pub mod cases;
mod cpu;
mod cuda;
mod reference;

pub use cuda::KERNELS;

use rayon::prelude::*;

use crate::matching::{assert_kernel_dtypes, assert_matches_fit, matched_pairs};
use crate::op::{Cost, Cx, GradSlot, Op, Outputs, Pass, Saved};
use crate::{DType, Device, Real, Tensor, dispatch_real};

/// Inputs logits (L, B, Q, K), positive_map (T, K), matches (L, T) i32, image_of_target (T) i32, num_boxes (1); outputs
/// the loss (L) and the cardinality error (L), whose gradient is ignored.
#[derive(Clone, Copy, Debug)]
pub struct SoftTokenLoss {
    /// The weight of queries without a target (0.1 as published).
    pub eos_coef: f64,
}

/// What forward and backward read.
struct Problem<'a, T> {
    logits: &'a [T],
    positive_map: &'a [T],
    /// -1: no object.
    target_of_row: &'a [i32],
    k: usize,
    eos_coef: T,
}

impl<'a, T: Real> Problem<'a, T> {
    fn new(logits: &'a Tensor, positive_map: &'a Tensor, target_of_row: &'a Tensor, eos_coef: f64) -> Self {
        Problem {
            logits: logits.as_slice(),
            positive_map: positive_map.as_slice(),
            target_of_row: target_of_row.as_slice(),
            k: logits.last_axis(),
            // In f32 whatever the logits are, as published.
            eos_coef: T::from_f64(f64::from(eos_coef as f32)),
        }
    }

    /// The positive map's row of a target; `None` for no object.
    fn target(&self, target: i32) -> Option<&'a [T]> {
        let target = usize::try_from(target).ok()?;
        Some(&self.positive_map[target * self.k..(target + 1) * self.k])
    }
}

impl Op for SoftTokenLoss {
    fn name(&self) -> &'static str {
        "soft_token_loss"
    }

    #[track_caller]
    fn forward(&self, cx: &mut Cx, inputs: &[&Tensor]) -> Outputs {
        let &[logits, positive_map, matches, image_of_target, num_boxes] = inputs else {
            panic!("soft_token_loss: takes logits, positive_map, matches, image_of_target, num_boxes")
        };
        let &[layers, images, queries, k] = logits.shape() else {
            panic!("soft_token_loss: logits are {:?}, not (L, B, Q, K)", logits.shape())
        };
        assert!(k > 0, "soft_token_loss: logits {:?} have no column for no object", logits.shape());
        let targets = image_of_target.len();
        assert_eq!(
            positive_map.shape(),
            [targets, k],
            "soft_token_loss: positive_map is {:?}, logits are {:?}, targets {targets}",
            positive_map.shape(),
            logits.shape()
        );
        assert_eq!(num_boxes.len(), 1, "soft_token_loss: num_boxes is {:?}", num_boxes.shape());
        assert_matches_fit("soft_token_loss", layers, matches, image_of_target);
        let dtype = logits.dtype();
        let [mut loss, mut cardinality] = [(); 2].map(|()| Tensor::empty(&[layers], dtype, cx.device));
        let mut normalizer = Tensor::empty(&[logits.rows()], dtype, cx.device);
        let mut target_of_row = Tensor::empty(&[logits.rows()], DType::I32, cx.device);
        if let Device::Cuda(cuda) = cx.device {
            let (floats, indices) = ([logits, positive_map, num_boxes], [matches, image_of_target]);
            assert_kernel_dtypes("soft_token_loss", &floats, &indices);
            let inputs = [logits, positive_map, matches, image_of_target, num_boxes];
            let eos_coef = self.eos_coef as f32;
            cuda::forward(cuda, &mut loss, &mut cardinality, &mut normalizer, &mut target_of_row, inputs, eos_coef);
        } else {
            let of_row: &mut [i32] = target_of_row.as_mut_slice();
            of_row.fill(-1);
            for (target, row) in matched_pairs("soft_token_loss", [layers, images, queries], matches, image_of_target)
            {
                of_row[row] = target as i32;
            }
            let mut targets_of_image = vec![0; images];
            let there = image_of_target.as_slice::<i32>().iter().filter(|&&image| (image as usize) < images);
            there.for_each(|&image| targets_of_image[image as usize] += 1);
            dispatch_real!("soft_token_loss", dtype, T => {
                let mut row_loss = vec![0.0 as T; logits.rows()];
                let forward = if dtype == DType::F32 { cpu::forward::<T> } else { reference::forward::<T> };
                forward(
                    &mut row_loss,
                    normalizer.as_mut_slice(),
                    &Problem::new(logits, positive_map, &target_of_row, self.eos_coef),
                );
                sum_rows::<T>(loss.as_mut_slice(), &row_loss, num_boxes.as_slice()[0]);
                cardinality_errors::<T>(cardinality.as_mut_slice(), logits.as_slice(), queries, k, &targets_of_image);
            });
        }
        let saved = Saved::tensors([logits, positive_map, &target_of_row, &normalizer, num_boxes]);
        Outputs { tensors: vec![loss, cardinality], saved }
    }

    fn backward(&self, cx: &mut Cx, saved: Saved, grad_outs: &[Option<&Tensor>], grads: &mut [GradSlot]) {
        let [logits, positive_map, target_of_row, normalizer, num_boxes] = &saved.tensors[..] else {
            panic!("soft_token_loss: five saved")
        };
        if let Device::Cuda(cuda) = cx.device {
            let saved = [logits, positive_map, target_of_row, normalizer, num_boxes];
            return cuda::backward(cuda, &mut grads[0], grad_outs[0], saved, self.eos_coef as f32);
        }
        let grad_loss = grad_outs[0].map_or_else(|| vec![0.0; logits.shape()[0]], Tensor::to_f64_vec);
        let scales: Vec<f64> = grad_loss.iter().map(|g| g / num_boxes.item()).collect();
        dispatch_real!("soft_token_loss", logits.dtype(), T => {
            let backward = if logits.dtype() == DType::F32 { cpu::backward::<T> } else { reference::backward::<T> };
            let problem = Problem::new(logits, positive_map, target_of_row, self.eos_coef);
            backward(&mut grads[0], &scales, normalizer.as_slice(), &problem);
        });
    }

    fn cost(&self, pass: Pass, inputs: &[&Tensor]) -> Cost {
        let (n, size) = (inputs[0].len(), inputs[0].dtype().size());
        match pass {
            Pass::Forward => Cost::new(20 * n, n * size).saving(inputs[0].rows() * (size + 4)),
            Pass::Backward => Cost::new(20 * n, 2 * n * size),
        }
    }
}

/// loss (L): the sum of a layer's rows over num_boxes.
fn sum_rows<T: Real>(loss: &mut [T], row_loss: &[T], num_boxes: T) {
    let rows = row_loss.len() / loss.len().max(1);
    for (layer, loss) in loss.iter_mut().enumerate() {
        *loss = row_loss[layer * rows..(layer + 1) * rows].iter().copied().sum::<T>() / num_boxes;
    }
}

/// errors (L): the mean over images of |#(argmax is not the last column) - #targets|. Of equal logits the first is the
/// argmax.
fn cardinality_errors<T: Real>(errors: &mut [T], logits: &[T], queries: usize, k: usize, targets: &[usize]) {
    let is_object = |row: &&[T]| row[..k - 1].iter().any(|x| *x >= row[k - 1]);
    let images = targets.len();
    errors.par_iter_mut().enumerate().for_each(|(layer, error)| {
        let sum: usize = (0..images)
            .map(|image| {
                let start = (layer * images + image) * queries * k;
                let objects = logits[start..start + queries * k].chunks(k).filter(is_object).count();
                objects.abs_diff(targets[image])
            })
            .sum();
        *error = T::from_f64(sum as f64 / images.max(1) as f64);
    });
}
