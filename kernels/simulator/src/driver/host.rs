//! Page-locked memory of the host.

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::collections::BTreeMap;
use std::ffi::{c_uint, c_void};

use cudarc::driver::sys::CUresult::{self, *};

use super::{Answer, Out, call_bound, put};

const PAGE: usize = 4096;

/// Blocks of page-locked memory by address.
#[derive(Default)]
pub struct HostMemory(BTreeMap<usize, Block>);

struct Block {
    bytes: usize,
    /// Of what the driver allocated; nothing for what the program registered.
    layout: Option<Layout>,
    flags: c_uint,
}

impl HostMemory {
    /// Whether a range is page-locked.
    pub fn contains(&self, address: usize, bytes: usize) -> bool {
        let block = self.0.range(..=address).next_back();
        block.is_some_and(|(start, block)| (address - start).checked_add(bytes).is_some_and(|end| end <= block.bytes))
    }

    fn allocate(&mut self, bytes: usize, flags: c_uint) -> Answer<*mut c_void> {
        let layout = Layout::from_size_align(bytes, PAGE).map_err(|_| CUDA_ERROR_OUT_OF_MEMORY)?;
        if bytes == 0 {
            return Err(CUDA_ERROR_INVALID_VALUE);
        }
        // SAFETY: the size is not zero.
        let block = unsafe { alloc_zeroed(layout) };
        if block.is_null() {
            return Err(CUDA_ERROR_OUT_OF_MEMORY);
        }
        self.0.insert(block.expose_provenance(), Block { bytes, layout: Some(layout), flags });
        Ok(block.cast())
    }

    /// Forgets a block that the driver allocated, or one that the program registered.
    fn remove(&mut self, address: usize, allocated: bool) -> Answer<Block> {
        match self.0.get(&address) {
            None => Err(CUDA_ERROR_INVALID_VALUE),
            Some(block) if block.layout.is_some() != allocated => Err(CUDA_ERROR_INVALID_VALUE),
            Some(_) => self.0.remove(&address).ok_or(CUDA_ERROR_INVALID_VALUE),
        }
    }
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemHostAlloc(out: Out<'_, *mut c_void>, bytes: usize, flags: c_uint) -> CUresult {
    call_bound("cuMemHostAlloc", |driver| {
        driver.host_waits("cuMemHostAlloc", None)?;
        put(out, driver.host.allocate(bytes, flags)?)
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemAllocHost_v2(out: Out<'_, *mut c_void>, bytes: usize) -> CUresult {
    call_bound("cuMemAllocHost", |driver| {
        driver.host_waits("cuMemAllocHost", None)?;
        put(out, driver.host.allocate(bytes, 0)?)
    })
}

/// # Safety
/// Nothing may use the memory any more.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuMemFreeHost(address: *mut c_void) -> CUresult {
    call_bound("cuMemFreeHost", |driver| {
        driver.host_waits("cuMemFreeHost", None)?;
        let block = driver.host.remove(address.addr(), true)?;
        if let Some(layout) = block.layout {
            // SAFETY: allocated with that layout, and freed once: it was just forgotten.
            unsafe { dealloc(address.cast(), layout) };
        }
        driver.streams.host = driver.books.timeline.now();
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemHostGetFlags(out: Out<'_, c_uint>, address: *mut c_void) -> CUresult {
    call_bound("cuMemHostGetFlags", |driver| {
        put(out, driver.host.0.get(&address.addr()).ok_or(CUDA_ERROR_INVALID_VALUE)?.flags)
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemHostRegister_v2(address: *mut c_void, bytes: usize, flags: c_uint) -> CUresult {
    call_bound("cuMemHostRegister", |driver| {
        if address.is_null() || bytes == 0 {
            return Err(CUDA_ERROR_INVALID_VALUE);
        }
        if driver.host.contains(address.addr(), 1) {
            return Err(CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED);
        }
        driver.host.0.insert(address.addr(), Block { bytes, layout: None, flags });
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemHostUnregister(address: *mut c_void) -> CUresult {
    call_bound("cuMemHostUnregister", |driver| {
        driver.host.remove(address.addr(), false).map(drop).map_err(|_| CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED)
    })
}
