//! Launches of `residual_norm.cu`.

use crate::cuda::Cuda;
use crate::kernel_source::KernelSource;
use crate::launch::{Arg, element};
use crate::op::GradSlot;
use crate::{DType, Device, Tensor, args, kernel_source};

/// The op's `.cu` files.
pub const KERNELS: &[KernelSource] = &[RESIDUAL_NORM];

const RESIDUAL_NORM: KernelSource = kernel_source!("residual_norm");

/// Rows that a block sums down the columns.
const BLOCK_ROWS: usize = 32;

/// `p` is 0 where no mask is drawn.
#[expect(clippy::too_many_arguments, reason = "outputs, inputs, scalars, sizes, as in every kernel")]
pub fn forward(
    cuda: &Cuda,
    (z, z_pos, s, statistics): (&mut Tensor, Option<&mut Tensor>, &mut Tensor, &mut Tensor),
    x: &Tensor,
    r: &Tensor,
    w: &Tensor,
    b: &Tensor,
    positions: Option<&Tensor>,
    philox: Arg,
    p: f32,
    eps: f32,
) {
    let (n, c, q) = (x.rows(), x.last_axis(), positions.map_or(0, Tensor::rows));
    let args = args![z, z_pos, s, statistics, x, r, w, b, positions, philox, p, eps, n, c, q];
    cuda.launch(&RESIDUAL_NORM, "residual_norm_fwd", &[element("T", x.dtype())], &[("rows", n)], &args);
}

/// `p` is 0 where no mask was drawn.
#[expect(clippy::too_many_arguments, reason = "outputs, inputs, scalars, sizes, as in every kernel")]
pub fn backward(
    cuda: &'static Cuda,
    [dx, dr, dw, db]: [&mut GradSlot; 4],
    [dz, dz_pos]: [Option<&Tensor>; 2],
    s: &Tensor,
    w: &Tensor,
    statistics: &Tensor,
    philox: Arg,
    p: f32,
) {
    let (n, c) = (s.rows(), s.last_axis());
    let defines = [element("T", s.dtype())];
    if dx.is_needed() || dr.is_needed() {
        let ([dx, accumulate_dx], [dr, accumulate_dr]) = (dx.args(), dr.args());
        let args = args![dx, accumulate_dx, dr, accumulate_dr, dz, dz_pos, s, w, statistics, philox, p, n, c];
        cuda.launch(&RESIDUAL_NORM, "residual_norm_bwd_x", &defines, &[("rows", n)], &args);
    }
    if dw.is_needed() || db.is_needed() {
        let parts = n.div_ceil(BLOCK_ROWS);
        let mut partial = Tensor::empty(&[parts, 2, c], DType::F32, Device::Cuda(cuda));
        let sizes = [("rows", n), ("columns", c)];
        let args = args![&mut partial, dz, dz_pos, s, statistics, n, c];
        cuda.launch(&RESIDUAL_NORM, "residual_norm_bwd_columns", &defines, &sizes, &args);
        let ([dw, accumulate_dw], [db, accumulate_db]) = (dw.args(), db.args());
        let args = args![dw, accumulate_dw, db, accumulate_db, &partial, parts, c];
        cuda.launch(&RESIDUAL_NORM, "residual_norm_bwd_sum", &defines, &sizes, &args);
    }
}

pub fn backward_positions(cuda: &Cuda, dpositions: &mut GradSlot, dz_pos: &Tensor) {
    let (GradSlot::Write(positions) | GradSlot::Accumulate(positions)) = dpositions else { return };
    let (n, period) = (dz_pos.len(), positions.shape().iter().product());
    let [dpositions, accumulate] = dpositions.args();
    let (defines, sizes) = ([element("T", dz_pos.dtype())], [("elements", period)]);
    let args = args![dpositions, accumulate, dz_pos, n, period];
    cuda.launch(&RESIDUAL_NORM, "residual_norm_bwd_positions", &defines, &sizes, &args);
}
