//! A GPU: context, streams, memory, modules. Ops launch kernels through [`crate::launch`].
//!
//! A device is opened once a process and lives as long as it. Nothing here waits for the device but what says so. A call
//! that fails is remembered ([`Cuda::check`] tells), and from then on nothing is launched: an op cannot do anything about a
//! broken driver, the step around it can.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use anyhow::{Context, Result, anyhow, bail, ensure};
use cudarc::driver::{CudaContext, CudaStream, result, sys};

use crate::cublas_lt::CublasLt;
use crate::cuda_memory::{Alloc, Allocator, Category, Usage};
use crate::cudnn::Cudnn;
use crate::graphs::{Graphs, Recording};
use crate::kernel_source::KernelSource;
use crate::launch::Modules;
use crate::prefetch::Places;
use crate::staging::{Pinned, Staging};

/// An open GPU.
pub struct Cuda {
    context: Arc<CudaContext>,
    compute: Arc<CudaStream>,
    copy: Arc<CudaStream>,
    capability: u32,
    pub(crate) allocator: Mutex<Allocator>,
    pub(crate) is_allocating_state: AtomicBool,
    allows_tf32: AtomicBool,
    pub(crate) modules: Mutex<Modules>,
    /// `None` until the first convolution.
    pub(crate) cudnn: Mutex<Option<Cudnn>>,
    choices: Mutex<HashMap<String, String>>,
    pub(crate) staging: Mutex<Staging>,
    pub(crate) places: Mutex<Places>,
    pub(crate) graphs: Mutex<Graphs>,
    /// The pass through a step that is under way in [`Self::as_graph`].
    pub(crate) recording: Mutex<Option<Recording>>,
    /// Pinned memory for results, not in use.
    pub(crate) read_backs: Mutex<Vec<Pinned>>,
    /// Opened at its first use.
    pub(crate) cublas_lt: Mutex<Option<CublasLt>>,
    error: Mutex<Option<String>>,
    has_failed: AtomicBool,
}

impl Cuda {
    /// Whether a CUDA driver's library is there.
    pub fn is_driver_present() -> bool {
        // SAFETY: only looks for the library.
        unsafe { sys::is_culib_present() }
    }

    /// Opens the GPU with this number. Errors say what is missing: driver, GPU, or a new enough one.
    pub fn open(ordinal: usize, alloc: Alloc) -> Result<&'static Self> {
        ensure!(
            Self::is_driver_present(),
            "no CUDA driver: libcuda.so.1 is not found. Install NVIDIA's driver, or run with --device cpu"
        );
        let count =
            CudaContext::device_count().map_err(|e| anyhow!("the CUDA driver does not start: {}", text(e)))?;
        ensure!(ordinal < usize::try_from(count)?, "there is no GPU {ordinal}: the driver knows {count}");
        let context = CudaContext::new(ordinal).map_err(|e| anyhow!("GPU {ordinal} does not open: {}", text(e)))?;
        let (major, minor) = context.compute_capability()?;
        let name = context.name()?;
        ensure!(major >= 8, "{name} has compute capability {major}.{minor}; 8.0 (Ampere) or newer is needed");
        ensure!(context.has_async_alloc(), "{name}: the driver has no stream-ordered memory; update it");
        let cuda = Cuda {
            compute: context.new_stream().context("no compute stream")?,
            copy: context.new_stream().context("no copy stream")?,
            context,
            capability: u32::try_from(10 * major + minor)?,
            allocator: Mutex::new(Allocator::new(alloc)),
            is_allocating_state: AtomicBool::new(false),
            allows_tf32: AtomicBool::new(false),
            modules: Mutex::default(),
            cudnn: Mutex::default(),
            choices: Mutex::default(),
            staging: Mutex::default(),
            places: Mutex::default(),
            graphs: Mutex::default(),
            recording: Mutex::default(),
            read_backs: Mutex::default(),
            cublas_lt: Mutex::default(),
            error: Mutex::default(),
            has_failed: AtomicBool::new(false),
        };
        Ok(Box::leak(Box::new(cuda)))
    }

    /// The number under which the driver knows it.
    pub fn ordinal(&self) -> usize {
        self.context.ordinal()
    }

    /// Its name, for people.
    pub fn name(&self) -> String {
        self.context.name().unwrap_or_else(|_| "a GPU without a name".into())
    }

    /// 90 for 9.0.
    pub fn capability(&self) -> u32 {
        self.capability
    }

    /// Where everything is computed, in order.
    pub(crate) fn stream(&self) -> sys::CUstream {
        self.compute.cu_stream()
    }

    /// The stream of [`Self::stream`].
    pub(crate) fn compute(&self) -> &Arc<CudaStream> {
        &self.compute
    }

    /// The stream on which the next batch comes.
    pub(crate) fn copy(&self) -> &Arc<CudaStream> {
        &self.copy
    }

    /// Makes the device the calling thread's.
    pub(crate) fn bind(&self) {
        thread_local!(static BOUND: std::cell::Cell<*const Cuda> = const { std::cell::Cell::new(std::ptr::null()) });
        if !std::ptr::eq(BOUND.get(), self) {
            self.remember(self.context.bind_to_thread(), || "the context".into());
            BOUND.set(self);
        }
    }

    /// The first call that failed, as an error. Does not wait: what the device has not reached is not known yet.
    pub fn check(&self) -> Result<()> {
        match &*lock(&self.error) {
            None => Ok(()),
            Some(message) => bail!("{message}"),
        }
    }

    /// Whether a call has failed: then nothing is launched any more.
    pub(crate) fn has_failed(&self) -> bool {
        self.has_failed.load(Ordering::Relaxed)
    }

    /// Keeps the first failure.
    pub(crate) fn fail(&self, message: String) {
        self.has_failed.store(true, Ordering::Relaxed);
        lock(&self.error).get_or_insert(message);
    }

    /// The value of a driver call; its failure is kept with what was done.
    pub(crate) fn remember<T>(
        &self,
        result: Result<T, result::DriverError>,
        what: impl FnOnce() -> String,
    ) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(error) => {
                self.fail(format!("{}: {}: {}", self.name(), what(), text(error)));
                None
            }
        }
    }

    /// Waits until everything enqueued is done, and tells what failed.
    pub fn synchronize(&self) -> Result<()> {
        self.bind();
        self.remember(self.compute.synchronize(), || "waiting for the device".into());
        self.check()
    }

    /// Launches that role's variant from now on, of all ops; `None`: the first declared.
    pub fn choose(&self, role: &str, variant: Option<&str>) {
        let mut choices = lock(&self.choices);
        match variant {
            Some(variant) => choices.insert(role.into(), variant.into()),
            None => choices.remove(role),
        };
    }

    /// The variant of a role that [`Self::choose`] asked for.
    pub fn chosen(&self, role: &str) -> Option<String> {
        lock(&self.choices).get(role).cloned()
    }

    /// The variant of a role that is launched now: the chosen one, or the first declared.
    #[track_caller]
    pub fn variant(&self, source: &KernelSource, role: &str) -> &'static str {
        self.variant_of(std::slice::from_ref(source), role)
    }

    /// [`Self::variant`] of a role whose variants lie in several files.
    #[track_caller]
    pub fn variant_of(&self, sources: &[KernelSource], role: &str) -> &'static str {
        let declarations = sources.iter().flat_map(KernelSource::declarations);
        let mut variants = declarations.filter(|d| d.role == role).map(|d| d.variant);
        let variant = match self.chosen(role) {
            None => variants.next(),
            Some(chosen) => variants.find(|v| *v == chosen),
        };
        variant.unwrap_or_else(|| {
            let names: Vec<&str> = sources.iter().map(|source| source.name).collect();
            panic!("{}.cu declares no such variant of {role}", names.join(".cu, "))
        })
    }

    /// Whether products and convolutions of f32 tensors may round their factors to TF32 (10 bits) from now on.
    pub fn allow_tf32(&self, allow: bool) {
        self.allows_tf32.store(allow, Ordering::Relaxed);
    }

    /// What [`Self::allow_tf32`] was told; not at first.
    pub fn allows_tf32(&self) -> bool {
        self.allows_tf32.load(Ordering::Relaxed)
    }

    /// What is allocated inside of `make` counts as state: it outlives steps. Its contents are made at once.
    pub fn allocating_state<R>(&self, make: impl FnOnce() -> R) -> R {
        let before = self.is_allocating_state.swap(true, Ordering::Relaxed);
        let made = make();
        self.is_allocating_state.store(before, Ordering::Relaxed);
        made
    }

    /// Bytes by category.
    pub fn usage(&self) -> Usage {
        lock(&self.allocator).usage
    }

    /// Whether tensors have pieces of what is kept, so that equal steps get equal addresses.
    pub fn has_arena(&self) -> bool {
        lock(&self.allocator).kind == Alloc::Arena
    }

    /// Waits for the device, and gives back what is kept for later steps: graphs, the places of batches, unused memory of the
    /// arenas.
    pub fn release(&self) {
        self.bind();
        // A batch that no step received may still be on its way.
        for stream in [&self.copy, &self.compute] {
            self.remember(stream.synchronize(), || "waiting for the device".into());
        }
        lock(&self.graphs).clear();
        *lock(&self.places) = Places::default();
        let trimmed = lock(&self.allocator).trim(self.stream());
        self.remember(trimmed, || "freeing device memory".into());
    }
}

impl std::fmt::Debug for Cuda {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Cuda({})", self.ordinal())
    }
}

/// Device memory of a tensor, given back when it is dropped.
pub(crate) struct DeviceBuffer {
    cuda: &'static Cuda,
    /// 0 after a failure.
    address: u64,
    bytes: usize,
    category: Category,
}

impl DeviceBuffer {
    pub(crate) fn new(cuda: &'static Cuda, bytes: usize) -> Self {
        cuda.bind();
        let state = cuda.is_allocating_state.load(Ordering::Relaxed);
        let category = if state { Category::State } else { Category::Step };
        let mut address = 0;
        if !cuda.has_failed() {
            let mut allocator = lock(&cuda.allocator);
            let allocated = allocator.allocate(bytes, category, cuda.stream());
            let usage = allocator.usage;
            drop(allocator);
            let what = || {
                format!(
                    "allocating {bytes} bytes beside {} of state and {} of this step (use a smaller batch or images, or \
                     --fp16)",
                    usage.state, usage.step
                )
            };
            address = cuda.remember(allocated, what).unwrap_or(0);
        }
        DeviceBuffer { cuda, address, bytes, category }
    }

    pub(crate) fn address(&self) -> u64 {
        self.address
    }

    /// Sets every byte, when the compute stream gets there.
    pub(crate) fn fill(&self, byte: u8, range: std::ops::Range<usize>) {
        if self.address == 0 || range.is_empty() || self.cuda.has_failed() {
            return;
        }
        self.cuda.bind();
        assert!(range.end <= self.bytes, "fill: {range:?} of {} bytes", self.bytes);
        let address = self.address + range.start as u64;
        if !self.cuda.makes(("fill", address, byte, range.len())) {
            return;
        }
        // SAFETY: the range lies in this allocation, which is alive until after whatever is enqueued now.
        let filled = unsafe { result::memset_d8_async(address, byte, range.len(), self.cuda.stream()) };
        self.cuda.remember(filled, || "filling memory".into());
    }
}

impl Drop for DeviceBuffer {
    fn drop(&mut self) {
        if self.address == 0 {
            return;
        }
        self.cuda.bind();
        let freed = lock(&self.cuda.allocator).free(self.address, self.bytes, self.category, self.cuda.stream());
        self.cuda.remember(freed, || "freeing device memory".into());
    }
}

/// A lock whose data stays usable after a panic elsewhere.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// `CUDA_ERROR_OUT_OF_MEMORY (out of memory)`.
fn text(error: result::DriverError) -> String {
    let part = |text: Result<&std::ffi::CStr, _>| {
        text.map_or_else(|_: result::DriverError| String::new(), |t| t.to_string_lossy().into_owned())
    };
    format!("{} ({})", part(error.error_name()), part(error.error_string()))
}
