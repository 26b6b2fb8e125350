//! Kernels: their attributes, and how many of their blocks run at once.

use std::ffi::{c_int, c_uint};
use std::sync::Arc;

use cudarc::driver::sys::{
    CUdevice, CUfunc_cache, CUfunction,
    CUfunction_attribute::{self, *},
    CUkernel, CUoccupancyB2DSize,
    CUresult::{self, CUDA_ERROR_INVALID_VALUE},
};

use super::device::{BLOCKS, MULTIPROCESSORS, RESERVED_SHARED, SHARED, THREADS};
use super::{Answer, Driver, Out, call_bound, device, put, refuse};
use crate::options::options;
use crate::vm::program::Kernel;

/// A kernel of a module.
pub struct Function {
    /// Its module.
    pub module: usize,
    /// What the program says of it.
    pub kernel: Kernel,
    /// Its name, shared with all launches.
    pub name: Arc<str>,
    /// The most dynamic shared memory that a launch may use.
    pub dynamic_shared: u32,
}

impl Function {
    /// As it is after loading.
    pub fn new(module: usize, kernel: Kernel) -> Self {
        let dynamic_shared = SHARED.saturating_sub(kernel.shared as u32);
        Self { module, name: kernel.name.as_str().into(), kernel, dynamic_shared }
    }

    /// The most threads of a block.
    pub fn max_threads(&self) -> u32 {
        self.kernel.max_threads.map_or(1024, |bounds| bounds.iter().product())
    }

    /// Blocks that a multiprocessor holds. Registers are not counted: PTX does not say how many there are.
    pub fn blocks_per_multiprocessor(&self, threads: u32, dynamic_shared: u64) -> u32 {
        let warps = threads.max(1).div_ceil(32);
        let shared = (self.kernel.shared + dynamic_shared).next_multiple_of(128) + u64::from(RESERVED_SHARED);
        let by_shared = u64::from(device::shared_per_multiprocessor()) / shared;
        BLOCKS.min(THREADS / 32 / warps).min(by_shared as u32)
    }

    fn attribute(&self, attribute: CUfunction_attribute) -> Answer<u64> {
        Ok(match attribute {
            CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK => self.max_threads().into(),
            CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES => self.kernel.shared,
            CU_FUNC_ATTRIBUTE_LOCAL_SIZE_BYTES => self.kernel.local,
            CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES => self.dynamic_shared.into(),
            CU_FUNC_ATTRIBUTE_PTX_VERSION | CU_FUNC_ATTRIBUTE_BINARY_VERSION => options().compute_capability.into(),
            CU_FUNC_ATTRIBUTE_MAX => return Err(CUDA_ERROR_INVALID_VALUE),
            _ => 0,
        })
    }

    fn set_attribute(&mut self, attribute: CUfunction_attribute, value: c_int) -> Answer {
        match attribute {
            CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES => {
                let most = i64::from(device::shared_opt_in()) - self.kernel.shared as i64;
                if !(0..=most).contains(&value.into()) {
                    let message = format!("{}: {value} bytes of dynamic shared memory, at most {most}", self.name);
                    return refuse(CUDA_ERROR_INVALID_VALUE, &message);
                }
                self.dynamic_shared = value as u32;
                Ok(())
            }
            CU_FUNC_ATTRIBUTE_PREFERRED_SHARED_MEMORY_CARVEOUT => Ok(()),
            _ => Err(CUDA_ERROR_INVALID_VALUE),
        }
    }
}

impl Driver {
    fn occupancy(&self, function: CUfunction, threads: c_int, dynamic_shared: usize) -> Answer<c_int> {
        let threads = u32::try_from(threads).map_err(|_| CUDA_ERROR_INVALID_VALUE)?;
        Ok(self.functions.get(function.addr())?.blocks_per_multiprocessor(threads, dynamic_shared as u64) as c_int)
    }

    /// The block size, up to `limit`, with which most threads run at once, and a grid that fills the device.
    fn best_block(
        &self,
        (grid, block): (Out<'_, c_int>, Out<'_, c_int>),
        function: CUfunction,
        shared_of: CUoccupancyB2DSize,
        dynamic_shared: usize,
        limit: c_int,
    ) -> Answer {
        let function = self.functions.get(function.addr())?;
        let most = function.max_threads().min(if limit > 0 { limit as u32 } else { 1024 });
        let blocks = |threads: u32| {
            // SAFETY: the caller passes a function that takes a block size.
            let shared = shared_of.map_or(dynamic_shared, |shared_of| unsafe { shared_of(threads as c_int) });
            function.blocks_per_multiprocessor(threads, shared as u64)
        };
        let sizes = (1..=most.div_ceil(32)).map(|warps| most.min(32 * warps));
        let best = sizes.max_by_key(|&threads| threads * blocks(threads)).unwrap_or(most);
        put(grid, (blocks(best) * MULTIPROCESSORS) as c_int)?;
        put(block, best as c_int)
    }
}

#[unsafe(no_mangle)]
pub extern "C" fn cuFuncGetAttribute(
    out: Out<'_, c_int>,
    attribute: CUfunction_attribute,
    function: CUfunction,
) -> CUresult {
    call_bound("cuFuncGetAttribute", |driver| {
        put(out, driver.functions.get(function.addr())?.attribute(attribute)? as c_int)
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuFuncSetAttribute(
    function: CUfunction,
    attribute: CUfunction_attribute,
    value: c_int,
) -> CUresult {
    call_bound("cuFuncSetAttribute", |driver| {
        driver.functions.get_mut(function.addr())?.set_attribute(attribute, value)
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuKernelGetAttribute(
    out: Out<'_, c_int>,
    attribute: CUfunction_attribute,
    kernel: CUkernel,
    _device: CUdevice,
) -> CUresult {
    call_bound("cuKernelGetAttribute", |driver| {
        put(out, driver.functions.get(kernel.addr())?.attribute(attribute)? as c_int)
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuKernelSetAttribute(
    attribute: CUfunction_attribute,
    value: c_int,
    kernel: CUkernel,
    _device: CUdevice,
) -> CUresult {
    call_bound("cuKernelSetAttribute", |driver| {
        driver.functions.get_mut(kernel.addr())?.set_attribute(attribute, value)
    })
}

/// A preference without effect.
#[unsafe(no_mangle)]
pub extern "C" fn cuFuncSetCacheConfig(function: CUfunction, _cache: CUfunc_cache) -> CUresult {
    call_bound("cuFuncSetCacheConfig", |driver| driver.functions.get(function.addr()).map(drop))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuOccupancyMaxActiveBlocksPerMultiprocessor(
    out: Out<'_, c_int>,
    function: CUfunction,
    threads: c_int,
    dynamic_shared: usize,
) -> CUresult {
    call_bound("cuOccupancyMaxActiveBlocksPerMultiprocessor", |driver| {
        put(out, driver.occupancy(function, threads, dynamic_shared)?)
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(
    out: Out<'_, c_int>,
    function: CUfunction,
    threads: c_int,
    dynamic_shared: usize,
    _flags: c_uint,
) -> CUresult {
    call_bound("cuOccupancyMaxActiveBlocksPerMultiprocessor", |driver| {
        put(out, driver.occupancy(function, threads, dynamic_shared)?)
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuOccupancyAvailableDynamicSMemPerBlock(
    out: Out<'_, usize>,
    function: CUfunction,
    blocks: c_int,
    _threads: c_int,
) -> CUresult {
    call_bound("cuOccupancyAvailableDynamicSMemPerBlock", |driver| {
        let blocks = u32::try_from(blocks).ok().filter(|&blocks| blocks > 0).ok_or(CUDA_ERROR_INVALID_VALUE)?;
        let used = driver.functions.get(function.addr())?.kernel.shared + u64::from(RESERVED_SHARED);
        let share = u64::from(device::shared_per_multiprocessor() / blocks).saturating_sub(used);
        put(out, share as usize)
    })
}

/// # Safety
/// `shared_of` may be called with block sizes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuOccupancyMaxPotentialBlockSize(
    grid: Out<'_, c_int>,
    block: Out<'_, c_int>,
    function: CUfunction,
    shared_of: CUoccupancyB2DSize,
    dynamic_shared: usize,
    limit: c_int,
) -> CUresult {
    call_bound("cuOccupancyMaxPotentialBlockSize", |driver| {
        driver.best_block((grid, block), function, shared_of, dynamic_shared, limit)
    })
}

/// # Safety
/// `shared_of` may be called with block sizes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuOccupancyMaxPotentialBlockSizeWithFlags(
    grid: Out<'_, c_int>,
    block: Out<'_, c_int>,
    function: CUfunction,
    shared_of: CUoccupancyB2DSize,
    dynamic_shared: usize,
    limit: c_int,
    _flags: c_uint,
) -> CUresult {
    call_bound("cuOccupancyMaxPotentialBlockSize", |driver| {
        driver.best_block((grid, block), function, shared_of, dynamic_shared, limit)
    })
}
