//! Where tensors live.
//!
//! A device is allocation, copies, launches and waiting, plus the handles of the vendor libraries. It has no method
//! per op: an op looks at the device and calls its own implementation.

/// A device. The CPU executes at once on rayon's global pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Device {
    /// The host.
    Cpu,
}
