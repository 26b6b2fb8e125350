//! Where a command computes.

use anyhow::Result;
use mdetr_kernels::Device;
use mdetr_kernels::cuda_memory::Alloc;

#[derive(clap::Args)]
pub struct Args {
    /// Where to compute: cpu, cuda, cuda:N (a GPU by its number), or auto (a GPU if there is one).
    #[arg(long, value_name = "DEVICE", default_value = "auto")]
    device: String,
    #[command(flatten)]
    memory: Memory,
}

/// How a device's memory is had.
#[derive(clap::Args)]
pub struct Memory {
    /// Memory of a GPU: arena (pieces of what is kept) or each (an allocation a tensor, for checkers).
    #[arg(long, value_name = "HOW", default_value = "arena")]
    alloc: Alloc,
}

impl Args {
    /// Runs a command on the device, and gives back what the device keeps.
    pub fn run<R>(&self, command: impl FnOnce(Device) -> Result<R>) -> Result<R> {
        self.memory.run_on(&self.device, command)
    }
}

impl Memory {
    /// Runs a command on a device by its name, and gives back what the device keeps.
    pub fn run_on<R>(&self, device: &str, command: impl FnOnce(Device) -> Result<R>) -> Result<R> {
        let device = mdetr_train::device::open(device, self.alloc)?;
        let result = command(device);
        if let Some(cuda) = device.cuda() {
            cuda.release();
            // A command that went on without its device has no result.
            return result.and_then(|r| cuda.check().map(|()| r));
        }
        result
    }
}
