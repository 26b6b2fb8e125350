//! Launches of `soft_token_loss.cu`.

use crate::cuda::Cuda;
use crate::kernel_source::{KernelSource, ONLY_F32};
use crate::op::GradSlot;
use crate::{DType, Device, Tensor, args, kernel_source};

/// The op's `.cu` files.
pub const KERNELS: &[KernelSource] = &[SOFT_TOKEN_LOSS];

const SOFT_TOKEN_LOSS: KernelSource = kernel_source!("soft_token_loss", ONLY_F32);

pub fn forward(
    cuda: &'static Cuda,
    loss: &mut Tensor,
    cardinality: &mut Tensor,
    normalizer: &mut Tensor,
    target_of_row: &mut Tensor,
    [logits, positive_map, matches, image_of_target, num_boxes]: [&Tensor; 5],
    eos_coef: f32,
) {
    let (rows, &[layers, b, q, k]) = (logits.rows(), logits.shape()) else {
        panic!("soft_token_loss: logits are {:?}", logits.shape())
    };
    let t = image_of_target.len();
    let [mut row_loss, mut is_object] =
        [DType::F32, DType::I32].map(|dtype| Tensor::empty(&[rows], dtype, Device::Cuda(cuda)));
    let args = args![
        &mut row_loss,
        &mut is_object,
        normalizer,
        target_of_row,
        logits,
        positive_map,
        matches,
        image_of_target,
        eos_coef,
        rows,
        b,
        q,
        k,
        t
    ];
    cuda.launch(&SOFT_TOKEN_LOSS, "soft_token_loss_fwd", &[], &[("rows", rows)], &args);
    let args = args![loss, cardinality, &row_loss, &is_object, image_of_target, num_boxes, b, q, t];
    cuda.launch(&SOFT_TOKEN_LOSS, "soft_token_loss_sum", &[], &[("layers", layers)], &args);
}

pub fn backward(
    cuda: &Cuda,
    dlogits: &mut GradSlot,
    dloss: Option<&Tensor>,
    [logits, positive_map, target_of_row, normalizer, num_boxes]: [&Tensor; 5],
    eos_coef: f32,
) {
    if !dlogits.is_needed() {
        return;
    }
    let (rows, layers, k) = (logits.rows(), logits.shape()[0], logits.last_axis());
    let [dlogits, accumulate] = dlogits.args();
    let args = args![
        dlogits,
        accumulate,
        dloss,
        logits,
        positive_map,
        target_of_row,
        normalizer,
        num_boxes,
        eos_coef,
        rows,
        rows / layers.max(1),
        k
    ];
    cuda.launch(&SOFT_TOKEN_LOSS, "soft_token_loss_bwd", &[], &[("rows", rows)], &args);
}
