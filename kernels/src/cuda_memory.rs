//! Device memory: one driver allocation a tensor, or an arena for the state and one for what steps make. Between steps the
//! latter is empty, so that equal steps get equal addresses.
//!
//! Memory is handed out and taken back in the order of the host, and used in the order of the compute stream, which is the
//! same: what is freed may be handed out again at once.

use anyhow::Result;
use cudarc::driver::{result, sys};

use crate::arena::Arena;

/// How device memory is allocated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Alloc {
    /// Pieces of large allocations that are kept: a step allocates nothing after the first of its shape.
    #[default]
    Arena,
    /// One driver allocation a tensor, freed at its last use: every bound is the driver's, so that checkers see it.
    Each,
}

impl std::str::FromStr for Alloc {
    type Err = anyhow::Error;
    fn from_str(s: &str) -> Result<Self> {
        match s {
            "arena" => Ok(Alloc::Arena),
            "each" => Ok(Alloc::Each),
            _ => anyhow::bail!("--alloc is {s:?}, expected arena or each"),
        }
    }
}

/// What a tensor's memory is for, as reports call it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Category {
    /// Parameters, their compute copies, moments and averages.
    State,
    /// Everything that a step makes: activations, gradients, workspaces.
    Step,
}

/// Bytes by category.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Parameters, moments, averages.
    pub state: usize,
    /// Activations, gradients, workspaces, now.
    pub step: usize,
    /// The most that a step had.
    pub step_peak: usize,
    /// What the driver gave.
    pub reserved: usize,
}

impl std::fmt::Display for Usage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [state, step, reserved] = [self.state, self.step_peak, self.reserved].map(|bytes| bytes as f64 / 1e6);
        write!(
            f,
            "GPU memory: {state:.1} MB of parameters and moments, {step:.1} MB of a step at most, {reserved:.1} MB reserved"
        )
    }
}

/// Granularity and alignment of pieces.
const ALIGNMENT: usize = 256;

/// The least that the arena asks of the driver.
const CHUNK: usize = 8 << 20;

pub(crate) struct Allocator {
    pub(crate) kind: Alloc,
    pub(crate) usage: Usage,
    /// Whether nothing may be asked of the driver: while a graph is captured, what it gave would be the graph's.
    pub(crate) is_closed: bool,
    /// By category.
    arenas: [Arena; 2],
}

impl Allocator {
    pub(crate) fn new(kind: Alloc) -> Self {
        Allocator { kind, usage: Usage::default(), is_closed: false, arenas: Default::default() }
    }

    /// The address of `bytes` bytes.
    pub(crate) fn allocate(
        &mut self,
        bytes: usize,
        category: Category,
        stream: sys::CUstream,
    ) -> Result<u64, result::DriverError> {
        let bytes = self.granted(bytes);
        let address = match self.kind {
            Alloc::Each => self.reserve(bytes, stream)?,
            Alloc::Arena => self.piece(bytes, category, stream)?,
        };
        match category {
            Category::State => self.usage.state += bytes,
            Category::Step => {
                self.usage.step += bytes;
                self.usage.step_peak = self.usage.step_peak.max(self.usage.step);
            }
        }
        Ok(address)
    }

    /// Takes back what [`Self::allocate`] gave for the same arguments.
    pub(crate) fn free(
        &mut self,
        address: u64,
        bytes: usize,
        category: Category,
        stream: sys::CUstream,
    ) -> Result<(), result::DriverError> {
        let bytes = self.granted(bytes);
        match category {
            Category::State => self.usage.state -= bytes,
            Category::Step => self.usage.step -= bytes,
        }
        match self.kind {
            Alloc::Each => self.release(address, bytes, stream),
            Alloc::Arena => {
                self.arenas[category as usize].put_back(address, bytes);
                Ok(())
            }
        }
    }

    /// Gives back to the driver what is free of the arenas.
    pub(crate) fn trim(&mut self, stream: sys::CUstream) -> Result<(), result::DriverError> {
        let unused = self.arenas.iter_mut().flat_map(Arena::take_unused).collect::<Vec<_>>();
        unused.into_iter().try_for_each(|(address, bytes)| self.release(address, bytes, stream))
    }

    fn granted(&self, bytes: usize) -> usize {
        match self.kind {
            Alloc::Each => bytes.max(1),
            Alloc::Arena => bytes.max(1).next_multiple_of(ALIGNMENT),
        }
    }

    /// The smallest free piece that is large enough, or a new chunk's beginning.
    fn piece(&mut self, bytes: usize, category: Category, stream: sys::CUstream) -> Result<u64, result::DriverError> {
        if let Some(address) = self.arenas[category as usize].take(bytes) {
            return Ok(address);
        }
        self.chunk(bytes, category, stream)?;
        Ok(self.arenas[category as usize].take(bytes).expect("the chunk is large enough"))
    }

    /// A new chunk of at least so many bytes.
    fn chunk(&mut self, bytes: usize, category: Category, stream: sys::CUstream) -> Result<(), result::DriverError> {
        if self.is_closed {
            return Err(result::DriverError(sys::CUresult::CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED));
        }
        // The arena grows by an eighth at least, so that its growth ends soon.
        let eighth = self.arenas[category as usize].size() / 8;
        let size = bytes.max(CHUNK).max(eighth).next_multiple_of(ALIGNMENT);
        let (address, size) = match self.reserve(size, stream) {
            Ok(address) => (address, size),
            // If that is more than there is, what is needed may fit still, where chunks that are too small for it lie unused.
            Err(_) => {
                self.trim(stream)?;
                // SAFETY: the stream is alive. The driver has the memory back when what was enqueued is done.
                unsafe { result::stream::synchronize(stream) }?;
                (self.reserve(bytes, stream)?, bytes)
            }
        };
        self.arenas[category as usize].add(address, size);
        Ok(())
    }

    fn reserve(&mut self, bytes: usize, stream: sys::CUstream) -> Result<u64, result::DriverError> {
        // SAFETY: the stream is alive as long as the device that owns this allocator.
        let address = unsafe { result::malloc_async(stream, bytes) }?;
        self.usage.reserved += bytes;
        Ok(address)
    }

    fn release(&mut self, address: u64, bytes: usize, stream: sys::CUstream) -> Result<(), result::DriverError> {
        self.usage.reserved -= bytes;
        // SAFETY: `reserve` made it, and nothing enqueued later uses it.
        unsafe { result::free_async(address, stream) }
    }
}
