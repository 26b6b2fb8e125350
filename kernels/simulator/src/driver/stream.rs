//! Streams, and what the host and other streams know of their work.

use std::collections::HashMap;
use std::ffi::{c_int, c_uint, c_void};
use std::ptr::without_provenance_mut;
use std::thread::{self, ThreadId};

use cudarc::driver::sys::{
    CUcontext, CUevent, CUhostFn, CUresult,
    CUresult::{
        CUDA_ERROR_INVALID_HANDLE, CUDA_ERROR_INVALID_VALUE, CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED, CUDA_SUCCESS,
    },
    CUstream, CUstream_flags, CUstreamCallback,
};

use super::capture::Joined;
use super::event::Record;
use super::order::{Clock, Timeline};
use super::task::{Host, Task};
use super::{Answer, Driver, Out, Table, call, call_bound, put};

/// Handles 0 and 1.
const LEGACY: usize = 1;
/// Handle 2.
const PER_THREAD: usize = 2;

/// A stream.
pub struct Stream {
    /// Its lane in the [`Timeline`].
    pub lane: usize,
    /// Whether it and the legacy default stream wait for each other.
    pub blocking: bool,
    /// What its next piece of work comes after.
    pub clock: Clock,
    /// The capture that it is part of.
    pub capture: Option<Joined>,
    flags: c_uint,
    priority: c_int,
}

/// All streams, and the host.
pub struct Streams {
    table: Table<Stream>,
    legacy: usize,
    per_thread: HashMap<ThreadId, usize>,
    /// How many were made since the start.
    created: u32,
    /// What the host waited for: all later work comes after it.
    pub host: Clock,
}

impl Streams {
    /// The default streams.
    pub fn new(timeline: &mut Timeline) -> Self {
        let mut table = Table::new(0x50_0001);
        let legacy = table.insert(Stream::new(timeline.lane("the default stream".to_owned()), 0, 0));
        Self { table, legacy, per_thread: HashMap::new(), created: 0, host: Clock::default() }
    }

    /// A new stream; returns its handle.
    fn create(&mut self, timeline: &mut Timeline, flags: c_uint, priority: c_int) -> Answer<usize> {
        if flags > CUstream_flags::CU_STREAM_NON_BLOCKING as c_uint {
            return Err(CUDA_ERROR_INVALID_VALUE);
        }
        self.created += 1;
        let name = format!("stream {}", self.created);
        Ok(self.table.insert(Stream::new(timeline.lane(name), flags, priority)))
    }

    /// The table's handle for what a caller passes.
    pub fn resolve(&mut self, timeline: &mut Timeline, stream: CUstream) -> Answer<usize> {
        match stream.addr() {
            0 | LEGACY => Ok(self.legacy),
            PER_THREAD => {
                let thread = thread::current().id();
                if let Some(&handle) = self.per_thread.get(&thread) {
                    return Ok(handle);
                }
                let handle = self.create(timeline, 0, 0)?;
                self.per_thread.insert(thread, handle);
                Ok(handle)
            }
            handle => self.table.get(handle).map(|_| handle),
        }
    }

    /// A stream by the table's handle.
    pub fn get(&self, handle: usize) -> Answer<&Stream> {
        self.table.get(handle)
    }

    /// A stream by the table's handle.
    pub fn get_mut(&mut self, handle: usize) -> Answer<&mut Stream> {
        self.table.get_mut(handle)
    }

    /// All streams.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Stream> {
        self.table.entries.values_mut()
    }

    /// Whether it is the legacy default stream.
    pub fn is_legacy(&self, handle: usize) -> bool {
        handle == self.legacy
    }

    /// A blocking stream that is being captured: the legacy default stream may not be used then.
    pub fn captured_blocking(&self) -> Option<usize> {
        let captured = |stream: &&Stream| stream.blocking && stream.capture.is_some();
        self.table.entries.values().find(captured).and_then(|stream| stream.capture.as_ref()).map(|c| c.capture)
    }

    /// The stream, ready for its next operation: after what the host waited for, and after what the legacy default
    /// stream's rules imply.
    pub fn enter(&mut self, handle: usize) -> Answer<&mut Stream> {
        let mut before = self.host.clone();
        if self.is_legacy(handle) {
            let blocking = self.table.entries.values().filter(|stream| stream.blocking);
            blocking.for_each(|stream| before.join(&stream.clock));
        } else if self.table.get(handle)?.blocking {
            before.join(&self.table.get(self.legacy)?.clock);
        }
        let stream = self.table.get_mut(handle)?;
        stream.clock.join(&before);
        Ok(stream)
    }
}

impl Stream {
    fn new(lane: usize, flags: c_uint, priority: c_int) -> Self {
        let blocking = flags != CUstream_flags::CU_STREAM_NON_BLOCKING as c_uint;
        Self { lane, blocking, clock: Clock::default(), capture: None, flags, priority }
    }
}

impl Driver {
    /// The table's handle for a stream that a caller passes.
    pub fn stream(&mut self, stream: CUstream) -> Answer<usize> {
        self.streams.resolve(&mut self.books.timeline, stream)
    }

    /// Lets the host wait for a stream.
    pub fn synchronize(&mut self, stream: usize) -> Answer {
        let clock = self.streams.enter(stream)?.clock.clone();
        self.streams.host.join(&clock);
        Ok(())
    }

    fn create_stream(&mut self, out: Out<'_, CUstream>, flags: c_uint, priority: c_int) -> Answer {
        let handle = self.streams.create(&mut self.books.timeline, flags, priority)?;
        put(out, without_provenance_mut(handle))
    }
}

#[unsafe(no_mangle)]
pub extern "C" fn cuStreamCreate(out: Out<'_, CUstream>, flags: c_uint) -> CUresult {
    call_bound("cuStreamCreate", |driver| driver.create_stream(out, flags, 0))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuStreamCreateWithPriority(out: Out<'_, CUstream>, flags: c_uint, priority: c_int) -> CUresult {
    call_bound("cuStreamCreateWithPriority", |driver| driver.create_stream(out, flags, priority.clamp(-5, 0)))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuStreamDestroy_v2(stream: CUstream) -> CUresult {
    call_bound("cuStreamDestroy", |driver| {
        let stream = driver.stream(stream)?;
        if driver.streams.is_legacy(stream) || driver.streams.per_thread.values().any(|&own| own == stream) {
            return Err(CUDA_ERROR_INVALID_HANDLE);
        }
        if let Some(joined) = driver.streams.table.remove(stream)?.capture {
            driver.invalidate(joined.capture);
        }
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuStreamSynchronize(stream: CUstream) -> CUresult {
    call_bound("cuStreamSynchronize", |driver| {
        let stream = driver.stream(stream)?;
        driver.host_waits("cuStreamSynchronize", Some(stream))?;
        driver.synchronize(stream)
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuStreamQuery(stream: CUstream) -> CUresult {
    call_bound("cuStreamQuery", |driver| {
        let stream = driver.stream(stream)?;
        driver.allowed_in_capture("cuStreamQuery", Some(stream))?;
        driver.synchronize(stream)
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuStreamWaitEvent(stream: CUstream, event: CUevent, _flags: c_uint) -> CUresult {
    call_bound("cuStreamWaitEvent", |driver| {
        let stream = driver.stream(stream)?;
        match driver.events.get(event.addr())?.record.clone() {
            None => Ok(()),
            Some(Record::Captured(joined)) => driver.join_capture(stream, joined),
            Some(Record::Done { clock, .. }) => {
                driver.isolated(stream)?;
                driver.streams.enter(stream)?.clock.join(&clock);
                Ok(())
            }
        }
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuStreamGetFlags(stream: CUstream, out: Out<'_, c_uint>) -> CUresult {
    call_bound("cuStreamGetFlags", |driver| {
        let stream = driver.stream(stream)?;
        put(out, driver.streams.get(stream)?.flags)
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuStreamGetPriority(stream: CUstream, out: Out<'_, c_int>) -> CUresult {
    call_bound("cuStreamGetPriority", |driver| {
        let stream = driver.stream(stream)?;
        put(out, driver.streams.get(stream)?.priority)
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuStreamGetCtx(stream: CUstream, out: Out<'_, CUcontext>) -> CUresult {
    call_bound("cuStreamGetCtx", |driver| {
        driver.stream(stream)?;
        put(out, without_provenance_mut(driver.contexts.current()?))
    })
}

/// # Safety
/// `function` may be called with `data`, now and at every launch of a graph that records it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuLaunchHostFunc(stream: CUstream, function: CUhostFn, data: *mut c_void) -> CUresult {
    call_bound("cuLaunchHostFunc", |driver| {
        let function = function.ok_or(CUDA_ERROR_INVALID_VALUE)?;
        driver.submit(stream, Task::Host(Host { function, data: data.expose_provenance() }))
    })
}

/// # Safety
/// `callback` may be called with `data`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuStreamAddCallback(
    stream: CUstream,
    callback: CUstreamCallback,
    data: *mut c_void,
    _flags: c_uint,
) -> CUresult {
    call_bound("cuStreamAddCallback", |driver| {
        let callback = callback.ok_or(CUDA_ERROR_INVALID_VALUE)?;
        let handle = driver.stream(stream)?;
        if driver.joined(handle)?.is_some() {
            return Err(CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
        }
        // SAFETY: the caller of `cuStreamAddCallback` asks for this call.
        unsafe { callback(stream, CUDA_SUCCESS, data) };
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuCtxSynchronize() -> CUresult {
    call("cuCtxSynchronize", |driver| {
        driver.contexts.current()?;
        driver.host_waits("cuCtxSynchronize", None)?;
        driver.streams.host = driver.books.timeline.now();
        Ok(())
    })
}
