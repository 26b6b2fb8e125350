//! A launch: all blocks of a grid, over all cores.

use super::program::Program;
use crate::findings::Finding;
use crate::memory::{Memory, Work};
use crate::options::Options;

/// What `cuLaunchKernel` says.
#[derive(Debug)]
pub struct Launch<'a> {
    /// The module.
    pub program: &'a Program,
    /// Name of the kernel in it.
    pub kernel: &'a str,
    /// Blocks.
    pub grid: [u32; 3],
    /// Threads of a block.
    pub block: [u32; 3],
    /// Bytes of `.extern .shared`.
    pub dynamic_shared: u32,
    /// The arguments at the offsets of [`Kernel::parameters`](super::program::Kernel::parameters).
    pub arguments: &'a [u8],
}

/// What a launch did.
#[derive(Debug, Default)]
pub struct Outcome {
    /// What is wrong with it. The launch stops at the first fault that a GPU would stop at.
    pub findings: Vec<Finding>,
    /// Instructions by all threads.
    pub instructions: u64,
    /// What it printed.
    pub printed: String,
    /// Addresses of the allocations that it touched.
    pub touched: Vec<u64>,
}

/// Runs a launch to its end.
pub fn run(launch: &Launch<'_>, memory: &Memory, work: &Work, options: &Options) -> Outcome {
    let _ = (launch, memory, work, options);
    Outcome::default()
}
