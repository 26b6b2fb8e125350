//! Device memory: allocated at once or in a stream's order, and what is known of a pointer.

use std::ffi::{c_int, c_uint, c_ulonglong, c_void};
use std::ptr::without_provenance_mut;

use cudarc::driver::sys::{
    CUdevice, CUdeviceptr, CUmemPool_attribute, CUmemoryPool, CUmemorytype, CUpointer_attribute,
    CUresult::{self, *},
    CUstream, cuuint64_t,
};

use super::books::finding;
use super::order::Label;
use super::{Answer, Driver, Out, call, call_bound, put, refuse};
use crate::findings::Kind;
use crate::memory::Work;
use crate::options::options;

/// The handle of the one pool.
const POOL: usize = 0x90_0001;

impl Driver {
    fn allocate(&mut self, bytes: usize, call: &'static str, made_by: u32) -> Answer<CUdeviceptr> {
        let free = options().memory.saturating_sub(self.books.live_bytes());
        if bytes as u64 > free {
            return refuse(CUDA_ERROR_OUT_OF_MEMORY, &format!("{call}: {bytes} bytes, {free} are free"));
        }
        let address = self.memory.allocate(bytes as u64, "");
        self.books.allocated(address, bytes as u64, call, made_by);
        Ok(address)
    }

    /// Checks that memory may be freed: its first byte, of the program's, and not freed before.
    fn freeable(&mut self, address: CUdeviceptr, call: &'static str) -> Answer {
        let (allocation, offset) = self.find(address, 0, call)?;
        if offset != 0 || !allocation.name.is_empty() {
            let what = if allocation.name.is_empty() { "an allocation" } else { &allocation.name };
            return refuse(CUDA_ERROR_INVALID_VALUE, &format!("{call}: offset {offset} of {what}"));
        }
        Ok(())
    }

    fn release(&mut self, address: CUdeviceptr) {
        // It was found a moment ago.
        let _ = self.memory.free(address);
    }

    /// Work of a call on a stream that must not be captured.
    fn stream_ordered(&mut self, stream: CUstream, call: &'static str) -> Answer<Work> {
        let stream = self.stream(stream)?;
        if let Some(joined) = self.joined(stream)? {
            self.invalidate(joined.capture);
            let message =
                "allocations that belong to a graph are not modelled: allocate before the capture".to_owned();
            return Err(self.books.found(finding(Kind::Unsupported, call, message)));
        }
        self.start(stream, Label::Call(call))
    }

    fn allocate_async(&mut self, bytes: usize, stream: CUstream, call: &'static str) -> Answer<CUdeviceptr> {
        let work = self.stream_ordered(stream, call)?;
        self.allocate(bytes, call, work.id)
    }

    fn pool_attribute(&self, attribute: CUmemPool_attribute) -> u64 {
        use cudarc::driver::sys::CUmemPool_attribute::*;
        match attribute {
            CU_MEMPOOL_ATTR_REUSE_FOLLOW_EVENT_DEPENDENCIES
            | CU_MEMPOOL_ATTR_REUSE_ALLOW_OPPORTUNISTIC
            | CU_MEMPOOL_ATTR_REUSE_ALLOW_INTERNAL_DEPENDENCIES => 1,
            CU_MEMPOOL_ATTR_RELEASE_THRESHOLD => 0,
            CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT | CU_MEMPOOL_ATTR_USED_MEM_CURRENT => self.books.live_bytes(),
            CU_MEMPOOL_ATTR_RESERVED_MEM_HIGH | CU_MEMPOOL_ATTR_USED_MEM_HIGH => self.books.allocations.peak_bytes,
        }
    }
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemGetInfo_v2(free: Out<'_, usize>, total: Out<'_, usize>) -> CUresult {
    call_bound("cuMemGetInfo", |driver| {
        put(free, options().memory.saturating_sub(driver.books.live_bytes()) as usize)?;
        put(total, options().memory as usize)
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemAlloc_v2(out: Out<'_, CUdeviceptr>, bytes: usize) -> CUresult {
    call_bound("cuMemAlloc", |driver| {
        if bytes == 0 {
            return Err(CUDA_ERROR_INVALID_VALUE);
        }
        driver.host_waits("cuMemAlloc", None)?;
        put(out, driver.allocate(bytes, "cuMemAlloc", 0)?)
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemFree_v2(address: CUdeviceptr) -> CUresult {
    call_bound("cuMemFree", |driver| {
        if address == 0 {
            return Ok(());
        }
        driver.host_waits("cuMemFree", None)?;
        driver.streams.host = driver.books.timeline.now();
        driver.freeable(address, "cuMemFree")?;
        driver.books.freed(address);
        driver.release(address);
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemAllocAsync(out: Out<'_, CUdeviceptr>, bytes: usize, stream: CUstream) -> CUresult {
    call_bound("cuMemAllocAsync", |driver| put(out, driver.allocate_async(bytes, stream, "cuMemAllocAsync")?))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemAllocFromPoolAsync(
    out: Out<'_, CUdeviceptr>,
    bytes: usize,
    pool: CUmemoryPool,
    stream: CUstream,
) -> CUresult {
    call_bound("cuMemAllocFromPoolAsync", |driver| {
        the_pool(pool)?;
        put(out, driver.allocate_async(bytes, stream, "cuMemAllocFromPoolAsync")?)
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemFreeAsync(address: CUdeviceptr, stream: CUstream) -> CUresult {
    call_bound("cuMemFreeAsync", |driver| {
        let work = driver.stream_ordered(stream, "cuMemFreeAsync")?;
        driver.freeable(address, "cuMemFreeAsync")?;
        let answer = driver.books.freed_by(address, &work, "cuMemFreeAsync");
        driver.release(address);
        answer
    })
}

fn the_pool(pool: CUmemoryPool) -> Answer {
    if pool.addr() == POOL { Ok(()) } else { Err(CUDA_ERROR_INVALID_VALUE) }
}

#[unsafe(no_mangle)]
pub extern "C" fn cuDeviceGetDefaultMemPool(out: Out<'_, CUmemoryPool>, _device: CUdevice) -> CUresult {
    call("cuDeviceGetDefaultMemPool", |_| put(out, without_provenance_mut(POOL)))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuDeviceGetMemPool(out: Out<'_, CUmemoryPool>, _device: CUdevice) -> CUresult {
    call("cuDeviceGetMemPool", |_| put(out, without_provenance_mut(POOL)))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuDeviceSetMemPool(_device: CUdevice, pool: CUmemoryPool) -> CUresult {
    call("cuDeviceSetMemPool", |_| the_pool(pool))
}

/// # Safety
/// `value` has room for an `int` (the first three attributes) or a `cuuint64_t`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuMemPoolGetAttribute(
    pool: CUmemoryPool,
    attribute: CUmemPool_attribute,
    value: *mut c_void,
) -> CUresult {
    call("cuMemPoolGetAttribute", |driver| {
        the_pool(pool)?;
        let now = driver.pool_attribute(attribute);
        if attribute as u32 <= CUmemPool_attribute::CU_MEMPOOL_ATTR_REUSE_ALLOW_INTERNAL_DEPENDENCIES as u32 {
            // SAFETY: the caller has room for an `int`.
            unsafe { value.cast::<c_int>().write(now as c_int) };
        } else {
            // SAFETY: the caller has room for a `cuuint64_t`.
            unsafe { value.cast::<cuuint64_t>().write(now) };
        }
        Ok(())
    })
}

/// Accepted without effect: what a pool keeps and reuses changes nothing that a program can see here.
#[unsafe(no_mangle)]
pub extern "C" fn cuMemPoolSetAttribute(
    pool: CUmemoryPool,
    _attribute: CUmemPool_attribute,
    _value: *mut c_void,
) -> CUresult {
    call("cuMemPoolSetAttribute", |_| the_pool(pool))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemPoolTrimTo(pool: CUmemoryPool, _keep: usize) -> CUresult {
    call("cuMemPoolTrimTo", |_| the_pool(pool))
}

/// # Safety
/// `out` has room for the attribute's value.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuPointerGetAttribute(
    out: *mut c_void,
    attribute: CUpointer_attribute,
    address: CUdeviceptr,
) -> CUresult {
    use CUpointer_attribute::*;
    call_bound("cuPointerGetAttribute", |driver| {
        let pinned = driver.host.contains(address as usize, 1);
        let device =
            driver.memory.find(address, 0).ok().map(|(allocation, _)| (allocation.address, allocation.bytes));
        if device.is_none() && !pinned {
            return Err(CUDA_ERROR_INVALID_VALUE);
        }
        let (start, bytes) = device.unwrap_or((address, 0));
        let (value, size): (u64, usize) = match attribute {
            CU_POINTER_ATTRIBUTE_CONTEXT => (driver.contexts.current()? as u64, 8),
            CU_POINTER_ATTRIBUTE_MEMORY_TYPE if pinned => (CUmemorytype::CU_MEMORYTYPE_HOST as u64, 4),
            CU_POINTER_ATTRIBUTE_MEMORY_TYPE => (CUmemorytype::CU_MEMORYTYPE_DEVICE as u64, 4),
            CU_POINTER_ATTRIBUTE_DEVICE_POINTER if !pinned => (address, size_of::<c_ulonglong>()),
            CU_POINTER_ATTRIBUTE_HOST_POINTER if pinned => (address, 8),
            CU_POINTER_ATTRIBUTE_IS_MANAGED => (0, 1),
            CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL => (0, size_of::<c_uint>()),
            CU_POINTER_ATTRIBUTE_RANGE_START_ADDR => (start, 8),
            CU_POINTER_ATTRIBUTE_RANGE_SIZE => (bytes, 8),
            _ => return Err(CUDA_ERROR_INVALID_VALUE),
        };
        // SAFETY: the caller has room for the attribute's value, whose size this is.
        unsafe { out.cast::<u8>().copy_from_nonoverlapping(value.to_ne_bytes().as_ptr(), size) };
        Ok(())
    })
}
