//! Launches of `caption_contrastive_loss.cu`.

use super::CaptionContrastiveLoss;
use crate::cuda::Cuda;
use crate::kernel_source::{KernelSource, ONLY_F32};
use crate::op::GradSlot;
use crate::{DType, Device, Tensor, args, kernel_source};

/// The op's `.cu` files.
pub const KERNELS: &[KernelSource] = &[CAPTION_CONTRASTIVE_LOSS];

const CAPTION_CONTRASTIVE_LOSS: KernelSource = kernel_source!("caption_contrastive_loss", ONLY_F32);

pub fn forward(
    cuda: &'static Cuda,
    loss: &mut Tensor,
    coefficients: &mut Tensor,
    [features, phrases, image_of_phrase, candidates]: [&Tensor; 4],
    op: &CaptionContrastiveLoss,
) {
    let device = Device::Cuda(cuda);
    let (n, c, p, b) = (features.rows(), features.last_axis(), phrases.rows(), op.images());
    let (scale, divisor) = (op.scale as f32, op.divisor as f32);
    let cells: Vec<i32> = op.cells.iter().map(|&cell| i32::try_from(cell).expect("cells fit i32")).collect();
    let cells = Tensor::from_slice(&cells, &[b + 1], device);
    let [mut of_phrase, mut scores] = [[p, 1], [p, b]].map(|shape| Tensor::empty(&shape, DType::F32, device));
    let launch = |role: &str, args: &[_]| {
        cuda.launch(&CAPTION_CONTRASTIVE_LOSS, role, &[], &[("phrases", p), ("cells", n)], args);
    };
    launch("caption_contrastive_loss_logits", &args![&mut *coefficients, features, phrases, scale, p, n, c]);
    let args = args![
        &mut of_phrase,
        coefficients,
        &mut scores,
        image_of_phrase,
        candidates,
        &cells,
        scale,
        divisor,
        p,
        n,
        b
    ];
    launch("caption_contrastive_loss_fwd", &args);
    launch("caption_contrastive_loss_sum", &args![loss, &of_phrase, p]);
}

pub fn backward<'a>(
    cuda: &Cuda,
    dfeatures: &mut GradSlot<'a>,
    dphrases: &mut GradSlot<'a>,
    dy: &Tensor,
    features: &Tensor,
    phrases: &Tensor,
    coefficients: &Tensor,
) {
    let (n, c, p) = (features.rows(), features.last_axis(), phrases.rows());
    let slots = [
        (dfeatures, "caption_contrastive_loss_bwd_features", phrases),
        (dphrases, "caption_contrastive_loss_bwd_phrases", features),
    ];
    for (slot, role, other) in slots.into_iter().filter(|(slot, ..)| slot.is_needed()) {
        let [slot, accumulate] = slot.args();
        let sizes = [("phrases", p), ("cells", n), ("channels", c)];
        let args = args![slot, accumulate, dy, other, coefficients, p, n, c];
        cuda.launch(&CAPTION_CONTRASTIVE_LOSS, role, &[], &sizes, &args);
    }
}
