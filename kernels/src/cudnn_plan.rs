//! How cuDNN does a convolution: its descriptors, and its algorithms, the fastest first.

use std::ffi::{c_int, c_void};
use std::ptr::{from_ref, with_exposed_provenance, with_exposed_provenance_mut};

use cudarc::cudnn::result::{self, CudnnError};
use cudarc::cudnn::sys;
use sys::cudnnConvolutionBwdDataAlgo_t as DataAlgorithm;
use sys::cudnnConvolutionBwdFilterAlgo_t as FilterAlgorithm;
use sys::cudnnConvolutionFwdAlgo_t as ForwardAlgorithm;

use crate::DType;
use crate::cudnn::{Call, Convolution, Pass, is_refusal};

/// Descriptors live as long as the process, as plans do.
pub(crate) struct Plan {
    x: sys::cudnnTensorDescriptor_t,
    w: sys::cudnnFilterDescriptor_t,
    y: sys::cudnnTensorDescriptor_t,
    bias: sys::cudnnTensorDescriptor_t,
    convolution: sys::cudnnConvolutionDescriptor_t,
    activation: sys::cudnnActivationDescriptor_t,
    /// Those that give equal bits for equal operands and have not been refused, as the library's heuristic orders them.
    pub algorithms: Vec<Algorithm>,
}

pub(crate) struct Algorithm {
    number: Number,
    /// Bytes that it needs.
    pub workspace: usize,
}

enum Number {
    Forward(ForwardAlgorithm),
    Data(DataAlgorithm),
    Filter(FilterAlgorithm),
}

/// Beyond this many bytes of workspace an algorithm costs more than it gains: they are activations that do not fit.
const MOST_WORKSPACE: usize = 1 << 30;

/// More than any pass has.
const MOST_ALGORITHMS: usize = 16;

impl Plan {
    pub fn new(
        handle: sys::cudnnHandle_t,
        convolution: &Convolution,
        pass: Pass,
        allows_tf32: bool,
    ) -> Result<Self, CudnnError> {
        let c = convolution;
        let dtype = data_type(c.dtype);
        let relu = pass == (Pass::Fused { relu: true });
        let mut plan = Plan {
            x: tensor(dtype, c.x)?,
            w: filter(dtype, c.w)?,
            y: tensor(dtype, c.y)?,
            bias: tensor(dtype, [1, 1, 1, c.w[0]])?,
            convolution: geometry(c, allows_tf32)?,
            activation: activation(relu)?,
            algorithms: Vec::new(),
        };
        plan.algorithms = match plan.find(handle, pass) {
            Err(error) if is_refusal(error) => Vec::new(),
            found => found?,
        };
        Ok(plan)
    }

    fn find(&self, handle: sys::cudnnHandle_t, pass: Pass) -> Result<Vec<Algorithm>, CudnnError> {
        let Plan { x, w, y, convolution, .. } = *self;
        macro_rules! listed {
            ($list:ident($first:expr, $second:expr, $third:expr), $kind:ident) => {{
                let mut results = Vec::with_capacity(MOST_ALGORITHMS);
                let mut count = 0;
                // SAFETY: the descriptors are alive and set; there is room for as many results as the call says, and it
                // writes `count` of them.
                unsafe {
                    let (most, to) = (MOST_ALGORITHMS as c_int, results.as_mut_ptr());
                    result::$list(handle, $first, $second, convolution, $third, most, &mut count, to)?;
                    results.set_len(count as usize);
                }
                let works = |status, determinism, memory| {
                    status == sys::cudnnStatus_t::CUDNN_STATUS_SUCCESS
                        && determinism == sys::cudnnDeterminism_t::CUDNN_DETERMINISTIC
                        && memory <= MOST_WORKSPACE
                };
                let found = results.iter().filter(|r| works(r.status, r.determinism, r.memory));
                found.map(|r| Algorithm { number: Number::$kind(r.algo), workspace: r.memory }).collect()
            }};
        }
        let mut algorithms: Vec<Algorithm> = match pass {
            Pass::Forward | Pass::Fused { .. } => listed!(get_convolution_forward_algorithm(x, w, y), Forward),
            Pass::DataGradient => listed!(get_convolution_backward_data_algorithm(w, y, x), Data),
            Pass::FilterGradient => listed!(get_convolution_backward_filter_algorithm(x, y, w), Filter),
        };
        if pass == (Pass::Fused { relu: false }) {
            // The only one that the documentation allows without an activation.
            const ALLOWED: ForwardAlgorithm = ForwardAlgorithm::CUDNN_CONVOLUTION_FWD_ALGO_IMPLICIT_PRECOMP_GEMM;
            algorithms.retain(|a| matches!(a.number, Number::Forward(ALLOWED)));
        }
        Ok(algorithms)
    }

    /// Enqueues a call of the plan's pass. `workspace` is the address of as many bytes as the algorithm needs.
    pub fn run(
        &self,
        handle: sys::cudnnHandle_t,
        algorithm: &Algorithm,
        call: &Call,
        workspace: u64,
    ) -> Result<(), CudnnError> {
        let conv = self.convolution;
        let (one, zero) = (from_ref(&1.0f32).cast::<c_void>(), from_ref(&0.0f32).cast::<c_void>());
        let factor = |there: bool| if there { one } else { zero };
        let (space, bytes) = (output(workspace), algorithm.workspace);
        // SAFETY: handle and descriptors are alive, and say what lies at the addresses; the caller keeps these alive until
        // what is enqueued later.
        unsafe {
            match (*call, &algorithm.number) {
                (Call::Forward { y, x, w }, &Number::Forward(number)) => {
                    let (x, w, y) = (input(x), input(w), output(y));
                    result::convolution_forward(
                        handle, one, self.x, x, self.w, w, conv, number, space, bytes, zero, self.y, y,
                    )
                }
                (Call::Fused { y, x, w, bias, residual, .. }, &Number::Forward(number)) => {
                    let (x, w, bias) = (input(x), input(w), input(bias));
                    // Without a residual the factor is 0 and nothing is read there.
                    let (added, z) = (factor(residual.is_some()), input(residual.unwrap_or(y)));
                    result::convolution_bias_activation_forward(
                        handle,
                        one,
                        self.x,
                        x,
                        self.w,
                        w,
                        conv,
                        number,
                        space,
                        bytes,
                        added,
                        self.y,
                        z,
                        self.bias,
                        bias,
                        self.activation,
                        self.y,
                        output(y),
                    )
                }
                (Call::DataGradient { dx, accumulate, dy, w }, &Number::Data(number)) => {
                    let (w, dy, kept) = (input(w), input(dy), factor(accumulate));
                    result::convolution_backward_data(
                        handle,
                        one,
                        self.w,
                        w,
                        self.y,
                        dy,
                        conv,
                        number,
                        space,
                        bytes,
                        kept,
                        self.x,
                        output(dx),
                    )
                }
                (Call::FilterGradient { dw, accumulate, x, dy }, &Number::Filter(number)) => {
                    let (x, dy, kept) = (input(x), input(dy), factor(accumulate));
                    result::convolution_backward_filter(
                        handle,
                        one,
                        self.x,
                        x,
                        self.y,
                        dy,
                        conv,
                        number,
                        space,
                        bytes,
                        kept,
                        self.w,
                        output(dw),
                    )
                }
                _ => unreachable!("a plan lists the algorithms of its own pass"),
            }
        }
    }
}

fn input(address: u64) -> *const c_void {
    with_exposed_provenance(address as usize)
}

fn output(address: u64) -> *mut c_void {
    with_exposed_provenance_mut(address as usize)
}

fn data_type(dtype: DType) -> sys::cudnnDataType_t {
    match dtype {
        DType::F32 => sys::cudnnDataType_t::CUDNN_DATA_FLOAT,
        DType::F16 => sys::cudnnDataType_t::CUDNN_DATA_HALF,
        DType::BF16 => sys::cudnnDataType_t::CUDNN_DATA_BFLOAT16,
        other => panic!("a convolution of {other:?} on a GPU"),
    }
}

const LAYOUT: sys::cudnnTensorFormat_t = sys::cudnnTensorFormat_t::CUDNN_TENSOR_NHWC;

/// The library counts sizes of NHWC tensors in the order N, C, H, W.
fn channels_second([n, h, w, c]: [usize; 4]) -> [c_int; 4] {
    [n, c, h, w].map(|size| c_int::try_from(size).expect("a size of a convolution fits an int"))
}

fn tensor(dtype: sys::cudnnDataType_t, sizes: [usize; 4]) -> Result<sys::cudnnTensorDescriptor_t, CudnnError> {
    let descriptor = result::create_tensor_descriptor()?;
    // SAFETY: just created.
    unsafe { result::set_tensor4d_descriptor(descriptor, LAYOUT, dtype, channels_second(sizes)) }?;
    Ok(descriptor)
}

fn filter(dtype: sys::cudnnDataType_t, sizes: [usize; 4]) -> Result<sys::cudnnFilterDescriptor_t, CudnnError> {
    let descriptor = result::create_filter_descriptor()?;
    // SAFETY: just created.
    unsafe { result::set_filter4d_descriptor(descriptor, dtype, LAYOUT, channels_second(sizes)) }?;
    Ok(descriptor)
}

/// Sums are in f32 for all dtypes.
fn geometry(c: &Convolution, allows_tf32: bool) -> Result<sys::cudnnConvolutionDescriptor_t, CudnnError> {
    let [stride, padding, dilation] = [c.stride, c.padding, c.dilation].map(|v| v as c_int);
    let (mode, sums) = (sys::cudnnConvolutionMode_t::CUDNN_CROSS_CORRELATION, data_type(DType::F32));
    let math = match c.dtype {
        DType::F32 if allows_tf32 => sys::cudnnMathType_t::CUDNN_DEFAULT_MATH,
        DType::F32 => sys::cudnnMathType_t::CUDNN_FMA_MATH,
        _ => sys::cudnnMathType_t::CUDNN_TENSOR_OP_MATH,
    };
    let descriptor = result::create_convolution_descriptor()?;
    // SAFETY: just created.
    unsafe {
        result::set_convolution2d_descriptor(
            descriptor, padding, padding, stride, stride, dilation, dilation, mode, sums,
        )?;
        result::set_convolution_math_type(descriptor, math)?;
    }
    Ok(descriptor)
}

fn activation(relu: bool) -> Result<sys::cudnnActivationDescriptor_t, CudnnError> {
    let mode = match relu {
        true => sys::cudnnActivationMode_t::CUDNN_ACTIVATION_RELU,
        false => sys::cudnnActivationMode_t::CUDNN_ACTIVATION_IDENTITY,
    };
    let nan = sys::cudnnNanPropagation_t::CUDNN_NOT_PROPAGATE_NAN;
    let descriptor = result::create_activation_descriptor()?;
    // SAFETY: just created.
    unsafe { result::set_activation_descriptor(descriptor, mode, nan, 0.0) }?;
    Ok(descriptor)
}
