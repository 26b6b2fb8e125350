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

/// Its descriptors go with it.
pub(crate) struct Plan {
    x: Descriptor<sys::cudnnTensorDescriptor_t>,
    w: Descriptor<sys::cudnnFilterDescriptor_t>,
    y: Descriptor<sys::cudnnTensorDescriptor_t>,
    bias: Descriptor<sys::cudnnTensorDescriptor_t>,
    convolution: Descriptor<sys::cudnnConvolutionDescriptor_t>,
    activation: Descriptor<sys::cudnnActivationDescriptor_t>,
    /// Those that give equal bits for equal operands and have not been refused, as the library's heuristic orders them.
    pub algorithms: Vec<Algorithm>,
}

pub(crate) struct Algorithm {
    number: Number,
    /// With which the library lists it: the workspace is for that.
    math: sys::cudnnMathType_t,
    /// Bytes that it needs.
    pub workspace: usize,
}

/// A descriptor of the library, and what destroys it.
// SAFETY: the function is the library's for this type; only `drop` calls it, once.
struct Descriptor<T: Copy>(T, unsafe fn(T) -> sys::cudnnStatus_t);

impl<T: Copy> Drop for Descriptor<T> {
    fn drop(&mut self) {
        // SAFETY: created with it, destroyed once; enqueued work does not use it.
        let _ = unsafe { (self.1)(self.0) };
    }
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
        let math = match c.dtype {
            DType::F32 if allows_tf32 => sys::cudnnMathType_t::CUDNN_DEFAULT_MATH,
            DType::F32 => sys::cudnnMathType_t::CUDNN_FMA_MATH,
            _ => sys::cudnnMathType_t::CUDNN_TENSOR_OP_MATH,
        };
        let mut plan = Plan {
            x: tensor(dtype, c.x)?,
            w: filter(dtype, c.w)?,
            y: tensor(dtype, c.y)?,
            bias: tensor(dtype, [1, 1, 1, c.w[0]])?,
            convolution: geometry(c, math)?,
            activation: activation(relu)?,
            algorithms: Vec::new(),
        };
        plan.algorithms = match plan.find(handle, pass, math) {
            Err(error) if is_refusal(error) => Vec::new(),
            found => found?,
        };
        Ok(plan)
    }

    /// The algorithms of a pass, if `math` is asked for.
    fn find(
        &self,
        handle: sys::cudnnHandle_t,
        pass: Pass,
        math: sys::cudnnMathType_t,
    ) -> Result<Vec<Algorithm>, CudnnError> {
        let (x, w, y, convolution) = (self.x.0, self.w.0, self.y.0, self.convolution.0);
        // Only FMA forbids TF32.
        let allowed = |listed| if math == sys::cudnnMathType_t::CUDNN_FMA_MATH { math } else { listed };
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
                found
                    .map(|r| Algorithm {
                        number: Number::$kind(r.algo),
                        math: allowed(r.mathType),
                        workspace: r.memory,
                    })
                    .collect()
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
        let [x_shape, y_shape, bias_shape] = [self.x.0, self.y.0, self.bias.0];
        let (w_shape, conv) = (self.w.0, self.convolution.0);
        let (one, zero) = (from_ref(&1.0f32).cast::<c_void>(), from_ref(&0.0f32).cast::<c_void>());
        let factor = |there: bool| if there { one } else { zero };
        let (space, bytes) = (output(workspace), algorithm.workspace);
        // SAFETY: handle and descriptors are alive, and say what lies at the addresses; the caller keeps these alive until
        // what is enqueued later.
        unsafe {
            result::set_convolution_math_type(conv, algorithm.math)?;
            match (*call, &algorithm.number) {
                (Call::Forward { y, x, w }, &Number::Forward(number)) => {
                    let (x, w, y) = (input(x), input(w), output(y));
                    result::convolution_forward(
                        handle, one, x_shape, x, w_shape, w, conv, number, space, bytes, zero, y_shape, y,
                    )
                }
                (Call::Fused { y, x, w, bias, residual, .. }, &Number::Forward(number)) => {
                    let (x, w, bias) = (input(x), input(w), input(bias));
                    // Without a residual the factor is 0 and nothing is read there.
                    let (added, z) = (factor(residual.is_some()), input(residual.unwrap_or(y)));
                    result::convolution_bias_activation_forward(
                        handle,
                        one,
                        x_shape,
                        x,
                        w_shape,
                        w,
                        conv,
                        number,
                        space,
                        bytes,
                        added,
                        y_shape,
                        z,
                        bias_shape,
                        bias,
                        self.activation.0,
                        y_shape,
                        output(y),
                    )
                }
                (Call::DataGradient { dx, accumulate, dy, w }, &Number::Data(number)) => {
                    let (w, dy, kept) = (input(w), input(dy), factor(accumulate));
                    result::convolution_backward_data(
                        handle,
                        one,
                        w_shape,
                        w,
                        y_shape,
                        dy,
                        conv,
                        number,
                        space,
                        bytes,
                        kept,
                        x_shape,
                        output(dx),
                    )
                }
                (Call::FilterGradient { dw, accumulate, x, dy }, &Number::Filter(number)) => {
                    let (x, dy, kept) = (input(x), input(dy), factor(accumulate));
                    result::convolution_backward_filter(
                        handle,
                        one,
                        x_shape,
                        x,
                        y_shape,
                        dy,
                        conv,
                        number,
                        space,
                        bytes,
                        kept,
                        w_shape,
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

fn tensor(
    dtype: sys::cudnnDataType_t,
    sizes: [usize; 4],
) -> Result<Descriptor<sys::cudnnTensorDescriptor_t>, CudnnError> {
    let descriptor = Descriptor(result::create_tensor_descriptor()?, sys::cudnnDestroyTensorDescriptor);
    // SAFETY: just created.
    unsafe { result::set_tensor4d_descriptor(descriptor.0, LAYOUT, dtype, channels_second(sizes)) }?;
    Ok(descriptor)
}

fn filter(
    dtype: sys::cudnnDataType_t,
    sizes: [usize; 4],
) -> Result<Descriptor<sys::cudnnFilterDescriptor_t>, CudnnError> {
    let descriptor = Descriptor(result::create_filter_descriptor()?, sys::cudnnDestroyFilterDescriptor);
    // SAFETY: just created.
    unsafe { result::set_filter4d_descriptor(descriptor.0, dtype, LAYOUT, channels_second(sizes)) }?;
    Ok(descriptor)
}

/// Sums are in f32 for all dtypes.
fn geometry(
    c: &Convolution,
    math: sys::cudnnMathType_t,
) -> Result<Descriptor<sys::cudnnConvolutionDescriptor_t>, CudnnError> {
    let [stride, padding, dilation] = [c.stride, c.padding, c.dilation].map(|v| v as c_int);
    let (mode, sums) = (sys::cudnnConvolutionMode_t::CUDNN_CROSS_CORRELATION, data_type(DType::F32));
    let descriptor = Descriptor(result::create_convolution_descriptor()?, sys::cudnnDestroyConvolutionDescriptor);
    // SAFETY: just created.
    unsafe {
        result::set_convolution2d_descriptor(
            descriptor.0,
            padding,
            padding,
            stride,
            stride,
            dilation,
            dilation,
            mode,
            sums,
        )?;
        result::set_convolution_math_type(descriptor.0, math)?;
    }
    Ok(descriptor)
}

fn activation(relu: bool) -> Result<Descriptor<sys::cudnnActivationDescriptor_t>, CudnnError> {
    let mode = match relu {
        true => sys::cudnnActivationMode_t::CUDNN_ACTIVATION_RELU,
        false => sys::cudnnActivationMode_t::CUDNN_ACTIVATION_IDENTITY,
    };
    let nan = sys::cudnnNanPropagation_t::CUDNN_NOT_PROPAGATE_NAN;
    let descriptor = Descriptor(result::create_activation_descriptor()?, sys::cudnnDestroyActivationDescriptor);
    // SAFETY: just created.
    unsafe { result::set_activation_descriptor(descriptor.0, mode, nan, 0.0) }?;
    Ok(descriptor)
}
