//! Pinned memory between host and device.
//!
//! Inside of a step, what is uploaded goes through pinned memory of that step, which is used again three steps later: the
//! host waits for no step that is younger than that. Outside of steps an upload waits for its end.

use anyhow::Result;
use cudarc::driver::{CudaEvent, result};

use crate::cuda::{Cuda, lock};

/// Steps whose uploads may be under way at once.
const STEPS: usize = 3;

/// The least that is pinned at a time.
const CHUNK: usize = 1 << 20;

/// Alignment of an upload within pinned memory.
const ALIGNMENT: usize = 64;

/// Pinned memory by step.
#[derive(Default)]
pub(crate) struct Staging {
    regions: [Region; STEPS],
    /// Steps begun.
    step: usize,
    is_in_step: bool,
}

#[derive(Default)]
struct Region {
    chunks: Vec<Pinned>,
    /// Chunks that are full, and bytes used of the one after them.
    full: usize,
    used: usize,
    /// Behind the step's last upload.
    done: Option<CudaEvent>,
}

/// Page-locked host memory.
pub(crate) struct Pinned {
    memory: *mut u8,
    bytes: usize,
}

// SAFETY: plain memory, owned.
unsafe impl Send for Pinned {}

impl Pinned {
    pub(crate) fn new(bytes: usize) -> Result<Self, result::DriverError> {
        // SAFETY: an allocation of that size, freed once in `drop`.
        let memory = unsafe { result::malloc_host(bytes.max(1), 0) }?.cast::<u8>();
        // SAFETY: the memory is as large, and from now on initialized.
        unsafe { memory.write_bytes(0, bytes) };
        Ok(Pinned { memory, bytes })
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        // SAFETY: allocated and initialized by `new`; whoever lets a device write waits before reading.
        unsafe { std::slice::from_raw_parts(self.memory, self.bytes) }
    }

    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above; owned, so that nobody else has it.
        unsafe { std::slice::from_raw_parts_mut(self.memory, self.bytes) }
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        // SAFETY: allocated by `new`.
        let _ = unsafe { result::free_host(self.memory.cast()) };
    }
}

impl Region {
    /// A piece of `bytes` bytes that nothing of this step uses yet.
    fn piece(&mut self, bytes: usize) -> Result<&mut [u8], result::DriverError> {
        while self.full < self.chunks.len() && self.used + bytes > self.chunks[self.full].bytes {
            (self.full, self.used) = (self.full + 1, 0);
        }
        if self.full == self.chunks.len() {
            self.chunks.push(Pinned::new(bytes.max(CHUNK))?);
        }
        let range = self.used..self.used + bytes;
        self.used = range.end.next_multiple_of(ALIGNMENT);
        Ok(&mut self.chunks[self.full].bytes_mut()[range])
    }
}

impl Cuda {
    /// From here to [`Self::end_step`] uploads do not wait.
    pub fn begin_step(&self) {
        self.bind();
        let mut staging = lock(&self.staging);
        let at = staging.step % STEPS;
        let region = &mut staging.regions[at];
        if let Some(done) = region.done.take()
            && !done.is_complete()
        {
            self.remember(done.synchronize(), || "waiting for the step before the last two".into());
        }
        (region.full, region.used) = (0, 0);
        staging.is_in_step = true;
    }

    /// The end of what [`Self::begin_step`] began.
    pub fn end_step(&self) {
        self.bind();
        let mut staging = lock(&self.staging);
        let at = staging.step % STEPS;
        staging.regions[at].done = self.remember(self.compute().record_event(None), || "marking a step's end".into());
        (staging.step, staging.is_in_step) = (staging.step + 1, false);
    }

    /// Copies bytes to a device address, in the order of the compute stream.
    pub(crate) fn upload(&self, address: u64, bytes: &[u8]) {
        if address == 0 || bytes.is_empty() || self.has_failed() {
            return;
        }
        self.bind();
        if self.takes_upload(address, bytes) {
            return;
        }
        let mut staging = lock(&self.staging);
        if !staging.is_in_step {
            // SAFETY: tensors pass addresses of their own memory; `bytes` lives until the stream is waited for.
            let copied = unsafe { result::memcpy_htod_async(address, bytes, self.stream()) };
            let copied = copied.and_then(|()| self.compute().synchronize());
            self.remember(copied, || format!("uploading {} bytes", bytes.len()));
            return;
        }
        let at = staging.step % STEPS;
        let piece = staging.regions[at].piece(bytes.len());
        let Some(piece) = self.remember(piece, || format!("pinning {} bytes", bytes.len())) else { return };
        piece.copy_from_slice(bytes);
        // SAFETY: pinned memory that is written again only when this step's end was waited for.
        let copied = unsafe { result::memcpy_htod_async(address, piece, self.stream()) };
        self.remember(copied, || format!("uploading {} bytes", bytes.len()));
    }

    /// Copies device memory to the host, and waits for it. After a failure, and where nothing was computed because a step is only
    /// recorded, the bytes stay as they are.
    pub(crate) fn download(&self, bytes: &mut [u8], address: u64) {
        if address == 0 || bytes.is_empty() || self.has_failed() || self.misses_value() {
            return;
        }
        self.bind();
        // SAFETY: tensors pass addresses of their own memory; `bytes` lives until the stream is waited for.
        let copied = unsafe { result::memcpy_dtoh_async(bytes, address, self.stream()) };
        let copied = copied.and_then(|()| self.compute().synchronize());
        self.remember(copied, || format!("downloading {} bytes", bytes.len()));
    }

    /// Copies device memory to device memory, in the order of the compute stream.
    pub(crate) fn copy_on_device(&self, to: u64, from: u64, bytes: usize) {
        if to == 0 || from == 0 || bytes == 0 || self.has_failed() || !self.makes(("copy", to, from, bytes)) {
            return;
        }
        self.bind();
        // SAFETY: tensors pass addresses of their own memory, of at least that size.
        let copied = unsafe { result::memcpy_dtod_async(to, from, bytes, self.stream()) };
        self.remember(copied, || format!("copying {bytes} bytes"));
    }
}
