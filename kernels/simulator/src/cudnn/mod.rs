//! The stand-in of cuDNN: convolutions through the legacy API.
//!
//! **Modelled**: handles; descriptors of tensors, filters, convolutions and activations; the algorithms of
//! [`support::TABLE`] with their workspaces; forward, forward with bias, residual and ReLU, backward data and backward
//! filter of 2-D convolutions with stride, padding, dilation and groups, in packed NHWC (filter KRSC) or packed NCHW
//! (filter KCRS), f16, bf16 and f32. Sums are kept in f32 and rounded once. Factors in f32 are rounded to TF32 unless
//! the math type is `CUDNN_FMA_MATH`, and to f16 if it allows conversion: both is what the documentation lets a GPU do.
//!
//! **Refused**: what the documentation excludes (a bias of another type than x's, an activation other than ReLU and
//! identity, identity with another algorithm than `IMPLICIT_PRECOMP_GEMM`, NaN propagation, workspaces that are too
//! small), and what is not modelled: f64 and integers, sums in f16, other strides, 1-D and 3-D, flipped filters,
//! Winograd and FFT. Where the documentation is silent the stand-in is strict: every operand of a convolution with an
//! NHWC filter is aligned to 16 bytes, the bias too. The graph API (`cudnnBackend*`) is not modelled: its first call
//! answers `NOT_SUPPORTED`.
//!
//! No GPU has confirmed the stand-in yet: it does what we know of the documentation.

mod algorithm;
mod compute;
mod convolution;
mod descriptor;
mod filter_gradient;
mod problem;
pub mod support;

#[cfg(test)]
mod tests;

use cudarc::cudnn::sys::{
    cudaStream_t, cudnnBackendDescriptor_t, cudnnBackendDescriptorType_t, cudnnHandle_t, cudnnStatus_t,
};

use crate::vendor::{Handles, Refusal, Status, answer, put};

/// `CUDNN_VERSION` of cuDNN 9.21.
const VERSION: usize = 92_100;
/// `CUDART_VERSION` of CUDA 13.0.
const RUNTIME_VERSION: usize = 13_000;

/// The address of each handle's stream.
static HANDLES: Handles<usize> = Handles::new("a cuDNN handle");

impl Status for cudnnStatus_t {
    const SUCCESS: Self = Self::CUDNN_STATUS_SUCCESS;

    fn refused(refusal: &Refusal) -> Self {
        match refusal {
            Refusal::Invalid(_) => Self::CUDNN_STATUS_BAD_PARAM,
            Refusal::Unsupported(_) => Self::CUDNN_STATUS_NOT_SUPPORTED,
            Refusal::Failed(_) => Self::CUDNN_STATUS_EXECUTION_FAILED,
        }
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cudnnCreate(handle: *mut cudnnHandle_t) -> cudnnStatus_t {
    // SAFETY: the caller vouches for its pointer.
    answer("cudnnCreate", unsafe { put(handle, HANDLES.create(0)) })
}

#[unsafe(no_mangle)]
extern "C" fn cudnnDestroy(handle: cudnnHandle_t) -> cudnnStatus_t {
    answer("cudnnDestroy", HANDLES.destroy(handle).map(drop))
}

#[unsafe(no_mangle)]
extern "C" fn cudnnSetStream(handle: cudnnHandle_t, stream: cudaStream_t) -> cudnnStatus_t {
    let set = |current: &mut usize| {
        *current = stream.expose_provenance();
        Ok(())
    };
    answer("cudnnSetStream", HANDLES.update(handle, set))
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cudnnGetStream(handle: cudnnHandle_t, stream: *mut cudaStream_t) -> cudnnStatus_t {
    let current = HANDLES.get(handle).map(std::ptr::with_exposed_provenance_mut);
    // SAFETY: the caller vouches for its pointer.
    answer("cudnnGetStream", current.and_then(|current| unsafe { put(stream, current) }))
}

#[unsafe(no_mangle)]
extern "C" fn cudnnGetVersion() -> usize {
    VERSION
}

#[unsafe(no_mangle)]
extern "C" fn cudnnGetCudartVersion() -> usize {
    RUNTIME_VERSION
}

#[unsafe(no_mangle)]
extern "C" fn cudnnOpsVersionCheck() -> cudnnStatus_t {
    cudnnStatus_t::CUDNN_STATUS_SUCCESS
}

#[unsafe(no_mangle)]
extern "C" fn cudnnCnnVersionCheck() -> cudnnStatus_t {
    cudnnStatus_t::CUDNN_STATUS_SUCCESS
}

#[unsafe(no_mangle)]
extern "C" fn cudnnAdvVersionCheck() -> cudnnStatus_t {
    cudnnStatus_t::CUDNN_STATUS_SUCCESS
}

#[unsafe(no_mangle)]
extern "C" fn cudnnBackendCreateDescriptor(
    kind: cudnnBackendDescriptorType_t,
    _descriptor: *mut cudnnBackendDescriptor_t,
) -> cudnnStatus_t {
    let refusal = Refusal::Unsupported(format!("{kind:?}: the graph API is not modelled"));
    answer("cudnnBackendCreateDescriptor", Err(refusal))
}
