//! Launches of `l2_normalize.cu`.

use crate::cuda::Cuda;
use crate::kernel_source::KernelSource;
use crate::launch::element;
use crate::op::GradSlot;
use crate::{Tensor, args, kernel_source};

/// The op's `.cu` files.
pub const KERNELS: &[KernelSource] = &[L2_NORMALIZE];

const L2_NORMALIZE: KernelSource = kernel_source!("l2_normalize");

pub fn forward(cuda: &Cuda, y: &mut Tensor, norms: &mut Tensor, x: &Tensor) {
    let (n, c, defines) = (x.rows(), x.last_axis(), [element("T", x.dtype())]);
    cuda.launch(&L2_NORMALIZE, "l2_normalize_fwd", &defines, &[("rows", n)], &args![y, norms, x, n, c]);
}

pub fn backward(cuda: &Cuda, dx: &mut GradSlot, dy: &Tensor, y: &Tensor, norms: &Tensor) {
    if dx.is_needed() {
        let (n, c, defines) = (y.rows(), y.last_axis(), [element("T", y.dtype())]);
        let [dx, accumulate] = dx.args();
        let args = args![dx, accumulate, dy, y, norms, n, c];
        cuda.launch(&L2_NORMALIZE, "l2_normalize_bwd", &defines, &[("rows", n)], &args);
    }
}
