//! Copies and fills.

use std::ffi::{c_uchar, c_uint, c_ushort, c_void};
use std::ptr::{null_mut, with_exposed_provenance, with_exposed_provenance_mut};
use std::slice::{from_raw_parts, from_raw_parts_mut};

use cudarc::driver::sys::{
    CUcontext, CUdeviceptr,
    CUresult::{self, CUDA_ERROR_INVALID_VALUE},
    CUstream,
};

use super::books::finding;
use super::host::HostMemory;
use super::task::Task;
use super::{Answer, Driver, call_bound};
use crate::findings::Kind;
use crate::memory::{Access, Fault, Work};

/// One end of a copy.
#[derive(Clone, Copy, Debug)]
enum Place {
    Device(u64),
    /// Memory of the host whose address is exposed, and whether it was page-locked when the copy was asked for.
    Host(usize, bool),
}

/// A copy.
#[derive(Clone, Debug)]
pub struct Copy {
    /// What the caller called.
    pub call: &'static str,
    to: Place,
    from: Place,
    bytes: usize,
}

/// A fill.
#[derive(Clone, Debug)]
pub struct Fill {
    /// What the caller called.
    pub call: &'static str,
    address: u64,
    pattern: Vec<u8>,
    count: usize,
}

impl Copy {
    /// Whether its memory of the host, if any, was page-locked.
    fn was_pinned(&self) -> bool {
        [self.to, self.from].iter().all(|place| !matches!(place, Place::Host(_, false)))
    }

    /// Whether its memory of the host, if any, is page-locked.
    pub fn is_pinned(&self, host: &HostMemory) -> bool {
        [self.to, self.from].iter().all(|&place| match place {
            Place::Host(address, _) => host.contains(address, self.bytes),
            Place::Device(_) => true,
        })
    }
}

impl Driver {
    fn on_host(&self, address: *const c_void, bytes: usize) -> Place {
        let address = address.expose_provenance();
        Place::Host(address, self.host.contains(address, bytes))
    }

    /// The place that a unified address means.
    fn unified(&self, address: CUdeviceptr, bytes: usize) -> Place {
        match self.memory.find(address, bytes as u64) {
            Err(Fault::Unknown) => self.on_host(with_exposed_provenance(address as usize), bytes),
            _ => Place::Device(address),
        }
    }

    /// Does a copy.
    pub fn copy(&mut self, copy: &Copy, work: &Work) -> Answer {
        let &Copy { call, to, from, bytes } = copy;
        if copy.was_pinned() && !copy.is_pinned(&self.host) {
            let message = "its page-locked memory was freed since it was recorded".to_owned();
            return Err(self.books.found(finding(Kind::UseAfterFree, call, message)));
        }
        let read = match from {
            Place::Device(from) => Some(self.touch((from, bytes as u64), Access::Read, work, call)?),
            Place::Host(..) => None,
        };
        let write = match to {
            Place::Device(to) => Some(self.touch((to, bytes as u64), Access::Write, work, call)?),
            Place::Host(..) => None,
        };
        match (read, from, write, to) {
            (Some((source, from)), _, Some((target, to)), _) => {
                // What was not written stays so.
                let mut written = vec![0; bytes];
                source.written.copy_out(from, &mut written);
                target.data.copy_in(to, &source.read(from, bytes as u64));
                target.written.copy_in(to, &written);
            }
            (None, Place::Host(from, _), Some((target, to)), _) => {
                // SAFETY: the caller of the copy owns these bytes, until the stream has read them.
                target.write(to, unsafe { from_raw_parts(with_exposed_provenance(from), bytes) });
            }
            (Some((source, from)), _, None, Place::Host(to, _)) => {
                self.written(&source, (from, bytes as u64), call)?;
                // SAFETY: the caller of the copy owns these bytes, until the stream has written them.
                let to: &mut [u8] = unsafe { from_raw_parts_mut(with_exposed_provenance_mut(to), bytes) };
                source.data.copy_out(from, to);
            }
            (_, Place::Host(from, _), _, Place::Host(to, _)) => {
                let (from, to) = (with_exposed_provenance::<u8>(from), with_exposed_provenance_mut::<u8>(to));
                // SAFETY: the caller of the copy owns these bytes.
                unsafe { to.copy_from(from, bytes) };
            }
            _ => unreachable!("an end on the device was touched"),
        }
        Ok(())
    }

    /// Does a fill.
    pub fn fill(&mut self, fill: &Fill, work: &Work) -> Answer {
        let bytes = (fill.count as u64).saturating_mul(fill.pattern.len() as u64);
        let (target, offset) = self.touch((fill.address, bytes), Access::Write, work, fill.call)?;
        target.write(offset, &fill.pattern.repeat(fill.count));
        Ok(())
    }

    /// A copy on a stream. One into pageable memory returns when it is done.
    fn copy_async(&mut self, copy: Copy, stream: CUstream) -> Answer {
        if copy.bytes == 0 {
            return Ok(());
        }
        let handle = self.stream(stream)?;
        let waits = matches!(copy.to, Place::Host(_, false)) && self.joined(handle)?.is_none();
        if waits {
            self.host_waits(copy.call, None)?;
        }
        self.submit(stream, Task::Copy(copy))?;
        if waits { self.synchronize(handle) } else { Ok(()) }
    }

    /// A copy on the default stream. All but those inside of the device return when they are done.
    fn copy_sync(&mut self, copy: Copy) -> Answer {
        let waits = !matches!((copy.from, copy.to), (Place::Device(_), Place::Device(_)));
        match waits {
            true => self.host_waits(copy.call, None)?,
            false => self.allowed_in_capture(copy.call, None)?,
        }
        if copy.bytes > 0 {
            self.submit(null_mut(), Task::Copy(copy))?;
        }
        let default = self.stream(null_mut())?;
        if waits { self.synchronize(default) } else { Ok(()) }
    }

    fn fill_async(&mut self, fill: Fill, stream: CUstream) -> Answer {
        if !fill.address.is_multiple_of(fill.pattern.len() as u64) {
            return Err(CUDA_ERROR_INVALID_VALUE);
        }
        if fill.count > 0 { self.submit(stream, Task::Fill(fill)) } else { Ok(()) }
    }
}

/// # Safety
/// `from` holds `bytes` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuMemcpyHtoD_v2(to: CUdeviceptr, from: *const c_void, bytes: usize) -> CUresult {
    call_bound("cuMemcpyHtoD", |driver| {
        let from = driver.on_host(from, bytes);
        driver.copy_sync(Copy { call: "cuMemcpyHtoD", to: Place::Device(to), from, bytes })
    })
}

/// # Safety
/// `to` has room for `bytes` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuMemcpyDtoH_v2(to: *mut c_void, from: CUdeviceptr, bytes: usize) -> CUresult {
    call_bound("cuMemcpyDtoH", |driver| {
        let to = driver.on_host(to, bytes);
        driver.copy_sync(Copy { call: "cuMemcpyDtoH", to, from: Place::Device(from), bytes })
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemcpyDtoD_v2(to: CUdeviceptr, from: CUdeviceptr, bytes: usize) -> CUresult {
    call_bound("cuMemcpyDtoD", |driver| {
        driver.copy_sync(Copy { call: "cuMemcpyDtoD", to: Place::Device(to), from: Place::Device(from), bytes })
    })
}

/// # Safety
/// Addresses of the host have or hold `bytes` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuMemcpy(to: CUdeviceptr, from: CUdeviceptr, bytes: usize) -> CUresult {
    call_bound("cuMemcpy", |driver| {
        let (to, from) = (driver.unified(to, bytes), driver.unified(from, bytes));
        driver.copy_sync(Copy { call: "cuMemcpy", to, from, bytes })
    })
}

/// # Safety
/// Addresses of the host have or hold `bytes` bytes until the stream is done with them.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuMemcpyAsync(
    to: CUdeviceptr,
    from: CUdeviceptr,
    bytes: usize,
    stream: CUstream,
) -> CUresult {
    call_bound("cuMemcpyAsync", |driver| {
        let (to, from) = (driver.unified(to, bytes), driver.unified(from, bytes));
        driver.copy_async(Copy { call: "cuMemcpyAsync", to, from, bytes }, stream)
    })
}

/// # Safety
/// `from` holds `bytes` bytes until the stream has read them.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuMemcpyHtoDAsync_v2(
    to: CUdeviceptr,
    from: *const c_void,
    bytes: usize,
    stream: CUstream,
) -> CUresult {
    call_bound("cuMemcpyHtoDAsync", |driver| {
        let from = driver.on_host(from, bytes);
        driver.copy_async(Copy { call: "cuMemcpyHtoDAsync", to: Place::Device(to), from, bytes }, stream)
    })
}

/// # Safety
/// `to` has room for `bytes` bytes until the stream has written them.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuMemcpyDtoHAsync_v2(
    to: *mut c_void,
    from: CUdeviceptr,
    bytes: usize,
    stream: CUstream,
) -> CUresult {
    call_bound("cuMemcpyDtoHAsync", |driver| {
        let to = driver.on_host(to, bytes);
        driver.copy_async(Copy { call: "cuMemcpyDtoHAsync", to, from: Place::Device(from), bytes }, stream)
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemcpyDtoDAsync_v2(
    to: CUdeviceptr,
    from: CUdeviceptr,
    bytes: usize,
    stream: CUstream,
) -> CUresult {
    call_bound("cuMemcpyDtoDAsync", |driver| {
        let (to, from) = (Place::Device(to), Place::Device(from));
        driver.copy_async(Copy { call: "cuMemcpyDtoDAsync", to, from, bytes }, stream)
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemcpyPeer(
    to: CUdeviceptr,
    _to_context: CUcontext,
    from: CUdeviceptr,
    _from_context: CUcontext,
    bytes: usize,
) -> CUresult {
    call_bound("cuMemcpyPeer", |driver| {
        driver.copy_sync(Copy { call: "cuMemcpyPeer", to: Place::Device(to), from: Place::Device(from), bytes })
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemcpyPeerAsync(
    to: CUdeviceptr,
    _to_context: CUcontext,
    from: CUdeviceptr,
    _from_context: CUcontext,
    bytes: usize,
    stream: CUstream,
) -> CUresult {
    call_bound("cuMemcpyPeerAsync", |driver| {
        let (to, from) = (Place::Device(to), Place::Device(from));
        driver.copy_async(Copy { call: "cuMemcpyPeerAsync", to, from, bytes }, stream)
    })
}

/// The fills: on the default stream (the host does not wait) and on a given one.
macro_rules! fills {
    ($($sync:ident, $asynchronous:ident, $name:literal, $asynchronous_name:literal, $value:ty;)*) => {$(
        #[unsafe(no_mangle)]
        pub extern "C" fn $sync(address: CUdeviceptr, value: $value, count: usize) -> CUresult {
            call_bound($name, |driver| {
                driver.allowed_in_capture($name, None)?;
                let fill = Fill { call: $name, address, pattern: value.to_ne_bytes().to_vec(), count };
                driver.fill_async(fill, null_mut())
            })
        }

        #[unsafe(no_mangle)]
        pub extern "C" fn $asynchronous(
            address: CUdeviceptr,
            value: $value,
            count: usize,
            stream: CUstream,
        ) -> CUresult {
            call_bound($asynchronous_name, |driver| {
                let pattern = value.to_ne_bytes().to_vec();
                driver.fill_async(Fill { call: $asynchronous_name, address, pattern, count }, stream)
            })
        }
    )*};
}

fills! {
    cuMemsetD8_v2, cuMemsetD8Async, "cuMemsetD8", "cuMemsetD8Async", c_uchar;
    cuMemsetD16_v2, cuMemsetD16Async, "cuMemsetD16", "cuMemsetD16Async", c_ushort;
    cuMemsetD32_v2, cuMemsetD32Async, "cuMemsetD32", "cuMemsetD32Async", c_uint;
}
