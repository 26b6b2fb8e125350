//! Launches of `position_learned.cu`.

use crate::cuda::Cuda;
use crate::kernel_source::KernelSource;
use crate::launch::element;
use crate::op::GradSlot;
use crate::{Tensor, args, kernel_source};

/// The op's `.cu` files.
pub const KERNELS: &[KernelSource] = &[POSITION_LEARNED];

const POSITION_LEARNED: KernelSource = kernel_source!("position_learned");

pub fn forward(cuda: &Cuda, y: &mut Tensor, row_embed: &Tensor, col_embed: &Tensor, maps: &Tensor) {
    let (cells, half, defines) = (y.rows(), row_embed.last_axis(), [element("T", y.dtype())]);
    let sizes = [("elements", y.len())];
    let args = args![y, row_embed, col_embed, maps, maps.rows(), cells, half];
    cuda.launch(&POSITION_LEARNED, "position_learned_fwd", &defines, &sizes, &args);
}

pub fn backward(cuda: &Cuda, drow: &mut GradSlot, dcol: &mut GradSlot, dy: &Tensor, maps: &Tensor) {
    let (channels, defines) = (dy.last_axis(), [element("T", dy.dtype())]);
    let places = |slot: &GradSlot| match slot {
        GradSlot::Write(d) | GradSlot::Accumulate(d) => d.shape()[0],
        GradSlot::Skip => 0,
    };
    let (rows, columns) = (places(drow), places(dcol));
    let ([drow, accumulate_drow], [dcol, accumulate_dcol]) = (drow.args(), dcol.args());
    let sizes = [("places", rows.max(columns)), ("channels", channels)];
    let args =
        args![drow, accumulate_drow, dcol, accumulate_dcol, dy, maps, maps.rows(), rows, columns, channels / 2];
    cuda.launch(&POSITION_LEARNED, "position_learned_bwd", &defines, &sizes, &args);
}
