//! Launches of `cast.cu`.

use crate::cuda::Cuda;
use crate::kernel_source::KernelSource;
use crate::launch::{Arg, element};
use crate::op::GradSlot;
use crate::{DType, Tensor, args, kernel_source};

/// The op's `.cu` files.
pub const KERNELS: &[KernelSource] = &[CAST];

const CAST: KernelSource = kernel_source!(
    "cast",
    &[
        &["-DELEMENT_T=float", "-DELEMENT_U=f16"],
        &["-DELEMENT_T=float", "-DELEMENT_U=bf16"],
        &["-DELEMENT_T=f16", "-DELEMENT_U=float"],
        &["-DELEMENT_T=bf16", "-DELEMENT_U=float"],
    ]
);

/// y = x in the type of y.
pub fn forward(cuda: &Cuda, y: &mut Tensor, x: &Tensor) {
    launch(cuda, [Arg::from(&mut *y), Arg::from(false)], y.dtype(), x);
}

/// dx = dy in the type of dx.
pub fn backward(cuda: &Cuda, dx: &mut GradSlot, dy: &Tensor) {
    let (GradSlot::Write(to) | GradSlot::Accumulate(to)) = dx else { return };
    let dtype = to.dtype();
    launch(cuda, dx.args(), dtype, dy);
}

fn launch(cuda: &Cuda, [y, accumulate]: [Arg; 2], to: DType, x: &Tensor) {
    let (defines, n) = ([element("T", to), element("U", x.dtype())], x.len());
    cuda.launch(&CAST, "cast", &defines, &[("elements", n)], &args![y, accumulate, x, n]);
}
