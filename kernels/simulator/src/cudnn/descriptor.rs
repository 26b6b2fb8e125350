//! Descriptors: tensors, filters, convolutions, activations.

use std::ffi::c_int;

use cudarc::cudnn::sys::{
    cudnnActivationDescriptor_t, cudnnActivationMode_t, cudnnConvolutionDescriptor_t, cudnnConvolutionMode_t,
    cudnnDataType_t, cudnnFilterDescriptor_t, cudnnMathType_t, cudnnNanPropagation_t, cudnnStatus_t,
    cudnnTensorDescriptor_t, cudnnTensorFormat_t,
};

use crate::vendor::{Handles, Refusal, answer, put, supported, valid};

pub(super) static TENSORS: Handles<Option<Tensor>> = Handles::new("a tensor descriptor");
pub(super) static FILTERS: Handles<Option<Filter>> = Handles::new("a filter descriptor");
pub(super) static CONVOLUTIONS: Handles<Option<Convolution>> = Handles::new("a convolution descriptor");
pub(super) static ACTIVATIONS: Handles<Option<Activation>> = Handles::new("an activation descriptor");

/// Dimensions that a tensor may have.
const DIMENSIONS: std::ops::RangeInclusive<c_int> = 3..=8;

/// `cudnnTensorDescriptor_t`: sizes and strides in the order N, C, then space.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tensor {
    pub dtype: cudnnDataType_t,
    pub sizes: Vec<c_int>,
    pub strides: Vec<c_int>,
}

/// `cudnnFilterDescriptor_t`: sizes in the order K, C, then space.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    pub dtype: cudnnDataType_t,
    pub format: cudnnTensorFormat_t,
    pub sizes: Vec<c_int>,
}

/// `cudnnConvolutionDescriptor_t`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Convolution {
    pub pads: Vec<c_int>,
    pub strides: Vec<c_int>,
    pub dilations: Vec<c_int>,
    pub mode: cudnnConvolutionMode_t,
    pub compute: cudnnDataType_t,
    pub math: cudnnMathType_t,
    pub groups: c_int,
}

/// `cudnnActivationDescriptor_t`, without the coefficient: ReLU and identity have none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Activation {
    pub mode: cudnnActivationMode_t,
    pub nan: cudnnNanPropagation_t,
}

/// What a descriptor was set to.
///
/// # Errors
/// If it does not live, or was not set.
pub fn known<T: Clone, P>(handles: &Handles<Option<T>>, handle: *mut P, what: &str) -> Result<T, Refusal> {
    handles.get(handle)?.ok_or_else(|| Refusal::Invalid(format!("the descriptor of {what} was not set")))
}

/// The strides of packed elements, unless they overflow; C varies fastest in NHWC.
pub fn packed(format: cudnnTensorFormat_t, sizes: &[c_int]) -> Option<Vec<c_int>> {
    let mut fastest_first: Vec<usize> = (0..sizes.len()).rev().collect();
    if format == cudnnTensorFormat_t::CUDNN_TENSOR_NHWC {
        // C moves from before N, which is last, to the front.
        fastest_first[..sizes.len() - 1].rotate_right(1);
    }
    let mut strides = vec![0; sizes.len()];
    let mut next: c_int = 1;
    for axis in fastest_first {
        strides[axis] = next;
        next = next.checked_mul(sizes[axis])?;
    }
    Some(strides)
}

impl Tensor {
    fn new(dtype: cudnnDataType_t, sizes: Vec<c_int>, strides: Vec<c_int>) -> Result<Self, Refusal> {
        let positive = sizes.iter().chain(&strides).all(|&value| value > 0);
        valid(positive, || format!("a tensor of {sizes:?} with strides {strides:?}: all must be positive"))?;
        Ok(Self { dtype, sizes, strides })
    }

    fn packed(dtype: cudnnDataType_t, format: cudnnTensorFormat_t, sizes: Vec<c_int>) -> Result<Self, Refusal> {
        known_format(format)?;
        let strides = sizes.iter().all(|&size| size > 0).then(|| packed(format, &sizes)).flatten();
        let strides = strides.ok_or_else(|| Refusal::Invalid(format!("a tensor of {sizes:?}")))?;
        Self::new(dtype, sizes, strides)
    }
}

impl Filter {
    fn new(dtype: cudnnDataType_t, format: cudnnTensorFormat_t, sizes: Vec<c_int>) -> Result<Self, Refusal> {
        known_format(format)?;
        let fits = sizes.iter().all(|&size| size > 0) && packed(format, &sizes).is_some();
        valid(fits, || format!("a filter of {sizes:?}"))?;
        Ok(Self { dtype, format, sizes })
    }
}

impl Convolution {
    fn new(
        [pads, strides, dilations]: [Vec<c_int>; 3],
        mode: cudnnConvolutionMode_t,
        compute: cudnnDataType_t,
    ) -> Result<Self, Refusal> {
        let fits = pads.iter().all(|&pad| pad >= 0) && strides.iter().chain(&dilations).all(|&value| value > 0);
        valid(fits, || format!("pads {pads:?}, strides {strides:?}, dilations {dilations:?}"))?;
        let math = cudnnMathType_t::CUDNN_DEFAULT_MATH;
        Ok(Self { pads, strides, dilations, mode, compute, math, groups: 1 })
    }
}

fn known_format(format: cudnnTensorFormat_t) -> Result<(), Refusal> {
    supported(format != cudnnTensorFormat_t::CUDNN_TENSOR_NCHW_VECT_C, || "NCHW_VECT_C is not modelled".to_owned())
}

/// `count` numbers of the caller's.
///
/// # Safety
/// `from` is null or holds that many, if that is a number of dimensions that there is.
unsafe fn list(
    from: *const c_int,
    count: c_int,
    allowed: &std::ops::RangeInclusive<c_int>,
) -> Result<Vec<c_int>, Refusal> {
    valid(!from.is_null() && allowed.contains(&count), || {
        format!("{count} dimensions at {from:?}, expected {} to {}", allowed.start(), allowed.end())
    })?;
    // SAFETY: not null, so the caller vouches for it.
    Ok(unsafe { std::slice::from_raw_parts(from, count as usize) }.to_vec())
}

fn set<T: Clone, P>(handles: &Handles<Option<T>>, handle: *mut P, value: Result<T, Refusal>) -> Result<(), Refusal> {
    handles.update(handle, |current| {
        *current = Some(value?);
        Ok(())
    })
}

macro_rules! lifetimes {
    ($($create:ident, $destroy:ident, $handle:ty, $handles:ident;)*) => {$(
        #[unsafe(no_mangle)]
        unsafe extern "C" fn $create(handle: *mut $handle) -> cudnnStatus_t {
            // SAFETY: the caller vouches for its pointer.
            answer(stringify!($create), unsafe { put(handle, $handles.create(None)) })
        }

        #[unsafe(no_mangle)]
        extern "C" fn $destroy(handle: $handle) -> cudnnStatus_t {
            answer(stringify!($destroy), $handles.destroy(handle).map(drop))
        }
    )*};
}

lifetimes! {
    cudnnCreateTensorDescriptor, cudnnDestroyTensorDescriptor, cudnnTensorDescriptor_t, TENSORS;
    cudnnCreateFilterDescriptor, cudnnDestroyFilterDescriptor, cudnnFilterDescriptor_t, FILTERS;
    cudnnCreateConvolutionDescriptor, cudnnDestroyConvolutionDescriptor, cudnnConvolutionDescriptor_t, CONVOLUTIONS;
    cudnnCreateActivationDescriptor, cudnnDestroyActivationDescriptor, cudnnActivationDescriptor_t, ACTIVATIONS;
}

#[unsafe(no_mangle)]
extern "C" fn cudnnSetTensor4dDescriptor(
    tensor: cudnnTensorDescriptor_t,
    format: cudnnTensorFormat_t,
    dtype: cudnnDataType_t,
    n: c_int,
    c: c_int,
    h: c_int,
    w: c_int,
) -> cudnnStatus_t {
    answer("cudnnSetTensor4dDescriptor", set(&TENSORS, tensor, Tensor::packed(dtype, format, vec![n, c, h, w])))
}

#[unsafe(no_mangle)]
extern "C" fn cudnnSetTensor4dDescriptorEx(
    tensor: cudnnTensorDescriptor_t,
    dtype: cudnnDataType_t,
    n: c_int,
    c: c_int,
    h: c_int,
    w: c_int,
    n_stride: c_int,
    c_stride: c_int,
    h_stride: c_int,
    w_stride: c_int,
) -> cudnnStatus_t {
    let value = Tensor::new(dtype, vec![n, c, h, w], vec![n_stride, c_stride, h_stride, w_stride]);
    answer("cudnnSetTensor4dDescriptorEx", set(&TENSORS, tensor, value))
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cudnnSetTensorNdDescriptor(
    tensor: cudnnTensorDescriptor_t,
    dtype: cudnnDataType_t,
    dimensions: c_int,
    sizes: *const c_int,
    strides: *const c_int,
) -> cudnnStatus_t {
    // SAFETY: the caller vouches for its pointers.
    let value = unsafe { list(sizes, dimensions, &DIMENSIONS) }.and_then(|sizes| {
        // SAFETY: see above.
        Tensor::new(dtype, sizes, unsafe { list(strides, dimensions, &DIMENSIONS) }?)
    });
    answer("cudnnSetTensorNdDescriptor", set(&TENSORS, tensor, value))
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cudnnSetTensorNdDescriptorEx(
    tensor: cudnnTensorDescriptor_t,
    format: cudnnTensorFormat_t,
    dtype: cudnnDataType_t,
    dimensions: c_int,
    sizes: *const c_int,
) -> cudnnStatus_t {
    // SAFETY: the caller vouches for its pointer.
    let sizes = unsafe { list(sizes, dimensions, &DIMENSIONS) };
    let value = sizes.and_then(|sizes| Tensor::packed(dtype, format, sizes));
    answer("cudnnSetTensorNdDescriptorEx", set(&TENSORS, tensor, value))
}

#[unsafe(no_mangle)]
extern "C" fn cudnnSetFilter4dDescriptor(
    filter: cudnnFilterDescriptor_t,
    dtype: cudnnDataType_t,
    format: cudnnTensorFormat_t,
    k: c_int,
    c: c_int,
    h: c_int,
    w: c_int,
) -> cudnnStatus_t {
    answer("cudnnSetFilter4dDescriptor", set(&FILTERS, filter, Filter::new(dtype, format, vec![k, c, h, w])))
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cudnnSetFilterNdDescriptor(
    filter: cudnnFilterDescriptor_t,
    dtype: cudnnDataType_t,
    format: cudnnTensorFormat_t,
    dimensions: c_int,
    sizes: *const c_int,
) -> cudnnStatus_t {
    // SAFETY: the caller vouches for its pointer.
    let sizes = unsafe { list(sizes, dimensions, &DIMENSIONS) };
    let value = sizes.and_then(|sizes| Filter::new(dtype, format, sizes));
    answer("cudnnSetFilterNdDescriptor", set(&FILTERS, filter, value))
}

#[unsafe(no_mangle)]
extern "C" fn cudnnSetConvolution2dDescriptor(
    convolution: cudnnConvolutionDescriptor_t,
    pad_h: c_int,
    pad_w: c_int,
    stride_h: c_int,
    stride_w: c_int,
    dilation_h: c_int,
    dilation_w: c_int,
    mode: cudnnConvolutionMode_t,
    compute: cudnnDataType_t,
) -> cudnnStatus_t {
    let axes = [vec![pad_h, pad_w], vec![stride_h, stride_w], vec![dilation_h, dilation_w]];
    let value = Convolution::new(axes, mode, compute);
    answer("cudnnSetConvolution2dDescriptor", set(&CONVOLUTIONS, convolution, value))
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cudnnSetConvolutionNdDescriptor(
    convolution: cudnnConvolutionDescriptor_t,
    axes: c_int,
    pads: *const c_int,
    strides: *const c_int,
    dilations: *const c_int,
    mode: cudnnConvolutionMode_t,
    compute: cudnnDataType_t,
) -> cudnnStatus_t {
    // SAFETY: the caller vouches for its pointers.
    let axis = |from| unsafe { list(from, axes, &(1..=6)) };
    let value = || Convolution::new([axis(pads)?, axis(strides)?, axis(dilations)?], mode, compute);
    answer("cudnnSetConvolutionNdDescriptor", set(&CONVOLUTIONS, convolution, value()))
}

fn change(
    convolution: cudnnConvolutionDescriptor_t,
    change: impl FnOnce(&mut Convolution) -> Result<(), Refusal>,
) -> Result<(), Refusal> {
    let unset = || Refusal::Invalid("the convolution descriptor was not set".to_owned());
    CONVOLUTIONS.update(convolution, |current| change(current.as_mut().ok_or_else(unset)?))
}

#[unsafe(no_mangle)]
extern "C" fn cudnnSetConvolutionMathType(
    convolution: cudnnConvolutionDescriptor_t,
    math: cudnnMathType_t,
) -> cudnnStatus_t {
    let set = |current: &mut Convolution| {
        current.math = math;
        Ok(())
    };
    answer("cudnnSetConvolutionMathType", change(convolution, set))
}

#[unsafe(no_mangle)]
extern "C" fn cudnnSetConvolutionGroupCount(
    convolution: cudnnConvolutionDescriptor_t,
    groups: c_int,
) -> cudnnStatus_t {
    let set = |current: &mut Convolution| {
        valid(groups > 0, || format!("{groups} groups"))?;
        current.groups = groups;
        Ok(())
    };
    answer("cudnnSetConvolutionGroupCount", change(convolution, set))
}

#[unsafe(no_mangle)]
extern "C" fn cudnnSetActivationDescriptor(
    activation: cudnnActivationDescriptor_t,
    mode: cudnnActivationMode_t,
    nan: cudnnNanPropagation_t,
    _coef: f64,
) -> cudnnStatus_t {
    answer("cudnnSetActivationDescriptor", set(&ACTIVATIONS, activation, Ok(Activation { mode, nan })))
}
