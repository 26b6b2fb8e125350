//! The box losses of DETR (Carion et al., 2020, arXiv 2005.12872, section 3.1), for every decoder layer:
//!
//! ```text
//! l1   = sum over matched pairs of |box - target|_1         / num_boxes
//! giou = sum over matched pairs of (1 - GIoU(box, target))  / num_boxes
//! ```
//!
//! Saved: boxes, targets, matches, image_of_target, num_boxes.

pub mod cases;
mod cuda;
mod reference;

pub use cuda::KERNELS;

use crate::matching::{assert_kernel_dtypes, assert_matches_fit, matched_pairs};
use crate::op::{Cost, Cx, GradSlot, Op, Outputs, Pass, Saved};
use crate::{Device, Tensor, dispatch_real};

/// Inputs boxes (L, B, Q, 4) and targets (T, 4), normalized cxcywh, matches (L, T) i32, image_of_target (T) i32,
/// num_boxes (1); outputs l1 (L), giou (L). Targets get no gradient.
#[derive(Clone, Copy, Debug)]
pub struct BoxLoss;

impl Op for BoxLoss {
    fn name(&self) -> &'static str {
        "box_loss"
    }

    #[track_caller]
    fn forward(&self, cx: &mut Cx, inputs: &[&Tensor]) -> Outputs {
        let &[boxes, targets, matches, image_of_target, num_boxes] = inputs else {
            panic!("box_loss: takes boxes, targets, matches, image_of_target, num_boxes")
        };
        let &[layers, images, queries, 4] = boxes.shape() else {
            panic!("box_loss: boxes are {:?}, not (L, B, Q, 4)", boxes.shape())
        };
        let total = image_of_target.len();
        assert_eq!(targets.shape(), [total, 4], "box_loss: targets are {:?}, of {total} images", targets.shape());
        assert_eq!(num_boxes.len(), 1, "box_loss: num_boxes is {:?}", num_boxes.shape());
        assert_matches_fit("box_loss", layers, matches, image_of_target);
        let [mut l1, mut giou] = [(); 2].map(|()| Tensor::empty(&[layers], boxes.dtype(), cx.device));
        if let Device::Cuda(cuda) = cx.device {
            assert_kernel_dtypes("box_loss", &[boxes, targets, num_boxes], &[matches, image_of_target]);
            let inputs = [boxes, targets, matches, image_of_target, num_boxes];
            cuda::forward(cuda, &mut l1, &mut giou, inputs);
        } else {
            let pairs = matched_pairs("box_loss", [layers, images, queries], matches, image_of_target);
            dispatch_real!("box_loss", boxes.dtype(), T => reference::forward::<T>(
                l1.as_mut_slice(),
                giou.as_mut_slice(),
                boxes.as_slice(),
                targets.as_slice(),
                &pairs,
                num_boxes.as_slice()[0],
            ));
        }
        Outputs {
            tensors: vec![l1, giou],
            saved: Saved::tensors([boxes, targets, matches, image_of_target, num_boxes]),
        }
    }

    fn backward(&self, cx: &mut Cx, saved: Saved, grad_outs: &[Option<&Tensor>], grads: &mut [GradSlot]) {
        let [boxes, targets, matches, image_of_target, num_boxes] = &saved.tensors[..] else {
            panic!("box_loss: five saved")
        };
        if let Device::Cuda(cuda) = cx.device {
            let saved = [boxes, targets, matches, image_of_target, num_boxes];
            return cuda::backward(cuda, &mut grads[0], [grad_outs[0], grad_outs[1]], saved);
        }
        let &[layers, images, queries, _] = boxes.shape() else { panic!("box_loss: boxes are {:?}", boxes.shape()) };
        let pairs = matched_pairs("box_loss", [layers, images, queries], matches, image_of_target);
        dispatch_real!("box_loss", boxes.dtype(), T => reference::backward::<T>(
            &mut grads[0],
            grad_outs[0].map(Tensor::as_slice),
            grad_outs[1].map(Tensor::as_slice),
            boxes.as_slice(),
            targets.as_slice(),
            &pairs,
            num_boxes.as_slice()[0],
            layers,
        ));
    }

    fn cost(&self, pass: Pass, inputs: &[&Tensor]) -> Cost {
        let (pairs, size) = (inputs[2].len(), inputs[0].dtype().size());
        match pass {
            Pass::Forward => Cost::new(50 * pairs, 8 * pairs * size),
            Pass::Backward => Cost::new(100 * pairs, (8 * pairs + inputs[0].len()) * size),
        }
    }
}
