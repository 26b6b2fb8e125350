//! The driver itself, and contexts: all of them share the device's memory and streams.

use std::cell::RefCell;
use std::collections::HashMap;
use std::ffi::{CString, c_char, c_int, c_uint, c_void};
use std::ptr::{null_mut, without_provenance_mut};
use std::sync::{Mutex, PoisonError};

use cudarc::driver::sys::{
    CUcontext, CUctxCreateParams, CUdevice, CUdriverProcAddressQueryResult, CUfunc_cache, CUlimit,
    CUresult::{self, *},
    CUuuid, cuuint64_t,
};

use super::{Answer, Out, call, call_bound, device, put};

/// The handle of the primary context.
const PRIMARY: usize = 0xc0_0001;

/// The version of CUDA that the driver claims: 13.0.
const VERSION: c_int = 13_000;

/// Contexts and their settings.
#[derive(Default)]
pub struct Contexts {
    /// How often the primary context is retained.
    retained: u32,
    /// The others that live.
    created: Vec<usize>,
    last: usize,
    flags: c_uint,
    limits: HashMap<u32, usize>,
    cache: Option<CUfunc_cache>,
}

thread_local! {
    /// Contexts pushed by this thread.
    static STACK: RefCell<Vec<usize>> = const { RefCell::new(Vec::new()) };
}

fn top() -> usize {
    STACK.with_borrow(|stack| stack.last().copied().unwrap_or(0))
}

impl Contexts {
    fn lives(&self, context: usize) -> Answer {
        let lives = if context == PRIMARY { self.retained > 0 } else { self.created.contains(&context) };
        if lives { Ok(()) } else { Err(CUDA_ERROR_INVALID_CONTEXT) }
    }

    /// The context that is bound to this thread.
    pub fn current(&self) -> Answer<usize> {
        let context = top();
        self.lives(context)?;
        Ok(context)
    }

    fn push(&self, context: usize) -> Answer {
        self.lives(context)?;
        STACK.with_borrow_mut(|stack| stack.push(context));
        Ok(())
    }

    fn create(&mut self, out: Out<'_, CUcontext>, flags: c_uint, device: CUdevice) -> Answer {
        device::check(device)?;
        self.last += 1;
        let context = PRIMARY + self.last;
        self.created.push(context);
        self.flags = flags;
        self.push(context)?;
        put(out, without_provenance_mut(context))
    }
}

#[unsafe(no_mangle)]
pub extern "C" fn cuInit(_flags: c_uint) -> CUresult {
    call("cuInit", |_| Ok(()))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuDriverGetVersion(out: Out<'_, c_int>) -> CUresult {
    call("cuDriverGetVersion", |_| put(out, VERSION))
}

/// A string that lives on, the same for the same text.
fn eternal(text: String) -> *const c_char {
    static STRINGS: Mutex<Vec<&'static CString>> = Mutex::new(Vec::new());
    let text = CString::new(text).unwrap_or_default();
    let mut strings = STRINGS.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(known) = strings.iter().find(|known| ***known == text) {
        return known.as_ptr();
    }
    let text: &'static CString = Box::leak(Box::new(text));
    strings.push(text);
    text.as_ptr()
}

#[unsafe(no_mangle)]
pub extern "C" fn cuGetErrorName(error: CUresult, out: Out<'_, *const c_char>) -> CUresult {
    call("cuGetErrorName", |_| put(out, eternal(format!("{error:?}"))))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuGetErrorString(error: CUresult, out: Out<'_, *const c_char>) -> CUresult {
    let name = format!("{error:?}");
    let text = name.trim_start_matches("CUDA_").trim_start_matches("ERROR_").to_lowercase().replace('_', " ");
    call("cuGetErrorString", |_| put(out, eternal(text)))
}

/// NVRTC asks for it, and does without.
#[unsafe(no_mangle)]
pub extern "C" fn cuGetExportTable(_out: Out<'_, *const c_void>, _id: *const CUuuid) -> CUresult {
    CUDA_ERROR_NOT_FOUND
}

/// The way in of programs that link the CUDA runtime, which are not served: cudarc asks the loader.
#[unsafe(no_mangle)]
pub extern "C" fn cuGetProcAddress_v2(
    _symbol: *const c_char,
    out: Out<'_, *mut c_void>,
    _version: c_int,
    _flags: cuuint64_t,
    status: Out<'_, CUdriverProcAddressQueryResult>,
) -> CUresult {
    if let Some(status) = status {
        status.write(CUdriverProcAddressQueryResult::CU_GET_PROC_ADDRESS_SYMBOL_NOT_FOUND);
    }
    cuGetProcAddress(_symbol, out, _version, _flags)
}

/// See [`cuGetProcAddress_v2`].
#[unsafe(no_mangle)]
pub extern "C" fn cuGetProcAddress(
    _symbol: *const c_char,
    out: Out<'_, *mut c_void>,
    _version: c_int,
    _flags: cuuint64_t,
) -> CUresult {
    if let Some(out) = out {
        out.write(null_mut());
    }
    CUDA_ERROR_NOT_FOUND
}

#[unsafe(no_mangle)]
pub extern "C" fn cuDevicePrimaryCtxRetain(out: Out<'_, CUcontext>, device: CUdevice) -> CUresult {
    call("cuDevicePrimaryCtxRetain", |driver| {
        device::check(device)?;
        driver.contexts.retained += 1;
        put(out, without_provenance_mut(PRIMARY))
    })
}

/// What is allocated when the last reference goes stays allocated, and is a leak at exit.
#[unsafe(no_mangle)]
pub extern "C" fn cuDevicePrimaryCtxRelease_v2(device: CUdevice) -> CUresult {
    call("cuDevicePrimaryCtxRelease", |driver| {
        device::check(device)?;
        driver.contexts.retained = driver.contexts.retained.checked_sub(1).ok_or(CUDA_ERROR_INVALID_CONTEXT)?;
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuDevicePrimaryCtxGetState(
    device: CUdevice,
    flags: Out<'_, c_uint>,
    active: Out<'_, c_int>,
) -> CUresult {
    call("cuDevicePrimaryCtxGetState", |driver| {
        device::check(device)?;
        put(flags, driver.contexts.flags)?;
        put(active, c_int::from(driver.contexts.retained > 0))
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuDevicePrimaryCtxSetFlags_v2(device: CUdevice, flags: c_uint) -> CUresult {
    call("cuDevicePrimaryCtxSetFlags", |driver| {
        device::check(device)?;
        driver.contexts.flags = flags;
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuCtxCreate_v4(
    out: Out<'_, CUcontext>,
    _parameters: *mut CUctxCreateParams,
    flags: c_uint,
    device: CUdevice,
) -> CUresult {
    call("cuCtxCreate", |driver| driver.contexts.create(out, flags, device))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuCtxDestroy_v2(context: CUcontext) -> CUresult {
    call("cuCtxDestroy", |driver| {
        let context = context.addr();
        driver.contexts.lives(context)?;
        driver.contexts.created.retain(|&other| other != context);
        STACK.with_borrow_mut(|stack| stack.pop_if(|top| *top == context));
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuCtxSetCurrent(context: CUcontext) -> CUresult {
    call("cuCtxSetCurrent", |driver| {
        STACK.with_borrow_mut(|stack| stack.pop());
        if context.is_null() { Ok(()) } else { driver.contexts.push(context.addr()) }
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuCtxGetCurrent(out: Out<'_, CUcontext>) -> CUresult {
    call("cuCtxGetCurrent", |_| put(out, without_provenance_mut(top())))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuCtxPushCurrent_v2(context: CUcontext) -> CUresult {
    call("cuCtxPushCurrent", |driver| driver.contexts.push(context.addr()))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuCtxPopCurrent_v2(out: Out<'_, CUcontext>) -> CUresult {
    call_bound("cuCtxPopCurrent", |_| {
        let context = STACK.with_borrow_mut(|stack| stack.pop()).ok_or(CUDA_ERROR_INVALID_CONTEXT)?;
        if let Some(out) = out {
            out.write(without_provenance_mut(context));
        }
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuCtxGetDevice(out: Out<'_, CUdevice>) -> CUresult {
    call_bound("cuCtxGetDevice", |_| put(out, 0))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuCtxGetFlags(out: Out<'_, c_uint>) -> CUresult {
    call_bound("cuCtxGetFlags", |driver| put(out, driver.contexts.flags))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuCtxSetFlags(flags: c_uint) -> CUresult {
    call_bound("cuCtxSetFlags", |driver| {
        driver.contexts.flags = flags;
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuCtxGetLimit(out: Out<'_, usize>, limit: CUlimit) -> CUresult {
    call_bound("cuCtxGetLimit", |driver| {
        let default = match limit {
            CUlimit::CU_LIMIT_STACK_SIZE => 1 << 10,
            CUlimit::CU_LIMIT_PRINTF_FIFO_SIZE => 1 << 20,
            CUlimit::CU_LIMIT_MALLOC_HEAP_SIZE => 8 << 20,
            _ => 0,
        };
        put(out, driver.contexts.limits.get(&(limit as u32)).copied().unwrap_or(default))
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuCtxSetLimit(limit: CUlimit, value: usize) -> CUresult {
    call_bound("cuCtxSetLimit", |driver| {
        driver.contexts.limits.insert(limit as u32, value);
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuCtxGetCacheConfig(out: Out<'_, CUfunc_cache>) -> CUresult {
    call_bound("cuCtxGetCacheConfig", |driver| {
        put(out, driver.contexts.cache.unwrap_or(CUfunc_cache::CU_FUNC_CACHE_PREFER_NONE))
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuCtxSetCacheConfig(cache: CUfunc_cache) -> CUresult {
    call_bound("cuCtxSetCacheConfig", |driver| {
        driver.contexts.cache = Some(cache);
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuCtxGetStreamPriorityRange(least: Out<'_, c_int>, greatest: Out<'_, c_int>) -> CUresult {
    call_bound("cuCtxGetStreamPriorityRange", |_| {
        put(least, 0)?;
        put(greatest, -5)
    })
}
