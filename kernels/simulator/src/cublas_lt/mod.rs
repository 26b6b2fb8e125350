//! The stand-in of cuBLASLt: D = epilogue(alpha op(A) op(B) + beta C), in column-major matrices.
//!
//! **Modelled**: handles, descriptors, layouts, preferences and their attributes; the heuristic; `cublasLtMatmul` in the
//! combinations of types of [`support::TABLE`], with transposes, leading dimensions, strided batches, C in place or
//! apart, scalars on the host or the device, and every epilogue of that table. Sums are kept in f32 (f64 for f64) and
//! rounded once. GELU is the tanh form. The ReLU mask holds bit i of column j at `i + j * ld`, lowest bit first.
//!
//! **Refused**: what the documentation excludes (dimensions, leading dimensions, alignments, workspaces that the
//! algorithm was not chosen for, a bias of another type than D's), and what is not modelled: integer, complex and 8-bit
//! types, row-major and tiled orders, sums in f16, per-tensor scales. Where the documentation is silent the stand-in is
//! strict: C may not be null, the epilogue's pointers are set before the heuristic is asked, auxiliary buffers are aligned
//! to 16 bytes, and f64 has no auxiliary or gradient epilogues.
//!
//! No GPU has confirmed the stand-in yet: it does what we know of the documentation.

mod compute;
mod descriptor;
mod epilogue;
mod matmul;
mod problem;
pub mod support;

#[cfg(test)]
mod tests;

use cudarc::cublaslt::sys::{cublasLtHandle_t, cublasStatus_t};

use crate::vendor::{Handles, Refusal, Status, answer, put};

/// `CUBLAS_VERSION` of CUDA 13.0.
const VERSION: usize = 130_000;
/// `CUDART_VERSION` of CUDA 13.0.
const RUNTIME_VERSION: usize = 13_000;

static HANDLES: Handles<()> = Handles::new("a cuBLASLt handle");

impl Status for cublasStatus_t {
    const SUCCESS: Self = Self::CUBLAS_STATUS_SUCCESS;

    fn refused(refusal: &Refusal) -> Self {
        match refusal {
            Refusal::Invalid(_) => Self::CUBLAS_STATUS_INVALID_VALUE,
            Refusal::Unsupported(_) => Self::CUBLAS_STATUS_NOT_SUPPORTED,
            Refusal::Failed(_) => Self::CUBLAS_STATUS_EXECUTION_FAILED,
        }
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cublasLtCreate(handle: *mut cublasLtHandle_t) -> cublasStatus_t {
    // SAFETY: the caller vouches for its pointer.
    answer("cublasLtCreate", unsafe { put(handle, HANDLES.create(())) })
}

#[unsafe(no_mangle)]
extern "C" fn cublasLtDestroy(handle: cublasLtHandle_t) -> cublasStatus_t {
    answer("cublasLtDestroy", HANDLES.destroy(handle).map(drop))
}

#[unsafe(no_mangle)]
extern "C" fn cublasLtGetVersion() -> usize {
    VERSION
}

#[unsafe(no_mangle)]
extern "C" fn cublasLtGetCudartVersion() -> usize {
    RUNTIME_VERSION
}
