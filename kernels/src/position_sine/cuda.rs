//! The launch of `position_sine.cu`.

use crate::cuda::Cuda;
use crate::kernel_source::{KernelSource, ONLY_F32};
use crate::segments::maps_on_device;
use crate::{Device, Tensor, args, kernel_source};

/// The op's `.cu` files.
pub const KERNELS: &[KernelSource] = &[POSITION_SINE];

const POSITION_SINE: KernelSource = kernel_source!("position_sine", ONLY_F32);

/// y (cells, C).
pub fn forward(cuda: &'static Cuda, y: &mut Tensor, sizes: &[[usize; 2]]) {
    let (pairs, c, maps) = (y.len() / 2, y.last_axis(), maps_on_device(sizes, Device::Cuda(cuda)));
    let args = args![y, &maps, sizes.len(), pairs, c];
    cuda.launch(&POSITION_SINE, "position_sine", &[], &[("pairs", pairs)], &args);
}
