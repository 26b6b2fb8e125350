//! The convolutions themselves: from arguments to calls on the handle's stream.

use std::ffi::c_void;
use std::sync::Arc;

use cudarc::cudnn::sys::{
    cudnnActivationDescriptor_t, cudnnConvolutionBwdDataAlgo_t, cudnnConvolutionBwdFilterAlgo_t,
    cudnnConvolutionDescriptor_t, cudnnConvolutionFwdAlgo_t, cudnnFilterDescriptor_t, cudnnHandle_t, cudnnStatus_t,
    cudnnTensorDescriptor_t,
};

use super::HANDLES;
use super::algorithm::problem;
use super::compute::{Convolution, Output};
use super::descriptor::{ACTIVATIONS, TENSORS, known};
use super::filter_gradient::FilterGradient;
use super::problem::{Pass, Problem};
use super::support::{Algorithm, Row, check_addresses, check_algorithm, check_fused, check_workspace};
use crate::driver::library::{LibraryCall, Region, submit};
use crate::memory::Memory;
use crate::vendor::{Refusal, answer, take};

/// Descriptors and algorithm of a convolution.
#[derive(Clone, Copy, Debug)]
pub(super) struct Arguments {
    pub handle: cudnnHandle_t,
    /// Of x or dx.
    pub x: cudnnTensorDescriptor_t,
    /// Of w or dw.
    pub w: cudnnFilterDescriptor_t,
    pub convolution: cudnnConvolutionDescriptor_t,
    /// Of y or dy.
    pub y: cudnnTensorDescriptor_t,
    pub algorithm: Algorithm,
    pub workspace: (u64, u64),
}

/// What the fused forward pass adds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fused {
    pub z: cudnnTensorDescriptor_t,
    pub bias: cudnnTensorDescriptor_t,
    pub activation: cudnnActivationDescriptor_t,
    pub z_address: u64,
    pub bias_address: u64,
}

impl Arguments {
    fn check(&self, pass: Pass) -> Result<(Problem, &'static Row), Refusal> {
        let problem = problem(pass, self.handle, self.x, self.w, self.convolution, self.y)?;
        let row = check_algorithm(&problem, self.algorithm)?;
        Ok((problem, row))
    }

    /// Puts a call together; the workspace is written too.
    fn call(
        &self,
        name: &'static str,
        (problem, row): (&Problem, &Row),
        reads: Vec<Region>,
        output: Region,
        run: impl Fn(&Memory) + Send + Sync + 'static,
    ) -> Result<LibraryCall, Refusal> {
        let (address, bytes) = self.workspace;
        let used = check_workspace(row, problem, address, bytes)?;
        let mut writes = vec![output];
        if used > 0 {
            writes.push(Region { address, rows: 1, row_bytes: used, pitch: used });
        }
        Ok(LibraryCall { name, reads, writes, run: Arc::new(run) })
    }
}

/// y = alpha conv(x, w) + beta y.
pub(super) fn forward(
    arguments: &Arguments,
    [x, w, y]: [u64; 3],
    [alpha, beta]: [f32; 2],
) -> Result<LibraryCall, Refusal> {
    let (problem, row) = arguments.check(Pass::Forward)?;
    check_addresses(&problem, &[("x", x), ("the filter", w), ("y", y)])?;
    let mut reads = vec![problem.x_region(x), problem.w_region(w)];
    let residual = (beta != 0.0).then_some((beta, y));
    reads.extend(residual.map(|(_, address)| problem.y_region(address)));
    let output = Output { address: y, alpha, residual, bias: None, relu: false };
    let convolution = Convolution { problem, input: x, filter: w, output };
    let run = move |memory: &Memory| convolution.run(memory);
    arguments.call("cudnnConvolutionForward", (&problem, row), reads, problem.y_region(y), run)
}

/// y = act(alpha conv(x, w) + alpha_z z + bias).
pub(super) fn fused_forward(
    arguments: &Arguments,
    fused: &Fused,
    [x, w, y]: [u64; 3],
    [alpha, alpha_z]: [f32; 2],
) -> Result<LibraryCall, Refusal> {
    let (problem, row) = arguments.check(Pass::Forward)?;
    let tensors = [
        known(&TENSORS, arguments.x, "x")?,
        known(&TENSORS, fused.z, "z")?,
        known(&TENSORS, fused.bias, "the bias")?,
        known(&TENSORS, arguments.y, "y")?,
    ];
    let relu = check_fused(row, tensors.each_ref(), &known(&ACTIVATIONS, fused.activation, "the activation")?)?;
    let residual = (alpha_z != 0.0).then_some((alpha_z, fused.z_address));
    let operands = [("x", x), ("the filter", w), ("the bias", fused.bias_address), ("y", y)];
    check_addresses(&problem, &operands)?;
    check_addresses(&problem, &residual.map(|(_, z)| ("z", z)).into_iter().collect::<Vec<_>>())?;
    let mut reads = vec![problem.x_region(x), problem.w_region(w), problem.bias_region(fused.bias_address)];
    reads.extend(residual.map(|(_, address)| problem.y_region(address)));
    let output = Output { address: y, alpha, residual, bias: Some(fused.bias_address), relu };
    let convolution = Convolution { problem, input: x, filter: w, output };
    let run = move |memory: &Memory| convolution.run(memory);
    arguments.call("cudnnConvolutionBiasActivationForward", (&problem, row), reads, problem.y_region(y), run)
}

/// dx = alpha conv_transposed(dy, w) + beta dx.
pub(super) fn backward_data(
    arguments: &Arguments,
    [w, dy, dx]: [u64; 3],
    [alpha, beta]: [f32; 2],
) -> Result<LibraryCall, Refusal> {
    let (problem, row) = arguments.check(Pass::BackwardData)?;
    check_addresses(&problem, &[("the filter", w), ("dy", dy), ("dx", dx)])?;
    let mut reads = vec![problem.y_region(dy), problem.w_region(w)];
    let residual = (beta != 0.0).then_some((beta, dx));
    reads.extend(residual.map(|(_, address)| problem.x_region(address)));
    let output = Output { address: dx, alpha, residual, bias: None, relu: false };
    let convolution = Convolution { problem, input: dy, filter: w, output };
    let run = move |memory: &Memory| convolution.run(memory);
    arguments.call("cudnnConvolutionBackwardData", (&problem, row), reads, problem.x_region(dx), run)
}

/// dw = alpha sum(dy x) + beta dw.
pub(super) fn backward_filter(
    arguments: &Arguments,
    [x, dy, dw]: [u64; 3],
    [alpha, beta]: [f32; 2],
) -> Result<LibraryCall, Refusal> {
    let (problem, row) = arguments.check(Pass::BackwardFilter)?;
    check_addresses(&problem, &[("x", x), ("dy", dy), ("dw", dw)])?;
    let mut reads = vec![problem.x_region(x), problem.y_region(dy)];
    if beta != 0.0 {
        reads.push(problem.w_region(dw));
    }
    let gradient = FilterGradient { problem, x, dy, dw, alpha, beta };
    let run = move |memory: &Memory| gradient.run(memory);
    arguments.call("cudnnConvolutionBackwardFilter", (&problem, row), reads, problem.w_region(dw), run)
}

/// # Safety
/// Both are null or hold an f32.
unsafe fn scalars(first: *const c_void, second: *const c_void) -> Result<[f32; 2], Refusal> {
    // SAFETY: the caller vouches for them.
    unsafe { Ok([take(first.cast(), "alpha")?, take(second.cast(), "the second scalar")?]) }
}

fn address<T>(pointer: *const T) -> u64 {
    pointer.addr() as u64
}

/// Submits a call to the handle's stream.
fn run(name: &'static str, handle: cudnnHandle_t, call: Result<LibraryCall, Refusal>) -> cudnnStatus_t {
    let submitted = call.and_then(|call| {
        let stream = std::ptr::with_exposed_provenance_mut(HANDLES.get(handle)?);
        submit(stream, call).map_err(Refusal::Failed)
    });
    answer(name, submitted)
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cudnnConvolutionForward(
    handle: cudnnHandle_t,
    alpha: *const c_void,
    x_desc: cudnnTensorDescriptor_t,
    x: *const c_void,
    w_desc: cudnnFilterDescriptor_t,
    w: *const c_void,
    convolution: cudnnConvolutionDescriptor_t,
    algo: cudnnConvolutionFwdAlgo_t,
    workspace: *mut c_void,
    workspace_bytes: usize,
    beta: *const c_void,
    y_desc: cudnnTensorDescriptor_t,
    y: *mut c_void,
) -> cudnnStatus_t {
    let algorithm = Algorithm::Forward(algo);
    let workspace = (address(workspace), workspace_bytes as u64);
    let arguments = Arguments { handle, x: x_desc, w: w_desc, convolution, y: y_desc, algorithm, workspace };
    // SAFETY: the caller vouches for its pointers.
    let scalars = unsafe { scalars(alpha, beta) };
    let call = scalars.and_then(|scalars| forward(&arguments, [address(x), address(w), address(y)], scalars));
    run("cudnnConvolutionForward", handle, call)
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cudnnConvolutionBiasActivationForward(
    handle: cudnnHandle_t,
    alpha: *const c_void,
    x_desc: cudnnTensorDescriptor_t,
    x: *const c_void,
    w_desc: cudnnFilterDescriptor_t,
    w: *const c_void,
    convolution: cudnnConvolutionDescriptor_t,
    algo: cudnnConvolutionFwdAlgo_t,
    workspace: *mut c_void,
    workspace_bytes: usize,
    alpha_z: *const c_void,
    z_desc: cudnnTensorDescriptor_t,
    z: *const c_void,
    bias_desc: cudnnTensorDescriptor_t,
    bias: *const c_void,
    activation: cudnnActivationDescriptor_t,
    y_desc: cudnnTensorDescriptor_t,
    y: *mut c_void,
) -> cudnnStatus_t {
    let algorithm = Algorithm::Forward(algo);
    let workspace = (address(workspace), workspace_bytes as u64);
    let arguments = Arguments { handle, x: x_desc, w: w_desc, convolution, y: y_desc, algorithm, workspace };
    let fused = Fused { z: z_desc, bias: bias_desc, activation, z_address: address(z), bias_address: address(bias) };
    // SAFETY: the caller vouches for its pointers.
    let scalars = unsafe { scalars(alpha, alpha_z) };
    let operands = [address(x), address(w), address(y)];
    let call = scalars.and_then(|scalars| fused_forward(&arguments, &fused, operands, scalars));
    run("cudnnConvolutionBiasActivationForward", handle, call)
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cudnnConvolutionBackwardData(
    handle: cudnnHandle_t,
    alpha: *const c_void,
    w_desc: cudnnFilterDescriptor_t,
    w: *const c_void,
    dy_desc: cudnnTensorDescriptor_t,
    dy: *const c_void,
    convolution: cudnnConvolutionDescriptor_t,
    algo: cudnnConvolutionBwdDataAlgo_t,
    workspace: *mut c_void,
    workspace_bytes: usize,
    beta: *const c_void,
    dx_desc: cudnnTensorDescriptor_t,
    dx: *mut c_void,
) -> cudnnStatus_t {
    let algorithm = Algorithm::BackwardData(algo);
    let workspace = (address(workspace), workspace_bytes as u64);
    let arguments = Arguments { handle, x: dx_desc, w: w_desc, convolution, y: dy_desc, algorithm, workspace };
    // SAFETY: the caller vouches for its pointers.
    let scalars = unsafe { scalars(alpha, beta) };
    let call = scalars.and_then(|scalars| backward_data(&arguments, [address(w), address(dy), address(dx)], scalars));
    run("cudnnConvolutionBackwardData", handle, call)
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cudnnConvolutionBackwardFilter(
    handle: cudnnHandle_t,
    alpha: *const c_void,
    x_desc: cudnnTensorDescriptor_t,
    x: *const c_void,
    dy_desc: cudnnTensorDescriptor_t,
    dy: *const c_void,
    convolution: cudnnConvolutionDescriptor_t,
    algo: cudnnConvolutionBwdFilterAlgo_t,
    workspace: *mut c_void,
    workspace_bytes: usize,
    beta: *const c_void,
    dw_desc: cudnnFilterDescriptor_t,
    dw: *mut c_void,
) -> cudnnStatus_t {
    let algorithm = Algorithm::BackwardFilter(algo);
    let workspace = (address(workspace), workspace_bytes as u64);
    let arguments = Arguments { handle, x: x_desc, w: dw_desc, convolution, y: dy_desc, algorithm, workspace };
    // SAFETY: the caller vouches for its pointers.
    let scalars = unsafe { scalars(alpha, beta) };
    let call =
        scalars.and_then(|scalars| backward_filter(&arguments, [address(x), address(dy), address(dw)], scalars));
    run("cudnnConvolutionBackwardFilter", handle, call)
}
