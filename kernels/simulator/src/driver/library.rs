//! How the stand-ins of NVIDIA's libraries do their work on a stream.

use std::sync::Arc;

use cudarc::driver::sys::{CUresult, CUstream};

use super::task::Task;
use super::{Answer, Driver, run};
use crate::memory::{Access, Memory, Work};

/// Rows of bytes in device memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Region {
    /// Of the first byte.
    pub address: u64,
    /// How many rows.
    pub rows: u64,
    /// Bytes of a row.
    pub row_bytes: u64,
    /// Bytes from a row to the next.
    pub pitch: u64,
}

impl Region {
    /// Address and size of its rows; one if there is nothing between them.
    fn ranges(self) -> impl Iterator<Item = (u64, u64)> {
        let dense = self.pitch == self.row_bytes;
        let (rows, bytes) =
            if dense { (1, self.rows.saturating_mul(self.row_bytes)) } else { (self.rows, self.row_bytes) };
        (0..rows)
            .map(move |row| (self.address.wrapping_add(row.wrapping_mul(self.pitch)), bytes))
            .filter(|&(_, bytes)| bytes > 0)
    }
}

/// A library's call: what it touches, and what it does.
#[derive(Clone)]
pub struct LibraryCall {
    /// The C function.
    pub name: &'static str,
    /// Read before anything is written.
    pub reads: Vec<Region>,
    /// Written as a whole.
    pub writes: Vec<Region>,
    /// Does it; called when bounds, initialization and order have been checked, again at every replay of a graph.
    pub run: Arc<dyn Fn(&Memory) + Send + Sync>,
}

/// Runs `call` on `stream`, or notes it if the stream is being captured.
///
/// # Errors
/// `CUDA_ERROR_ILLEGAL_ADDRESS` and others of a launch; the finding is in the report.
pub fn submit(stream: CUstream, call: LibraryCall) -> Result<(), CUresult> {
    run(call.name, |driver| driver.submit(stream, Task::Library(call)))
}

impl Driver {
    /// Runs a library's call.
    pub fn library(&mut self, call: &LibraryCall, work: &Work) -> Answer {
        for range in call.reads.iter().flat_map(|region| region.ranges()) {
            let (allocation, offset) = self.touch(range, Access::Read, work, call.name)?;
            self.written(&allocation, (offset, range.1), call.name)?;
        }
        let mut targets = Vec::new();
        for range in call.writes.iter().flat_map(|region| region.ranges()) {
            let (allocation, offset) = self.touch(range, Access::Write, work, call.name)?;
            targets.push((allocation, offset, range.1));
        }
        (call.run)(&self.memory);
        for (allocation, offset, bytes) in targets {
            allocation.written.fill(offset, bytes, 1);
        }
        Ok(())
    }
}
