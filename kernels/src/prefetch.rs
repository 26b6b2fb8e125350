//! The next batch on its way to the GPU while a step runs, and a step's results on their way back.
//!
//! Batches go over a stream of their own into one of two places; a place is used again when the step that read it is done,
//! which the device waits for, not the host. Results come through pinned memory, and whoever reads them chooses when to wait.

use cudarc::driver::{CudaEvent, result};

use crate::cuda::{Cuda, lock};
use crate::staging::Pinned;
use crate::{DType, Device, Tensor};

/// Alignment of a tensor within a place.
const ALIGNMENT: usize = 256;

/// The places of batches.
#[derive(Default)]
pub(crate) struct Places {
    places: [Place; 2],
    next: usize,
}

#[derive(Default)]
struct Place {
    pinned: Option<Pinned>,
    /// As i32 words.
    memory: Option<Tensor>,
    uploaded: Option<CudaEvent>,
    consumed: Option<CudaEvent>,
}

/// Tensors on their way to the GPU.
pub struct Prefetched {
    tensors: Vec<Tensor>,
    place: usize,
}

/// Numbers on their way from the GPU.
pub struct ReadBack {
    /// `None` once they were read.
    pinned: Option<Pinned>,
    len: usize,
    done: CudaEvent,
}

impl Cuda {
    /// Starts copying host tensors to the device, beside whatever it computes. Two batches may be on their way or in use.
    /// `None` after a failure.
    pub fn prefetch(&'static self, tensors: &[Tensor]) -> Option<Prefetched> {
        if self.has_failed() {
            return None;
        }
        self.bind();
        let mut places = lock(&self.places);
        let at = places.next;
        places.next = 1 - at;
        let place = &mut places.places[at];
        let sizes = tensors.iter().map(|t| t.len() * t.dtype().size());
        let offsets: Vec<usize> = sizes
            .scan(0, |end, size| Some(std::mem::replace(end, (*end + size).next_multiple_of(ALIGNMENT))))
            .collect();
        let last = tensors.last().map_or(0, |t| t.len() * t.dtype().size());
        let bytes = offsets.last().map_or(0, |offset| offset + last);
        let memory = self.grow(place, bytes)?;
        let pinned = place.pinned.as_mut()?.bytes_mut();
        for (t, offset) in tensors.iter().zip(&offsets) {
            let from = t.host_bytes();
            pinned[*offset..offset + from.len()].copy_from_slice(from);
        }
        let (address, stream) = (memory.device_address(), self.copy().cu_stream());
        // SAFETY: pinned memory that is written again only when this copy is done; the device memory is as large.
        let copied = unsafe { result::memcpy_htod_async(address, &pinned[..bytes], stream) };
        self.remember(copied, || format!("uploading {bytes} bytes"))?;
        place.uploaded = self.remember(self.copy().record_event(None), || "marking an upload's end".into());
        let on_device =
            tensors.iter().zip(offsets).map(|(t, offset)| memory.reinterpret(offset, t.shape(), t.dtype()));
        Some(Prefetched { tensors: on_device.collect(), place: at })
    }

    /// Makes a place ready for `bytes` bytes: nobody reads or writes it any more, and it is large enough.
    fn grow(&'static self, place: &mut Place, bytes: usize) -> Option<Tensor> {
        if let Some(uploaded) = place.uploaded.take()
            && !uploaded.is_complete()
        {
            self.remember(uploaded.synchronize(), || "waiting for the upload before the last".into())?;
        }
        if place.pinned.as_ref().is_none_or(|p| p.bytes().len() < bytes) {
            place.pinned = Some(self.remember(Pinned::new(bytes), || format!("pinning {bytes} bytes"))?);
        }
        if let Some(consumed) = place.consumed.take() {
            self.remember(self.copy().wait(&consumed), || "ordering an upload".into())?;
        }
        match &place.memory {
            Some(memory) if memory.len() * 4 >= bytes => Some(memory.clone()),
            _ => {
                let words = [bytes.div_ceil(4)];
                let memory = self.allocating_state(|| Tensor::empty(&words, DType::I32, Device::Cuda(self)));
                // Memory comes in the order of the compute stream.
                self.remember(self.copy().join(self.compute()), || "ordering an upload".into())?;
                place.memory = Some(memory.clone());
                Some(memory)
            }
        }
    }

    /// The tensors, for what is enqueued from now on.
    pub fn receive<'p>(&self, prefetched: &'p Prefetched) -> &'p [Tensor] {
        self.bind();
        if let Some(uploaded) = &lock(&self.places).places[prefetched.place].uploaded {
            self.remember(self.compute().wait(uploaded), || "waiting for an upload".into());
        }
        &prefetched.tensors
    }

    /// Says that everything enqueued so far is all that reads them.
    pub fn consumed(&self, prefetched: Prefetched) {
        self.bind();
        let consumed = self.remember(self.compute().record_event(None), || "marking a batch's end".into());
        lock(&self.places).places[prefetched.place].consumed = consumed;
    }

    /// Starts copying an f32 tensor to the host. `None` after a failure.
    pub fn read_back(&self, t: &Tensor) -> Option<ReadBack> {
        if self.has_failed() {
            return None;
        }
        self.bind();
        let bytes = t.len() * t.dtype().size();
        let kept = lock(&self.read_backs).pop().filter(|p| p.bytes().len() >= bytes);
        let mut pinned = match kept {
            Some(pinned) => pinned,
            None => self.remember(Pinned::new(bytes), || format!("pinning {bytes} bytes"))?,
        };
        let (to, address) = (&mut pinned.bytes_mut()[..bytes], t.device_address());
        // SAFETY: the tensor's own memory; the pinned memory lives until it is waited for.
        let copied = unsafe { result::memcpy_dtoh_async(to, address, self.stream()) };
        self.remember(copied, || format!("downloading {bytes} bytes"))?;
        let done = self.remember(self.compute().record_event(None), || "marking a download's end".into())?;
        Some(ReadBack { pinned: Some(pinned), len: t.len(), done })
    }

    /// The numbers; waits for them unless they are there. `None` after a failure.
    pub fn wait_for(&self, mut read_back: ReadBack) -> Option<Vec<f32>> {
        self.bind();
        if !read_back.done.is_complete() {
            self.remember(read_back.done.synchronize(), || "waiting for a step's results".into())?;
        }
        let pinned = read_back.pinned.take()?;
        let numbers = bytemuck::pod_collect_to_vec(&pinned.bytes()[..4 * read_back.len]);
        lock(&self.read_backs).push(pinned);
        Some(numbers)
    }
}

impl Drop for ReadBack {
    fn drop(&mut self) {
        if self.pinned.is_some() {
            // Nobody reads them, but the device writes them. A failure shows elsewhere.
            let _ = self.done.synchronize();
        }
    }
}
