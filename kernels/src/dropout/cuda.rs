//! Launches of `dropout.cu`.

use crate::cuda::Cuda;
use crate::kernel_source::KernelSource;
use crate::launch::{Arg, element, vectors};
use crate::op::GradSlot;
use crate::{Tensor, args, kernel_source};

/// The op's `.cu` files.
pub const KERNELS: &[KernelSource] = &[DROPOUT];

const DROPOUT: KernelSource = kernel_source!("dropout");

pub fn forward(cuda: &Cuda, y: &mut Tensor, x: &Tensor, philox: Arg, p: f32) {
    launch(cuda, [Arg::from(y), Arg::from(false)], x, philox, p);
}

/// `p` is 0 where no mask was drawn.
pub fn backward(cuda: &Cuda, dx: &mut GradSlot, dy: &Tensor, philox: Arg, p: f32) {
    if dx.is_needed() {
        launch(cuda, dx.args(), dy, philox, p);
    }
}

fn launch(cuda: &Cuda, [y, accumulate]: [Arg; 2], x: &Tensor, philox: Arg, p: f32) {
    let n = x.len();
    let sizes = [("elements", n), ("vectors", vectors(n, x.dtype()))];
    let args = args![y, accumulate, x, philox, p, n];
    cuda.launch(&DROPOUT, "dropout", &[element("T", x.dtype())], &sizes, &args);
}
