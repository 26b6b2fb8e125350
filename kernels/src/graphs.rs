//! Steps as graphs: what a step enqueues, recorded once and launched as a whole.
//!
//! The host goes through every step. First it *rehearses* it: memory is handed out, but of the calls of driver and libraries
//! only a digest is made, of all that they depend on, and uploads are gathered in a *record*. If a graph makes just these
//! calls, the record is sent and the graph launched. If they were made once before, the step is captured as a graph and
//! launched; the first time it is enqueued call by call, while kernels are compiled and plans made.
//!
//! So a graph cannot be wrong about a size, an address or a number: another one would be another digest. What may differ
//! between its launches is what is uploaded (learning rates, numbers of draws, of boxes, of tokens), since an upload is a copy from
//! the record there. Addresses are equal for equal steps, as memory of steps is all free between them ([`crate::cuda_memory`]).

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::atomic::Ordering;

use cudarc::driver::{CudaGraph, result, sys};

use crate::cuda::{Cuda, lock};
use crate::{DType, Device, Tensor};

/// Graphs that are kept at most: beyond, the one that was not used for longest goes. Each shape of a batch takes two, one for
/// either of the places that batches come in.
const MOST_GRAPHS: usize = 64;

/// Digests that are remembered at most.
const MOST_KNOWN: usize = 4096;

/// Alignment of an upload within the record.
const ALIGNMENT: usize = 16;

/// What is known of steps by their digests.
#[derive(Default)]
pub(crate) struct Graphs {
    known: HashMap<u64, Known>,
    usage: GraphUsage,
}

enum Known {
    /// It was enqueued call by call.
    Enqueued,
    /// It cannot be captured.
    Refused,
    Captured(Graph),
}

struct Graph {
    graph: CudaGraph,
    /// Where the uploads come from, as i32 words.
    record: Tensor,
    /// What it takes on the device, its record and what the driver keeps for it.
    bytes: usize,
    /// The step of [`GraphUsage::steps`] that launched it last.
    used: usize,
}

// SAFETY: graphs may be used from any thread, one at a time: `Cuda` keeps them behind a lock.
unsafe impl Send for Graph {}

/// How steps ran.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GraphUsage {
    /// All of them.
    pub steps: usize,
    /// Those that were a graph's launch.
    pub launched: usize,
    /// Graphs that were made.
    pub captured: usize,
    /// Graphs that are kept.
    pub kept: usize,
    /// What these take on the device, in bytes; the memory that steps compute in is everybody's.
    pub bytes: usize,
}

impl std::fmt::Display for GraphUsage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let GraphUsage { steps, launched, captured, kept, bytes } = self;
        let megabytes = *bytes as f64 / 1e6;
        write!(f, "graphs: {launched} of {steps} steps, {captured} captured, {kept} kept in {megabytes:.1} MB")
    }
}

/// How the host goes through a step.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Pass {
    /// Nothing is enqueued.
    Rehearsal,
    /// Everything is.
    Enqueue,
    /// A graph takes everything, with so many bytes of a record at an address.
    Capture { record: u64, bytes: usize },
}

/// What a pass of the host through a step leaves.
pub(crate) struct Recording {
    pass: Pass,
    calls: DefaultHasher,
    uploads: Vec<u8>,
    /// The host asked for a value, on which calls may depend, or uploaded more than it had rehearsed.
    is_spoiled: bool,
}

impl Graphs {
    /// Says that a step was enqueued call by call.
    fn note(&mut self, digest: u64) {
        if !self.known.contains_key(&digest) {
            self.insert(digest, Known::Enqueued);
        }
    }

    fn insert(&mut self, digest: u64, known: Known) {
        if self.known.len() == MOST_KNOWN {
            self.known.retain(|_, known| matches!(known, Known::Captured(_)));
        }
        self.known.insert(digest, known);
        let graphs = || {
            self.known.iter().filter_map(|(digest, known)| match known {
                Known::Captured(graph) => Some((graph.used, *digest)),
                _ => None,
            })
        };
        if graphs().count() > MOST_GRAPHS
            && let Some((_, oldest)) = graphs().min()
        {
            self.known.remove(&oldest);
        }
    }

    pub(crate) fn clear(&mut self) {
        self.known.clear();
    }
}

impl Cuda {
    /// Runs what a step enqueues, as a graph where it can. Between [`Self::begin_step`] and [`Self::end_step`].
    ///
    /// `step` is called once to three times, and does the same every time. It receives no batch and sends no result, and what
    /// it makes that outlives the step it makes at its first call. Where it reads a value, and with an allocation a tensor, it is
    /// enqueued call by call.
    pub fn as_graph<R>(&'static self, mut step: impl FnMut() -> R) -> R {
        if self.has_failed() || !self.has_arena() {
            return step();
        }
        let (result, rehearsal) = self.go_through(Pass::Rehearsal, &mut step);
        let digest = rehearsal.calls.finish();
        let [is_captured, is_enqueued] = {
            let mut graphs = lock(&self.graphs);
            graphs.usage.steps += 1;
            let known = graphs.known.get(&digest);
            [matches!(known, Some(Known::Captured(_))), matches!(known, Some(Known::Enqueued))]
        };
        if is_captured {
            self.launch_graph(digest, &rehearsal.uploads);
            return result;
        }
        // Its memory is free again: the next pass gets the same.
        drop(result);
        if is_enqueued && let Some(result) = self.capture(digest, &rehearsal.uploads, &mut step) {
            self.launch_graph(digest, &rehearsal.uploads);
            return result;
        }
        let (result, enqueued) = self.go_through(Pass::Enqueue, &mut step);
        if !enqueued.is_spoiled {
            lock(&self.graphs).note(enqueued.calls.finish());
        }
        result
    }

    /// How the steps of [`Self::as_graph`] ran.
    pub fn graph_usage(&self) -> GraphUsage {
        let graphs = lock(&self.graphs);
        let kept = || {
            graphs.known.values().filter_map(|known| match known {
                Known::Captured(graph) => Some(graph.bytes),
                _ => None,
            })
        };
        GraphUsage { kept: kept().count(), bytes: kept().sum(), ..graphs.usage }
    }

    fn go_through<R>(&self, pass: Pass, step: &mut impl FnMut() -> R) -> (R, Recording) {
        let recording = Recording { pass, calls: DefaultHasher::new(), uploads: Vec::new(), is_spoiled: false };
        *lock(&self.recording) = Some(recording);
        let result = step();
        let recording = lock(&self.recording).take().expect("it was put there");
        (result, recording)
    }

    /// Captures the step of a rehearsal. `None` where that cannot be: nothing was enqueued then.
    fn capture<R>(&'static self, digest: u64, uploads: &[u8], step: &mut impl FnMut() -> R) -> Option<R> {
        let words = [uploads.len().div_ceil(DType::I32.size())];
        let record = self.allocating_state(|| Tensor::empty(&words, DType::I32, Device::Cuda(self)));
        let mode = sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL;
        self.remember(self.compute().begin_capture(mode), || "capturing a step".into())?;
        lock(&self.allocator).is_closed = true;
        let (result, captured) =
            self.go_through(Pass::Capture { record: record.device_address(), bytes: uploads.len() }, step);
        lock(&self.allocator).is_closed = false;
        let free = || result::mem_get_info().map_or(0, |(free, _)| free);
        let before = free();
        let graph = self.compute().end_capture(sys::CUgraphInstantiate_flags(0)).ok().flatten();
        let mut graphs = lock(&self.graphs);
        // A library may refuse to be captured, or do something else then.
        let is_same = captured.calls.finish() == digest && captured.uploads == uploads && !captured.is_spoiled;
        match graph.filter(|_| is_same) {
            Some(graph) => {
                self.remember(graph.upload(), || "sending a graph".into());
                let bytes = uploads.len() + before.saturating_sub(free());
                let used = graphs.usage.steps;
                graphs.insert(digest, Known::Captured(Graph { graph, record, bytes, used }));
                graphs.usage.captured += 1;
                Some(result)
            }
            None => {
                graphs.insert(digest, Known::Refused);
                None
            }
        }
    }

    /// Sends the record, and launches the graph.
    fn launch_graph(&self, digest: u64, uploads: &[u8]) {
        let mut graphs = lock(&self.graphs);
        let step = graphs.usage.steps;
        let Some(Known::Captured(graph)) = graphs.known.get_mut(&digest) else { return };
        graph.used = step;
        self.upload(graph.record.device_address(), uploads);
        let launched = if self.has_failed() { Ok(()) } else { graph.graph.launch() };
        graphs.usage.launched += 1;
        self.remember(launched, || "launching a step's graph".into());
    }

    /// Notes a call of the driver or a library, of which `call` is all that it depends on, and tells whether to make it now: not
    /// in a rehearsal.
    pub(crate) fn makes(&self, call: impl Hash) -> bool {
        let noted = self.note(|recording| {
            call.hash(&mut recording.calls);
            recording.pass != Pass::Rehearsal
        });
        noted.unwrap_or(true)
    }

    /// Notes an upload, and tells whether it is taken: into the record, from which the graph copies it. Else it is for the caller
    /// to do.
    pub(crate) fn takes_upload(&self, address: u64, bytes: &[u8]) -> bool {
        let taken = self.note(|recording| {
            ("upload", address, bytes.len()).hash(&mut recording.calls);
            let at = recording.uploads.len().next_multiple_of(ALIGNMENT);
            recording.uploads.resize(at, 0);
            recording.uploads.extend_from_slice(bytes);
            if let Pass::Capture { record, bytes: room } = recording.pass {
                if recording.uploads.len() > room {
                    recording.is_spoiled = true;
                    return true;
                }
                let from = record + at as u64;
                // SAFETY: tensors pass addresses of their own memory; the record reaches as far, and lives as long as the graph.
                let copied = unsafe { result::memcpy_dtod_async(address, from, bytes.len(), self.stream()) };
                self.remember(copied, || format!("copying {} bytes", bytes.len()));
            }
            recording.pass != Pass::Enqueue
        });
        taken.unwrap_or(false)
    }

    /// Notes that the host reads a value, and tells whether there is none, as nothing was enqueued.
    pub(crate) fn misses_value(&self) -> bool {
        let missed = self.note(|recording| {
            recording.is_spoiled = true;
            recording.pass != Pass::Enqueue
        });
        missed.unwrap_or(false)
    }

    /// Notes something in the pass that is under way. What outlives a step is made at once, and is none of its.
    fn note<T>(&self, note: impl FnOnce(&mut Recording) -> T) -> Option<T> {
        if self.is_allocating_state.load(Ordering::Relaxed) {
            return None;
        }
        lock(&self.recording).as_mut().map(note)
    }
}
