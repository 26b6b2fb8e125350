//! What streams do and graphs record.

use std::ffi::c_void;
use std::sync::Arc;

use cudarc::driver::sys::{CUresult::CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED, CUstream};

use super::books::finding;
use super::copy::{Copy, Fill};
use super::launch::Launch;
use super::library::LibraryCall;
use super::order::{Clock, Label};
use super::{Answer, Driver, refuse};
use crate::findings::Kind;
use crate::memory::{Access, Allocation, Fault, Work};

/// A piece of work.
#[derive(Clone)]
pub enum Task {
    /// A kernel.
    Launch(Launch),
    /// Bytes from one place to another.
    Copy(Copy),
    /// A pattern, many times.
    Fill(Fill),
    /// A call of a library.
    Library(LibraryCall),
    /// A function of the host.
    Host(Host),
}

/// A function of the host.
#[derive(Clone)]
pub struct Host {
    /// Called with `data`.
    pub function: unsafe extern "C" fn(*mut c_void),
    /// The exposed address of what the caller passed.
    pub data: usize,
}

impl Host {
    fn run(&self) {
        // SAFETY: whoever called `cuLaunchHostFunc` asked for this call.
        unsafe { (self.function)(std::ptr::with_exposed_provenance_mut(self.data)) };
    }
}

impl Task {
    fn label(&self) -> Label {
        match self {
            Self::Launch(launch) => Label::Kernel(launch.kernel.clone()),
            Self::Copy(copy) => Label::Call(copy.call),
            Self::Fill(fill) => Label::Call(fill.call),
            Self::Library(call) => Label::Call(call.name),
            Self::Host(_) => Label::Call("cuLaunchHostFunc"),
        }
    }

    /// Whether a graph can keep it: pageable memory may be gone when the graph is launched.
    pub fn recordable(&self, driver: &mut Driver) -> Answer {
        match self {
            Self::Copy(copy) if !copy.is_pinned(&driver.host) => {
                refuse(CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED, &format!("{}: pageable memory in a capture", copy.call))
            }
            _ => Ok(()),
        }
    }
}

impl Driver {
    /// Does a task on a stream, or records it if the stream is being captured.
    pub fn submit(&mut self, stream: CUstream, task: Task) -> Answer {
        let stream = self.stream(stream)?;
        if let Some(joined) = self.joined(stream)? {
            return self.record(stream, joined, task);
        }
        let work = self.start(stream, task.label())?;
        self.perform(&task, &work)
    }

    /// Starts a piece of work on a stream that is not being captured.
    pub fn start(&mut self, stream: usize, label: Label) -> Answer<Work> {
        self.legacy_allowed(stream)?;
        let stream = self.streams.enter(stream)?;
        Ok(self.books.timeline.begin(stream.lane, &mut stream.clock, label))
    }

    /// Starts a task on a branch of a graph.
    pub fn start_node(&mut self, lane: usize, clock: &mut Clock, task: &Task) -> Work {
        self.books.timeline.begin(lane, clock, task.label())
    }

    /// Does a task.
    pub fn perform(&mut self, task: &Task, work: &Work) -> Answer {
        match task {
            Task::Launch(launch) => self.launch(launch, work),
            Task::Copy(copy) => self.copy(copy, work),
            Task::Fill(fill) => self.fill(fill, work),
            Task::Library(call) => self.library(call, work),
            Task::Host(host) => {
                host.run();
                Ok(())
            }
        }
    }

    /// The allocation that holds `bytes` bytes at `address`, and where in it.
    ///
    /// # Errors
    /// A finding if they are not all inside of one.
    pub fn find(&mut self, address: u64, bytes: u64, place: &str) -> Answer<(Arc<Allocation>, u64)> {
        let fault = match self.memory.find(address, bytes) {
            Ok((allocation, offset)) => return Ok((allocation.clone(), offset)),
            Err(fault) => fault,
        };
        let at = |start: u64| format!("{bytes} bytes at offset {} of", address.cast_signed() - start.cast_signed());
        let (kind, message) = match fault {
            Fault::Unknown => (Kind::OutOfBounds, format!("{address:#x} is not an address of device memory")),
            Fault::OutOfBounds(start, size) => (Kind::OutOfBounds, format!("{} an allocation of {size}", at(start))),
            Fault::Freed(start, size) => (Kind::UseAfterFree, format!("{} a freed allocation of {size}", at(start))),
        };
        Err(self.books.found(finding(kind, place, message)))
    }

    /// Notes that `work` reads or writes a range as a whole, and returns it.
    ///
    /// # Errors
    /// A finding if the range is not all inside of an allocation, or if `work` did not wait for what else uses it.
    pub fn touch(
        &mut self,
        (address, bytes): (u64, u64),
        access: Access,
        work: &Work,
        place: &str,
    ) -> Answer<(Arc<Allocation>, u64)> {
        let (allocation, offset) = self.find(address, bytes, place)?;
        if let Some(other) = allocation.touch(offset, bytes, access, work) {
            let lane = self.books.timeline.lane_name(self.books.timeline.lane_of(work.id));
            let verb = if access == Access::Read { "read" } else { "written" };
            let other = work.order.name(other);
            let message = format!("memory {verb} on {lane} that did not wait for {other}");
            return Err(self.books.found(finding(Kind::StreamOrder, place, message)));
        }
        match self.books.used(allocation.address, work, place) {
            Some(finding) => Err(self.books.found(finding)),
            None => Ok((allocation, offset)),
        }
    }

    /// Checks that all of a range was written.
    ///
    /// # Errors
    /// A finding that names the first byte that was not.
    pub fn written(&mut self, allocation: &Allocation, (offset, bytes): (u64, u64), place: &str) -> Answer {
        match allocation.first_unwritten(offset, bytes) {
            None => Ok(()),
            Some(at) => {
                let message =
                    format!("offset {at} of an allocation of {} is read, but never written", allocation.bytes);
                Err(self.books.found(finding(Kind::Uninitialized, place, message)))
            }
        }
    }
}
