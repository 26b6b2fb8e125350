//! Which algorithms there are, and what workspace they need.

use std::ffi::c_int;

use cudarc::cudnn::sys::{
    cudnnConvolutionBwdDataAlgo_t, cudnnConvolutionBwdDataAlgoPerf_t, cudnnConvolutionBwdFilterAlgo_t,
    cudnnConvolutionBwdFilterAlgoPerf_t, cudnnConvolutionDescriptor_t, cudnnConvolutionFwdAlgo_t,
    cudnnConvolutionFwdAlgoPerf_t, cudnnDeterminism_t, cudnnFilterDescriptor_t, cudnnHandle_t, cudnnStatus_t,
    cudnnTensorDescriptor_t,
};

use super::HANDLES;
use super::descriptor::{CONVOLUTIONS, FILTERS, TENSORS, known};
use super::problem::{Pass, Problem};
use super::support::{Algorithm, Row, algorithms, check, check_algorithm, listed_math};
use crate::vendor::{Refusal, answer, put, valid};

/// What a convolution's descriptors say; `x` is the larger image, `y` the smaller, in whatever direction.
pub(super) fn problem(
    pass: Pass,
    handle: cudnnHandle_t,
    x: cudnnTensorDescriptor_t,
    w: cudnnFilterDescriptor_t,
    convolution: cudnnConvolutionDescriptor_t,
    y: cudnnTensorDescriptor_t,
) -> Result<Problem, Refusal> {
    HANDLES.get(handle)?;
    let (x, y) = (known(&TENSORS, x, "x")?, known(&TENSORS, y, "y")?);
    let (w, convolution) = (known(&FILTERS, w, "the filter")?, known(&CONVOLUTIONS, convolution, "the convolution")?);
    check(pass, &x, &w, &convolution, &y)
}

fn determinism(row: &Row) -> cudnnDeterminism_t {
    match row.deterministic {
        true => cudnnDeterminism_t::CUDNN_DETERMINISTIC,
        false => cudnnDeterminism_t::CUDNN_NON_DETERMINISTIC,
    }
}

/// The queries of one pass. The stand-in measures nothing: what `Find` would time is listed in the same order.
macro_rules! queries {
    (
        $pass:ident, $algo:ty, $perf:ident, ($x:ident, $w:ident, $y:ident),
        lists ($($list:ident)*), workspace $workspace:ident, ($first:ident: $first_type:ty, $second:ident: $second_type:ty),
        $last:ident: $last_type:ty
    ) => {
        $(#[unsafe(no_mangle)]
        unsafe extern "C" fn $list(
            handle: cudnnHandle_t,
            $first: $first_type,
            $second: $second_type,
            convolution: cudnnConvolutionDescriptor_t,
            $last: $last_type,
            requested: c_int,
            returned: *mut c_int,
            results: *mut $perf,
        ) -> cudnnStatus_t {
            let list = || {
                valid(requested >= 1, || format!("{requested} algorithms requested, expected at least 1"))?;
                let mut problem = problem(Pass::$pass, handle, $x, $w, convolution, $y)?;
                problem.math = listed_math(problem.math);
                let mut count = 0;
                for row in algorithms(&problem).take(requested as usize) {
                    let Algorithm::$pass(algo) = row.algorithm else { continue };
                    let result = $perf {
                        algo,
                        status: cudnnStatus_t::CUDNN_STATUS_SUCCESS,
                        time: -1.0,
                        memory: row.workspace_bytes(&problem) as usize,
                        determinism: determinism(row),
                        mathType: problem.math,
                        reserved: [0; 3],
                    };
                    // SAFETY: room for as many results as requested, as the caller vouches.
                    unsafe { put(results.wrapping_add(count), result)? };
                    count += 1;
                }
                // SAFETY: the caller vouches for its pointer.
                unsafe { put(returned, count as c_int) }
            };
            answer(stringify!($list), list())
        })*

        #[unsafe(no_mangle)]
        unsafe extern "C" fn $workspace(
            handle: cudnnHandle_t,
            $first: $first_type,
            $second: $second_type,
            convolution: cudnnConvolutionDescriptor_t,
            $last: $last_type,
            algo: $algo,
            bytes: *mut usize,
        ) -> cudnnStatus_t {
            let ask = || {
                let problem = problem(Pass::$pass, handle, $x, $w, convolution, $y)?;
                let row = check_algorithm(&problem, Algorithm::$pass(algo))?;
                // SAFETY: the caller vouches for its pointer.
                unsafe { put(bytes, row.workspace_bytes(&problem) as usize) }
            };
            answer(stringify!($workspace), ask())
        }
    };
}

queries! {
    Forward, cudnnConvolutionFwdAlgo_t, cudnnConvolutionFwdAlgoPerf_t, (x, w, y),
    lists (cudnnGetConvolutionForwardAlgorithm_v7 cudnnFindConvolutionForwardAlgorithm),
    workspace cudnnGetConvolutionForwardWorkspaceSize,
    (x: cudnnTensorDescriptor_t, w: cudnnFilterDescriptor_t), y: cudnnTensorDescriptor_t
}

queries! {
    BackwardData, cudnnConvolutionBwdDataAlgo_t, cudnnConvolutionBwdDataAlgoPerf_t, (dx, w, dy),
    lists (cudnnGetConvolutionBackwardDataAlgorithm_v7 cudnnFindConvolutionBackwardDataAlgorithm),
    workspace cudnnGetConvolutionBackwardDataWorkspaceSize,
    (w: cudnnFilterDescriptor_t, dy: cudnnTensorDescriptor_t), dx: cudnnTensorDescriptor_t
}

queries! {
    BackwardFilter, cudnnConvolutionBwdFilterAlgo_t, cudnnConvolutionBwdFilterAlgoPerf_t, (x, dw, dy),
    lists (cudnnGetConvolutionBackwardFilterAlgorithm_v7 cudnnFindConvolutionBackwardFilterAlgorithm),
    workspace cudnnGetConvolutionBackwardFilterWorkspaceSize,
    (x: cudnnTensorDescriptor_t, dy: cudnnTensorDescriptor_t), dw: cudnnFilterDescriptor_t
}
