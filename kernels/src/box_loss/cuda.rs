//! Launches of `box_loss.cu`.

use crate::cuda::Cuda;
use crate::kernel_source::{KernelSource, ONLY_F32};
use crate::op::GradSlot;
use crate::{Tensor, args, kernel_source};

/// The op's `.cu` files.
pub const KERNELS: &[KernelSource] = &[BOX_LOSS];

const BOX_LOSS: KernelSource = kernel_source!("box_loss", ONLY_F32);

pub fn forward(
    cuda: &Cuda,
    l1: &mut Tensor,
    giou: &mut Tensor,
    [boxes, targets, matches, image_of_target, num_boxes]: [&Tensor; 5],
) {
    let &[layers, b, q, _] = boxes.shape() else { panic!("box_loss: boxes are {:?}", boxes.shape()) };
    let args = args![l1, giou, boxes, targets, matches, image_of_target, num_boxes, b, q, image_of_target.len()];
    cuda.launch(&BOX_LOSS, "box_loss_fwd", &[], &[("layers", layers)], &args);
}

pub fn backward(
    cuda: &Cuda,
    dboxes: &mut GradSlot,
    [dl1, dgiou]: [Option<&Tensor>; 2],
    [boxes, targets, matches, image_of_target, num_boxes]: [&Tensor; 5],
) {
    if !dboxes.is_needed() {
        return;
    }
    let (&[_, b, q, _], rows) = (boxes.shape(), boxes.rows()) else { panic!("box_loss: boxes {:?}", boxes.shape()) };
    let ([dboxes, accumulate], t) = (dboxes.args(), image_of_target.len());
    let args =
        args![dboxes, accumulate, dl1, dgiou, boxes, targets, matches, image_of_target, num_boxes, rows, b, q, t];
    cuda.launch(&BOX_LOSS, "box_loss_bwd", &[], &[("rows", rows)], &args);
}
