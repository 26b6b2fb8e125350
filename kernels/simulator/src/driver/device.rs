//! The one device, and what it claims to be.

use std::ffi::{c_char, c_int};

use cudarc::driver::sys::{
    CUdevice,
    CUdevice_attribute::{self, *},
    CUresult::{self, CUDA_ERROR_INVALID_DEVICE, CUDA_ERROR_INVALID_VALUE},
    CUuuid,
};

use super::{Answer, Out, call, put};
use crate::options::options;

/// Shared memory that a block may use without asking.
pub const SHARED: u32 = 48 << 10;
/// Shared memory of every block that the system keeps.
pub const RESERVED_SHARED: u32 = 1 << 10;
/// Threads that a multiprocessor holds.
pub const THREADS: u32 = 2048;
/// Blocks that a multiprocessor holds.
pub const BLOCKS: u32 = 32;
/// Multiprocessors: few, so that grids have more blocks than run at once.
pub const MULTIPROCESSORS: u32 = 2;

/// Shared memory of a multiprocessor.
pub fn shared_per_multiprocessor() -> u32 {
    if options().compute_capability < 90 { 164 << 10 } else { 228 << 10 }
}

/// The most shared memory that a block may ask for.
pub fn shared_opt_in() -> u32 {
    shared_per_multiprocessor() - RESERVED_SHARED
}

/// Anything that is not listed is absent: 0.
fn attribute(attribute: CUdevice_attribute) -> u32 {
    let l2 = if options().compute_capability < 90 { 40 << 20 } else { 50 << 20 };
    match attribute {
        CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR => options().compute_capability / 10,
        CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR => options().compute_capability % 10,
        CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT => MULTIPROCESSORS,
        CU_DEVICE_ATTRIBUTE_WARP_SIZE => 32,
        CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_BLOCK
        | CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_X
        | CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_Y => 1024,
        CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_Z => 64,
        CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_X | CU_DEVICE_ATTRIBUTE_MAX_PITCH => i32::MAX as u32,
        CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_Y | CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_Z => u16::MAX.into(),
        CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_MULTIPROCESSOR => THREADS,
        CU_DEVICE_ATTRIBUTE_MAX_BLOCKS_PER_MULTIPROCESSOR => BLOCKS,
        CU_DEVICE_ATTRIBUTE_MAX_REGISTERS_PER_BLOCK | CU_DEVICE_ATTRIBUTE_MAX_REGISTERS_PER_MULTIPROCESSOR => {
            64 << 10
        }
        CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK => SHARED,
        CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN => shared_opt_in(),
        CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_MULTIPROCESSOR => shared_per_multiprocessor(),
        CU_DEVICE_ATTRIBUTE_RESERVED_SHARED_MEMORY_PER_BLOCK => RESERVED_SHARED,
        CU_DEVICE_ATTRIBUTE_TOTAL_CONSTANT_MEMORY => 64 << 10,
        CU_DEVICE_ATTRIBUTE_L2_CACHE_SIZE => l2,
        // In kHz and bits: those of an H100.
        CU_DEVICE_ATTRIBUTE_CLOCK_RATE => 1_980_000,
        CU_DEVICE_ATTRIBUTE_MEMORY_CLOCK_RATE => 2_619_000,
        CU_DEVICE_ATTRIBUTE_GLOBAL_MEMORY_BUS_WIDTH => 5120,
        CU_DEVICE_ATTRIBUTE_TEXTURE_ALIGNMENT => 512,
        CU_DEVICE_ATTRIBUTE_ASYNC_ENGINE_COUNT => 3,
        CU_DEVICE_ATTRIBUTE_CONCURRENT_KERNELS
        | CU_DEVICE_ATTRIBUTE_COOPERATIVE_LAUNCH
        | CU_DEVICE_ATTRIBUTE_GPU_OVERLAP
        | CU_DEVICE_ATTRIBUTE_HOST_REGISTER_SUPPORTED
        | CU_DEVICE_ATTRIBUTE_MEMORY_POOLS_SUPPORTED
        | CU_DEVICE_ATTRIBUTE_STREAM_PRIORITIES_SUPPORTED
        | CU_DEVICE_ATTRIBUTE_UNIFIED_ADDRESSING => 1,
        _ => 0,
    }
}

/// Refuses all devices but the one.
pub fn check(device: CUdevice) -> Answer {
    if device == 0 { Ok(()) } else { Err(CUDA_ERROR_INVALID_DEVICE) }
}

#[unsafe(no_mangle)]
pub extern "C" fn cuDeviceGetCount(out: Out<'_, c_int>) -> CUresult {
    call("cuDeviceGetCount", |_| put(out, 1))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuDeviceGet(out: Out<'_, CUdevice>, ordinal: c_int) -> CUresult {
    call("cuDeviceGet", |_| {
        check(ordinal)?;
        put(out, ordinal)
    })
}

/// # Safety
/// `out` has room for `bytes` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuDeviceGetName(out: *mut c_char, bytes: c_int, device: CUdevice) -> CUresult {
    call("cuDeviceGetName", |_| {
        check(device)?;
        let room =
            usize::try_from(bytes).ok().and_then(|bytes| bytes.checked_sub(1)).ok_or(CUDA_ERROR_INVALID_VALUE)?;
        let name = format!("mdetr simulator (sm_{})", options().compute_capability);
        let bytes = name.len().min(room);
        // SAFETY: the caller has room for one byte more.
        unsafe {
            out.cast::<u8>().copy_from_nonoverlapping(name.as_ptr(), bytes);
            out.add(bytes).write(0);
        }
        Ok(())
    })
}

fn uuid(out: Out<'_, CUuuid>, device: CUdevice) -> Answer {
    check(device)?;
    put(out, CUuuid { bytes: b"mdetr-simulator0".map(|byte| byte as c_char) })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuDeviceGetUuid(out: Out<'_, CUuuid>, device: CUdevice) -> CUresult {
    call("cuDeviceGetUuid", |_| uuid(out, device))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuDeviceGetUuid_v2(out: Out<'_, CUuuid>, device: CUdevice) -> CUresult {
    call("cuDeviceGetUuid", |_| uuid(out, device))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuDeviceTotalMem_v2(out: Out<'_, usize>, device: CUdevice) -> CUresult {
    call("cuDeviceTotalMem", |_| {
        check(device)?;
        put(out, options().memory as usize)
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuDeviceGetAttribute(out: Out<'_, c_int>, of: CUdevice_attribute, device: CUdevice) -> CUresult {
    call("cuDeviceGetAttribute", |_| {
        check(device)?;
        put(out, attribute(of) as c_int)
    })
}
