//! Launches of `contrastive_align_loss.cu`.

use super::Sizes;
use crate::cuda::Cuda;
use crate::kernel_source::{KernelSource, ONLY_F32};
use crate::launch::Arg;
use crate::op::GradSlot;
use crate::{DType, Device, Tensor, args, kernel_source};

/// The op's `.cu` files.
pub const KERNELS: &[KernelSource] = &[CONTRASTIVE_ALIGN_LOSS];

const CONTRASTIVE_ALIGN_LOSS: KernelSource = kernel_source!("contrastive_align_loss", ONLY_F32);

fn launch(cuda: &Cuda, role: &str, Sizes { layers, images, queries, tokens, channels, .. }: Sizes, args: &[Arg]) {
    let sizes = [
        ("layers", layers),
        ("images", images),
        ("problems", layers * images),
        ("queries", queries),
        ("tokens", tokens),
        ("channels", channels),
    ];
    cuda.launch(&CONTRASTIVE_ALIGN_LOSS, role, &[], &sizes, args);
}

pub fn forward(
    cuda: &'static Cuda,
    loss: &mut Tensor,
    coefficients: &mut Tensor,
    [queries, tokens, align_map, token_count, matches, image_of_target, num_boxes]: [&Tensor; 7],
    temperature: f32,
    sizes: Sizes,
) {
    let Sizes { layers: l, images: b, queries: q, tokens: n, channels: c, .. } = sizes;
    let t = image_of_target.len();
    let empty = |shape: &[usize], dtype| Tensor::empty(shape, dtype, Device::Cuda(cuda));
    let mut of_image = empty(&[l, b], DType::F32);
    let mut of_query = empty(&[l, b, q, 2], DType::F32); // (normalizer, share)
    let mut target_of_query = empty(&[l, b, q], DType::I32);
    let args = args![&mut *coefficients, queries, tokens, temperature, l, b, q, n, c];
    launch(cuda, "contrastive_align_loss_logits", sizes, &args);
    let args = args![
        &mut of_image,
        coefficients,
        &mut of_query,
        &mut target_of_query,
        align_map,
        token_count,
        matches,
        image_of_target,
        b,
        q,
        n,
        t
    ];
    launch(cuda, "contrastive_align_loss_fwd", sizes, &args);
    launch(cuda, "contrastive_align_loss_sum", sizes, &args![loss, &of_image, num_boxes, b]);
}

pub fn backward<'a>(
    cuda: &Cuda,
    dqueries: &mut GradSlot<'a>,
    dtokens: &mut GradSlot<'a>,
    dloss: &Tensor,
    [queries, tokens, num_boxes, coefficients]: [&Tensor; 4],
    temperature: f32,
    sizes: Sizes,
) {
    let Sizes { layers: l, images: b, queries: q, tokens: n, channels: c, .. } = sizes;
    let slots = [
        (dqueries, "contrastive_align_loss_bwd_queries", tokens),
        (dtokens, "contrastive_align_loss_bwd_tokens", queries),
    ];
    for (slot, role, other) in slots.into_iter().filter(|(slot, ..)| slot.is_needed()) {
        let [slot, accumulate] = slot.args();
        let args = args![slot, accumulate, dloss, other, coefficients, num_boxes, temperature, l, b, q, n, c];
        launch(cuda, role, sizes, &args);
    }
}
