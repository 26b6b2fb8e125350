//! Which device a command computes on.

use anyhow::{Context, Result, bail};
use mdetr_kernels::Device;
use mdetr_kernels::cuda::Cuda;
use mdetr_kernels::cuda_memory::Alloc;

/// The device called `name`: `cpu`, `cuda`, `cuda:1` (that GPU), or `auto` (the first GPU if there is one). Says on standard
/// error what `auto` found. Errors: no such device, and what is missing.
pub fn open(name: &str, alloc: Alloc) -> Result<Device> {
    match name {
        "cpu" => Ok(Device::Cpu),
        "auto" => Ok(automatic(alloc)),
        "cuda" => Ok(Device::Cuda(Cuda::open(0, alloc)?)),
        _ => {
            let Some(ordinal) = name.strip_prefix("cuda:") else {
                bail!("there is no device {name:?}: expected cpu, cuda, cuda:N or auto");
            };
            let ordinal =
                ordinal.parse().with_context(|| format!("the device {name:?} names no GPU by its number"))?;
            Ok(Device::Cuda(Cuda::open(ordinal, alloc)?))
        }
    }
}

fn automatic(alloc: Alloc) -> Device {
    match Cuda::is_driver_present().then(|| Cuda::open(0, alloc)) {
        None => Device::Cpu,
        Some(Ok(cuda)) => {
            eprintln!("computing on {} (--device cpu for the processor)", cuda.name());
            Device::Cuda(cuda)
        }
        Some(Err(error)) => {
            eprintln!("computing on the processor: {error:#}");
            Device::Cpu
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        assert_eq!(open("cpu", Alloc::Arena).unwrap(), Device::Cpu);
        for (name, words) in [("gpu", "expected cpu, cuda, cuda:N or auto"), ("cuda:x", "names no GPU")] {
            let error = open(name, Alloc::Arena).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
    }
}
