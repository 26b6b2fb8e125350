//! Launches of `mean_rows.cu`.

use crate::cuda::Cuda;
use crate::kernel_source::KernelSource;
use crate::launch::{element, row_chunks};
use crate::op::GradSlot;
use crate::{Tensor, args, kernel_source};

/// The op's `.cu` files.
pub const KERNELS: &[KernelSource] = &[MEAN_ROWS];

const MEAN_ROWS: KernelSource = kernel_source!("mean_rows");

pub fn forward(cuda: &Cuda, y: &mut Tensor, x: &Tensor, index: &Tensor, offsets: &Tensor) {
    let (m, c, dtype) = (y.rows(), y.last_axis(), y.dtype());
    let sizes = [("groups", m), ("outputs", m * c), ("chunks", row_chunks(c, dtype))];
    cuda.launch(&MEAN_ROWS, "mean_rows_fwd", &[element("T", dtype)], &sizes, &args![y, x, index, offsets, m, c]);
}

pub fn backward(cuda: &Cuda, dx: &mut GradSlot, dy: &Tensor, index: &Tensor, offsets: &Tensor) {
    let (GradSlot::Write(x) | GradSlot::Accumulate(x)) = dx else { return };
    let (n, m, c, dtype) = (x.shape()[0], dy.rows(), dy.last_axis(), dy.dtype());
    let [dx, accumulate] = dx.args();
    let sizes = [("rows", n), ("elements", n * c), ("chunks", row_chunks(c, dtype))];
    let args = args![dx, accumulate, dy, index, offsets, n, m, c];
    cuda.launch(&MEAN_ROWS, "mean_rows_bwd", &[element("T", dtype)], &sizes, &args);
}
