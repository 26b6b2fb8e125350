//! Launches of `layer_norm.cu`.

use crate::cuda::Cuda;
use crate::kernel_source::KernelSource;
use crate::launch::element;
use crate::op::GradSlot;
use crate::{DType, Device, Tensor, args, kernel_source};

/// The op's `.cu` files.
pub const KERNELS: &[KernelSource] = &[LAYER_NORM];

const LAYER_NORM: KernelSource = kernel_source!("layer_norm");

/// Rows that a block sums down the columns.
const BLOCK_ROWS: usize = 32;

pub fn forward(cuda: &Cuda, y: &mut Tensor, statistics: &mut Tensor, x: &Tensor, w: &Tensor, b: &Tensor, eps: f32) {
    let (n, c) = (x.rows(), x.last_axis());
    let defines = [element("T", x.dtype())];
    cuda.launch(&LAYER_NORM, "layer_norm_fwd", &defines, &[("rows", n)], &args![y, statistics, x, w, b, eps, n, c]);
}

#[expect(clippy::too_many_arguments, reason = "outputs, inputs, scalars, sizes, as in every kernel")]
pub fn backward(
    cuda: &'static Cuda,
    dx: &mut GradSlot,
    dw: &mut GradSlot,
    db: &mut GradSlot,
    dy: &Tensor,
    x: &Tensor,
    w: &Tensor,
    statistics: &Tensor,
) {
    let (n, c) = (x.rows(), x.last_axis());
    let defines = [element("T", x.dtype())];
    if dx.is_needed() {
        let [dx, accumulate] = dx.args();
        let args = args![dx, accumulate, dy, x, w, statistics, n, c];
        cuda.launch(&LAYER_NORM, "layer_norm_bwd_x", &defines, &[("rows", n)], &args);
    }
    if dw.is_needed() || db.is_needed() {
        let parts = n.div_ceil(BLOCK_ROWS);
        let mut partial = Tensor::empty(&[parts, 2, c], DType::F32, Device::Cuda(cuda));
        let sizes = [("rows", n), ("columns", c)];
        let args = args![&mut partial, dy, x, statistics, n, c];
        cuda.launch(&LAYER_NORM, "layer_norm_bwd_columns", &defines, &sizes, &args);
        let ([dw, accumulate_dw], [db, accumulate_db]) = (dw.args(), db.args());
        let args = args![dw, accumulate_dw, db, accumulate_db, &partial, parts, c];
        cuda.launch(&LAYER_NORM, "layer_norm_bwd_sum", &defines, &sizes, &args);
    }
}
