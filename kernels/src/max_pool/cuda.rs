//! Launches of `max_pool.cu`.

use super::Sizes;
use crate::cuda::Cuda;
use crate::kernel_source::KernelSource;
use crate::launch::{Arg, element};
use crate::op::GradSlot;
use crate::{Tensor, args, kernel_source};

/// The op's `.cu` files.
pub const KERNELS: &[KernelSource] = &[MAX_POOL];

const MAX_POOL: KernelSource = kernel_source!("max_pool");

impl Sizes {
    fn arg(&self) -> Arg {
        let s = self;
        Arg::ints([s.batch, s.h, s.w, s.c, s.oh, s.ow, s.pool.kernel, s.pool.stride, s.pool.padding])
    }
}

/// The chosen variant of a role, or where channels are not whole aligned vectors one that needs none; and threads a pixel.
fn variant(cuda: &Cuda, role: &str, x: u64, y: &Tensor, s: &Sizes) -> (&'static str, usize) {
    let lanes = 16 / y.dtype().size();
    let vectors = s.c.is_multiple_of(lanes) && [x, y.device_address()].iter().all(|a| a.is_multiple_of(16));
    match cuda.variant(&MAX_POOL, role) {
        "vectors" if !vectors => ("naive", s.c),
        variant => (variant, s.c / lanes),
    }
}

pub fn forward(cuda: &Cuda, y: &mut Tensor, places: &mut Tensor, x: &Tensor, s: &Sizes) {
    let (variant, chunks) = variant(cuda, "max_pool_fwd", x.device_address(), y, s);
    let sizes = [("elements", y.len()), ("vectors", s.batch * s.oh * s.ow * chunks)];
    let (defines, args) = ([element("T", x.dtype())], args![y, places, x, s.arg()]);
    cuda.launch_variant(&MAX_POOL, "max_pool_fwd", variant, &defines, &sizes, &args);
}

pub fn backward(cuda: &Cuda, dx: &mut GradSlot, dy: &Tensor, places: &Tensor, s: &Sizes) {
    let address = match dx {
        GradSlot::Skip => return,
        GradSlot::Write(t) | GradSlot::Accumulate(t) => t.device_address_mut(),
    };
    let (variant, chunks) = variant(cuda, "max_pool_bwd", address, dy, s);
    let pixels = s.batch * s.h * s.w;
    let sizes = [("elements", pixels * s.c), ("vectors", pixels * chunks)];
    let [dx, accumulate] = dx.args();
    let (defines, args) = ([element("T", dy.dtype())], args![dx, accumulate, dy, places, s.arg()]);
    cuda.launch_variant(&MAX_POOL, "max_pool_bwd", variant, &defines, &sizes, &args);
}
