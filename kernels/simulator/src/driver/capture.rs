//! Stream capture: work that becomes a graph's nodes instead of running.

use std::cell::Cell;
use std::ptr::{null_mut, without_provenance_mut};
use std::thread::{self, ThreadId};

use cudarc::driver::sys::{
    CUgraph,
    CUresult::{self, *},
    CUstream,
    CUstreamCaptureMode::{self, *},
    CUstreamCaptureStatus::{self, *},
    cuuint64_t,
};

use super::books::finding;
use super::graph::{Graph, Node};
use super::task::Task;
use super::{Answer, Driver, Out, call, call_bound, put, refuse};
use crate::findings::Kind;

/// A place in a capture: what comes next there depends on these nodes.
#[derive(Clone, Debug)]
pub struct Joined {
    /// Its handle.
    pub capture: usize,
    /// Indices of nodes.
    pub frontier: Vec<usize>,
}

/// A graph in the making.
pub struct Capture {
    nodes: Vec<Node>,
    /// The stream that began it.
    origin: usize,
    origin_name: String,
    thread: ThreadId,
    mode: CUstreamCaptureMode,
    invalid: bool,
}

thread_local! {
    static MODE: Cell<CUstreamCaptureMode> = const { Cell::new(CU_STREAM_CAPTURE_MODE_GLOBAL) };
}

impl Capture {
    /// Whether it forbids this thread calls that could wait for the device.
    fn forbids(&self) -> bool {
        let here = self.thread == thread::current().id() && self.mode != CU_STREAM_CAPTURE_MODE_RELAXED;
        match MODE.get() {
            CU_STREAM_CAPTURE_MODE_GLOBAL => here || self.mode == CU_STREAM_CAPTURE_MODE_GLOBAL,
            CU_STREAM_CAPTURE_MODE_THREAD_LOCAL => here,
            CU_STREAM_CAPTURE_MODE_RELAXED => false,
        }
    }
}

impl Driver {
    /// Spoils a capture, if it still goes on.
    pub fn invalidate(&mut self, capture: usize) {
        if let Ok(capture) = self.captures.get_mut(capture) {
            capture.invalid = true;
        }
    }

    /// Where in a capture a stream is.
    ///
    /// # Errors
    /// If that capture was spoiled.
    pub fn joined(&self, stream: usize) -> Answer<Option<Joined>> {
        let Some(joined) = &self.streams.get(stream)?.capture else { return Ok(None) };
        if self.captures.get(joined.capture)?.invalid {
            return Err(CUDA_ERROR_STREAM_CAPTURE_INVALIDATED);
        }
        Ok(Some(joined.clone()))
    }

    /// The legacy default stream would wait for blocking streams, which it may not while one is captured.
    pub fn legacy_allowed(&mut self, stream: usize) -> Answer {
        match self.streams.captured_blocking().filter(|_| self.streams.is_legacy(stream)) {
            None => Ok(()),
            Some(capture) => {
                self.invalidate(capture);
                Err(CUDA_ERROR_STREAM_CAPTURE_IMPLICIT)
            }
        }
    }

    /// A capture may not depend on what was recorded outside of it.
    pub fn isolated(&mut self, stream: usize) -> Answer {
        match self.joined(stream)? {
            None => self.legacy_allowed(stream),
            Some(joined) => {
                self.invalidate(joined.capture);
                Err(CUDA_ERROR_STREAM_CAPTURE_ISOLATION)
            }
        }
    }

    /// Makes a stream wait for a point of a capture, which makes it part of it.
    pub fn join_capture(&mut self, stream: usize, point: Joined) -> Answer {
        if self.captures.get(point.capture).is_err() {
            return Err(CUDA_ERROR_CAPTURED_EVENT);
        }
        if self.streams.is_legacy(stream) {
            self.invalidate(point.capture);
            return Err(CUDA_ERROR_STREAM_CAPTURE_IMPLICIT);
        }
        let joined = match self.joined(stream)? {
            None => point,
            Some(mut joined) if joined.capture == point.capture => {
                joined.frontier.extend(point.frontier);
                joined.frontier.sort_unstable();
                joined.frontier.dedup();
                joined
            }
            Some(joined) => {
                self.invalidate(joined.capture);
                self.invalidate(point.capture);
                return Err(CUDA_ERROR_STREAM_CAPTURE_MERGE);
            }
        };
        self.streams.get_mut(stream)?.capture = Some(joined);
        Ok(())
    }

    /// Adds a node.
    pub fn record(&mut self, stream: usize, joined: Joined, task: Task) -> Answer {
        task.recordable(self).inspect_err(|_| self.invalidate(joined.capture))?;
        let capture = self.captures.get_mut(joined.capture)?;
        let frontier = vec![capture.nodes.len()];
        capture.nodes.push(Node { task, after: joined.frontier });
        self.streams.get_mut(stream)?.capture = Some(Joined { capture: joined.capture, frontier });
        Ok(())
    }

    /// Calls that could wait for the device spoil the captures that forbid them, and every capture of `stream`.
    pub fn allowed_in_capture(&mut self, call: &'static str, stream: Option<usize>) -> Answer {
        let own = stream.map(|stream| self.joined(stream)).transpose()?.flatten().map(|joined| joined.capture);
        let forbidding = || self.captures.entries.iter().find(|(_, capture)| capture.forbids()).map(|(&id, _)| id);
        let Some(id) = own.or_else(forbidding) else { return Ok(()) };
        let capture = self.captures.get_mut(id)?;
        capture.invalid = true;
        let message = format!("not permitted while {} is being captured", capture.origin_name);
        self.books.found(finding(Kind::BlockingCall, call, message));
        Err(CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED)
    }

    /// Opens a call that makes the host wait for the device.
    pub fn host_waits(&mut self, call: &'static str, stream: Option<usize>) -> Answer {
        self.allowed_in_capture(call, stream)?;
        self.books.blocks(call);
        Ok(())
    }

    fn begin_capture(&mut self, stream: usize, mode: CUstreamCaptureMode) -> Answer {
        if self.streams.is_legacy(stream) {
            return refuse(CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED, "the default stream cannot be captured");
        }
        if self.streams.get(stream)?.capture.is_some() {
            return Err(CUDA_ERROR_ILLEGAL_STATE);
        }
        let origin_name = self.books.timeline.lane_name(self.streams.get(stream)?.lane).to_owned();
        let thread = thread::current().id();
        let capture = self.captures.insert(Capture {
            nodes: vec![],
            origin: stream,
            origin_name,
            thread,
            mode,
            invalid: false,
        });
        self.streams.get_mut(stream)?.capture = Some(Joined { capture, frontier: vec![] });
        Ok(())
    }

    fn end_capture(&mut self, stream: usize) -> Answer<Graph> {
        let Joined { capture: id, frontier } =
            self.streams.get(stream)?.capture.clone().ok_or(CUDA_ERROR_ILLEGAL_STATE)?;
        let capture = self.captures.get(id)?;
        if capture.origin != stream {
            self.invalidate(id);
            return Err(CUDA_ERROR_STREAM_CAPTURE_UNMATCHED);
        }
        if capture.mode != CU_STREAM_CAPTURE_MODE_RELAXED && capture.thread != thread::current().id() {
            return Err(CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD);
        }
        let capture = self.captures.remove(id)?;
        for stream in self.streams.iter_mut() {
            stream.capture.take_if(|joined| joined.capture == id);
        }
        if capture.invalid {
            return Err(CUDA_ERROR_STREAM_CAPTURE_INVALIDATED);
        }
        let graph = Graph::new(capture.nodes);
        if graph.ancestors(&frontier) < graph.nodes.len() {
            return refuse(
                CUDA_ERROR_STREAM_CAPTURE_UNJOINED,
                "the capture ends before all of its streams were joined",
            );
        }
        Ok(graph)
    }

    fn capture_status(&self, stream: usize) -> Answer<(CUstreamCaptureStatus, usize)> {
        let Some(joined) = &self.streams.get(stream)?.capture else { return Ok((CU_STREAM_CAPTURE_STATUS_NONE, 0)) };
        let invalid = self.captures.get(joined.capture)?.invalid;
        let status = if invalid { CU_STREAM_CAPTURE_STATUS_INVALIDATED } else { CU_STREAM_CAPTURE_STATUS_ACTIVE };
        Ok((status, joined.capture))
    }
}

#[unsafe(no_mangle)]
pub extern "C" fn cuStreamBeginCapture_v2(stream: CUstream, mode: CUstreamCaptureMode) -> CUresult {
    call_bound("cuStreamBeginCapture", |driver| {
        let stream = driver.stream(stream)?;
        driver.begin_capture(stream, mode)
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuStreamEndCapture(stream: CUstream, out: Out<'_, CUgraph>) -> CUresult {
    call_bound("cuStreamEndCapture", |driver| {
        let out = out.ok_or(CUDA_ERROR_INVALID_VALUE)?.write(null_mut());
        let stream = driver.stream(stream)?;
        let graph = driver.end_capture(stream)?;
        *out = without_provenance_mut(driver.graphs.insert(graph));
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuStreamIsCapturing(stream: CUstream, out: Out<'_, CUstreamCaptureStatus>) -> CUresult {
    call_bound("cuStreamIsCapturing", |driver| {
        let stream = driver.stream(stream)?;
        if driver.streams.is_legacy(stream) && driver.streams.captured_blocking().is_some() {
            return Err(CUDA_ERROR_STREAM_CAPTURE_IMPLICIT);
        }
        put(out, driver.capture_status(stream)?.0)
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuStreamGetCaptureInfo(
    stream: CUstream,
    status: Out<'_, CUstreamCaptureStatus>,
    id: Out<'_, cuuint64_t>,
) -> CUresult {
    call_bound("cuStreamGetCaptureInfo", |driver| {
        let stream = driver.stream(stream)?;
        let (now, capture) = driver.capture_status(stream)?;
        if let Some(id) = id {
            id.write(capture as cuuint64_t);
        }
        put(status, now)
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuThreadExchangeStreamCaptureMode(mode: Option<&mut CUstreamCaptureMode>) -> CUresult {
    call("cuThreadExchangeStreamCaptureMode", |_| {
        let mode = mode.ok_or(CUDA_ERROR_INVALID_VALUE)?;
        *mode = MODE.replace(*mode);
        Ok(())
    })
}
