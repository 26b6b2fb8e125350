//! cuDNN: convolutions in NHWC by the calls of its legacy interface, on the compute stream.
//!
//! A [`Plan`] (descriptors, algorithms) is made once for each convolution and pass, and kept, up to a number of them. What
//! the library refuses is told to the caller, who has a kernel of his own.

use std::collections::HashMap;

use cudarc::cudnn::result::{self, CudnnError};
use cudarc::cudnn::sys;

use crate::cublas_lt::MAX_PLANS;
use crate::cuda::{Cuda, lock};
use crate::cudnn_plan::Plan;
use crate::{DType, Device, Tensor};

/// A convolution's sizes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Convolution {
    /// Of all operands.
    pub dtype: DType,
    /// (batch, h, w, i).
    pub x: [usize; 4],
    /// (o, kh, kw, i).
    pub w: [usize; 4],
    /// (batch, oh, ow, o).
    pub y: [usize; 4],
    /// Pixels from one window to the next.
    pub stride: usize,
    /// Rows and columns of zeros on each side.
    pub padding: usize,
    /// Pixels from one tap to the next.
    pub dilation: usize,
}

/// What is computed, from and to addresses on the device.
#[derive(Clone, Copy, Debug, Hash)]
pub(crate) enum Call {
    /// y = conv(x, w).
    Forward { y: u64, x: u64, w: u64 },
    /// y = act(conv(x, w) + bias + residual), rounded once; `bias` (o) has the convolution's dtype, `residual` is as y.
    Fused { y: u64, x: u64, w: u64, bias: u64, residual: Option<u64>, relu: bool },
    /// dx from dy and w, added to what dx holds if `accumulate` says so.
    DataGradient { dx: u64, accumulate: bool, dy: u64, w: u64 },
    /// dw from x and dy, added to what dw holds if `accumulate` says so.
    FilterGradient { dw: u64, accumulate: bool, x: u64, dy: u64 },
}

/// What a call's plan depends on, besides the convolution.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Pass {
    Forward,
    Fused { relu: bool },
    DataGradient,
    FilterGradient,
}

impl Call {
    pub fn pass(&self) -> Pass {
        match *self {
            Call::Forward { .. } => Pass::Forward,
            Call::Fused { relu, .. } => Pass::Fused { relu },
            Call::DataGradient { .. } => Pass::DataGradient,
            Call::FilterGradient { .. } => Pass::FilterGradient,
        }
    }

    /// Whether operands lie where vector loads can read them.
    fn is_aligned(&self) -> bool {
        let addresses = match *self {
            Call::Forward { y, x, w } => [y, x, w, 0, 0],
            Call::Fused { y, x, w, bias, residual, .. } => [y, x, w, bias, residual.unwrap_or(0)],
            Call::DataGradient { dx, dy, w, .. } => [dx, dy, w, 0, 0],
            Call::FilterGradient { dw, x, dy, .. } => [dw, x, dy, 0, 0],
        };
        addresses.iter().all(|a| a.is_multiple_of(16))
    }
}

/// The first version whose status codes are those of [`is_refusal`].
const OLDEST: usize = 90_000;

/// The open library of a device.
pub(crate) struct Cudnn {
    handle: sys::cudnnHandle_t,
    /// By convolution, pass, and whether factors may be rounded to TF32.
    plans: HashMap<(Convolution, Pass, bool), Plan>,
}

// SAFETY: any thread may use a handle and its descriptors, one at a time: `Cuda` keeps them behind a lock.
unsafe impl Send for Cudnn {}

impl Cuda {
    /// Enqueues a convolution without empty operands. False if the library does not do this one; nothing was written then.
    pub(crate) fn convolve(&'static self, convolution: &Convolution, call: &Call) -> bool {
        if self.has_failed() {
            return true;
        }
        if !call.is_aligned() {
            return false;
        }
        self.bind();
        match self.try_to_convolve(convolution, call) {
            Ok(done) => done,
            Err(message) => {
                self.fail(format!("{}: {message}", self.name()));
                true
            }
        }
    }

    /// The convolutions and passes that cuDNN has been asked for, in no order, and whether it does them.
    pub fn convolution_answers(&self) -> Vec<(String, bool)> {
        let cudnn = lock(&self.cudnn);
        let plans = cudnn.iter().flat_map(|cudnn| &cudnn.plans);
        plans
            .map(|((convolution, pass, tf32), plan)| {
                (format!("{pass:?} of {convolution:?}, tf32: {tf32}"), !plan.algorithms.is_empty())
            })
            .collect()
    }

    fn try_to_convolve(&'static self, convolution: &Convolution, call: &Call) -> Result<bool, String> {
        let mut cudnn = lock(&self.cudnn);
        let Cudnn { handle, plans } = match &mut *cudnn {
            Some(cudnn) => cudnn,
            none => none.insert(Cudnn::open(self)?),
        };
        let failed = |error| format!("{:?} of {convolution:?}: {}", call.pass(), text(error));
        let key = (*convolution, call.pass(), self.allows_tf32());
        if plans.len() == MAX_PLANS && !plans.contains_key(&key) {
            plans.clear();
        }
        let plan = match plans.entry(key) {
            std::collections::hash_map::Entry::Occupied(plan) => plan.into_mut(),
            std::collections::hash_map::Entry::Vacant(place) => {
                place.insert(Plan::new(*handle, convolution, call.pass(), self.allows_tf32()).map_err(failed)?)
            }
        };
        while let Some(algorithm) = plan.algorithms.first() {
            let bytes = algorithm.workspace;
            let workspace = (bytes > 0).then(|| Tensor::empty(&[bytes.div_ceil(4)], DType::I32, Device::Cuda(self)));
            let address = workspace.as_ref().map_or(0, Tensor::device_address);
            // The algorithms that are left say which is the first.
            if self.has_failed() || !self.makes(("convolution", key, call, plan.algorithms.len(), address)) {
                return Ok(true);
            }
            match plan.run(*handle, algorithm, call, address) {
                Err(error) if is_refusal(error) => drop(plan.algorithms.remove(0)),
                result => return result.map(|()| true).map_err(failed),
            }
        }
        Ok(false)
    }
}

impl Cudnn {
    fn open(cuda: &Cuda) -> Result<Self, String> {
        // SAFETY: only looks whether the library is there.
        if !unsafe { sys::is_culib_present() } {
            return Err(
                "cuDNN is missing: install it (the wheel nvidia-cudnn-cu12 or nvidia-cudnn-cu13 has it) and put \
                        the folder of libcudnn.so on LD_LIBRARY_PATH"
                    .into(),
            );
        }
        // SAFETY: the library is there.
        let version = unsafe { sys::cudnnGetVersion() };
        if version < OLDEST {
            return Err(format!("cuDNN's version is {version}, {OLDEST} (9.0) or newer is needed: update it"));
        }
        let handle = result::create_handle().map_err(text)?;
        // SAFETY: both are alive; the stream lives as long as the device.
        unsafe { result::set_stream(handle, cuda.stream().cast()) }.map_err(text)?;
        Ok(Cudnn { handle, plans: HashMap::new() })
    }
}

fn text(error: CudnnError) -> String {
    format!("cuDNN answers {:?}", error.0)
}

/// `NOT_SUPPORTED`, or one of its reasons.
pub(crate) fn is_refusal(error: CudnnError) -> bool {
    (3000..4000).contains(&(error.0 as u32))
}
