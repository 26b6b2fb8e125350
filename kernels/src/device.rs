//! Where tensors live.
//!
//! A device is allocation, copies, launches and waiting, plus the handles of the vendor libraries. It has no method
//! per op: an op looks at the device and calls its own implementation.

use crate::cuda::Cuda;

/// A device. The CPU executes at once on rayon's global pool, a GPU in the order of its compute stream.
#[derive(Clone, Copy, Debug)]
pub enum Device {
    /// The host.
    Cpu,
    /// A GPU, opened by [`Cuda::open`].
    Cuda(&'static Cuda),
}

impl Device {
    /// The GPU, unless it is the host.
    pub fn cuda(self) -> Option<&'static Cuda> {
        match self {
            Device::Cpu => None,
            Device::Cuda(cuda) => Some(cuda),
        }
    }
}

impl PartialEq for Device {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Device::Cpu, Device::Cpu) => true,
            (Device::Cuda(a), Device::Cuda(b)) => std::ptr::eq(*a, *b),
            _ => false,
        }
    }
}

impl Eq for Device {}
