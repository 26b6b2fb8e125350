//! What cuDNN takes. No GPU has confirmed the table.

use cudarc::cudnn::sys::{
    cudnnActivationMode_t, cudnnConvolutionBwdDataAlgo_t as DataAlgo, cudnnConvolutionBwdFilterAlgo_t as FilterAlgo,
    cudnnConvolutionFwdAlgo_t as ForwardAlgo, cudnnConvolutionMode_t, cudnnDataType_t, cudnnMathType_t,
    cudnnNanPropagation_t, cudnnTensorFormat_t,
};

use super::descriptor::{Activation, Convolution, Filter, Tensor, packed};
use super::problem::{Axis, Image, Layout, Pass, Problem};
use crate::vendor::{Dtype, Refusal, Rounding, supported, valid};

/// What an algorithm needs a workspace for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Workspace {
    /// Nothing.
    None,
    /// An offset for each tap and channel of the filter.
    Offsets,
    /// Two partial sums of the filter's gradient in f32.
    PartialSums,
}

/// An algorithm of one of the passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// y of x and w.
    Forward(ForwardAlgo),
    /// dx of dy and w.
    BackwardData(DataAlgo),
    /// dw of x and dy.
    BackwardFilter(FilterAlgo),
}

/// What there is to know of an algorithm.
#[derive(Debug)]
pub struct Row {
    /// Which.
    pub algorithm: Algorithm,
    /// Whether the fused forward pass may go without an activation.
    pub identity: bool,
    /// Whether two runs agree.
    pub deterministic: bool,
    /// What it needs.
    pub workspace: Workspace,
}

/// The algorithms, the fastest of each pass first. All take both layouts; an NHWC filter needs NHWC tensors.
#[rustfmt::skip]
pub static TABLE: [Row; 6] = [
    Row { algorithm: Algorithm::Forward(ForwardAlgo::CUDNN_CONVOLUTION_FWD_ALGO_IMPLICIT_PRECOMP_GEMM),
          identity: true, deterministic: true, workspace: Workspace::Offsets },
    Row { algorithm: Algorithm::Forward(ForwardAlgo::CUDNN_CONVOLUTION_FWD_ALGO_IMPLICIT_GEMM),
          identity: false, deterministic: true, workspace: Workspace::None },
    Row { algorithm: Algorithm::BackwardData(DataAlgo::CUDNN_CONVOLUTION_BWD_DATA_ALGO_1),
          identity: false, deterministic: true, workspace: Workspace::Offsets },
    Row { algorithm: Algorithm::BackwardData(DataAlgo::CUDNN_CONVOLUTION_BWD_DATA_ALGO_0),
          identity: false, deterministic: false, workspace: Workspace::None },
    Row { algorithm: Algorithm::BackwardFilter(FilterAlgo::CUDNN_CONVOLUTION_BWD_FILTER_ALGO_1),
          identity: false, deterministic: true, workspace: Workspace::PartialSums },
    Row { algorithm: Algorithm::BackwardFilter(FilterAlgo::CUDNN_CONVOLUTION_BWD_FILTER_ALGO_0),
          identity: false, deterministic: false, workspace: Workspace::None },
];

/// Types of x, w, y and everything else; sums are in f32.
const TYPES: [(cudnnDataType_t, Dtype); 3] = [
    (cudnnDataType_t::CUDNN_DATA_HALF, Dtype::F16),
    (cudnnDataType_t::CUDNN_DATA_BFLOAT16, Dtype::Bf16),
    (cudnnDataType_t::CUDNN_DATA_FLOAT, Dtype::F32),
];

/// What addresses are multiples of with an NHWC filter, in bytes: a vector load.
const NHWC_ALIGNMENT: u64 = 16;

/// Checks a convolution's descriptors.
///
/// # Errors
/// What the documentation does not allow, or the stand-in does not model.
pub fn check(pass: Pass, x: &Tensor, w: &Filter, conv: &Convolution, y: &Tensor) -> Result<Problem, Refusal> {
    let dtype = TYPES.iter().find(|(number, _)| *number == x.dtype).map(|&(_, dtype)| dtype);
    let dtype = dtype.ok_or_else(|| Refusal::Unsupported(format!("{:?} is not modelled", x.dtype)))?;
    supported(w.dtype == x.dtype && y.dtype == x.dtype, || {
        format!("x is {:?}, the filter {:?}, y {:?}: they must agree", x.dtype, w.dtype, y.dtype)
    })?;
    supported(conv.compute == cudnnDataType_t::CUDNN_DATA_FLOAT, || {
        format!("sums in {:?} are not modelled, expected CUDNN_DATA_FLOAT", conv.compute)
    })?;
    supported(conv.mode == cudnnConvolutionMode_t::CUDNN_CROSS_CORRELATION, || {
        "flipped filters are not modelled, expected CUDNN_CROSS_CORRELATION".to_owned()
    })?;
    let ranks = [x.sizes.len(), w.sizes.len(), y.sizes.len(), conv.pads.len() + 2];
    valid(ranks.iter().all(|&rank| rank == ranks[0]), || {
        format!("x, filter, y, convolution have {ranks:?} dimensions")
    })?;
    supported(ranks[0] == 4, || format!("{} dimensions are not modelled, expected 4", ranks[0]))?;

    let w_layout = if w.format == cudnnTensorFormat_t::CUDNN_TENSOR_NHWC { Layout::Nhwc } else { Layout::Nchw };
    let (x_layout, y_layout) = (layout("x", x, w_layout)?, layout("y", y, w_layout)?);
    let nhwc = [x_layout, y_layout] == [Layout::Nhwc; 2];
    supported(w_layout == Layout::Nchw || nhwc, || format!("the filter is NHWC, x {x_layout:?}, y {y_layout:?}"))?;

    let size = |value: i32| value as usize;
    let axis =
        |i: usize| Axis { stride: size(conv.strides[i]), pad: size(conv.pads[i]), dilation: size(conv.dilations[i]) };
    let problem = Problem {
        pass,
        dtype,
        rounding: rounding(dtype, conv.math),
        math: conv.math,
        x_layout,
        y_layout,
        w_layout,
        batch: size(x.sizes[0]),
        groups: size(conv.groups),
        x: image(x),
        y: image(y),
        taps: [size(w.sizes[2]), size(w.sizes[3])],
        axes: [axis(0), axis(1)],
    };
    check_sizes(&problem, w, y)?;
    Ok(problem)
}

/// The line of an algorithm.
///
/// # Errors
/// If the table has none for this problem.
pub fn check_algorithm(problem: &Problem, algorithm: Algorithm) -> Result<&'static Row, Refusal> {
    let found = algorithms(problem).find(|row| row.algorithm == algorithm);
    found.ok_or_else(|| Refusal::Unsupported(format!("{algorithm:?} is not modelled")))
}

/// The algorithms for a problem, the fastest first.
pub fn algorithms(problem: &Problem) -> impl Iterator<Item = &'static Row> {
    let pass = problem.pass;
    TABLE.iter().filter(move |row| row.algorithm.pass() == pass)
}

impl Algorithm {
    fn pass(self) -> Pass {
        match self {
            Self::Forward(_) => Pass::Forward,
            Self::BackwardData(_) => Pass::BackwardData,
            Self::BackwardFilter(_) => Pass::BackwardFilter,
        }
    }
}

impl Row {
    /// Bytes of workspace that the algorithm needs: more with another math type than that under which it is listed.
    pub fn workspace_bytes(&self, problem: &Problem) -> u64 {
        let copies = if problem.math == listed_math(problem.math) { 1 } else { 2 };
        let taps = problem.taps[0] * problem.taps[1] * problem.x.channels / problem.groups;
        match self.workspace {
            Workspace::None => 0,
            Workspace::Offsets => 4 * copies * taps as u64,
            Workspace::PartialSums => 8 * copies * problem.filter_len() as u64,
        }
    }
}

/// Checks what the fused forward pass adds: z, bias and activation. Returns whether that is ReLU.
///
/// # Errors
/// As [`check`].
pub fn check_fused(row: &Row, [x, z, bias, y]: [&Tensor; 4], activation: &Activation) -> Result<bool, Refusal> {
    let relu = match activation.mode {
        cudnnActivationMode_t::CUDNN_ACTIVATION_RELU => true,
        cudnnActivationMode_t::CUDNN_ACTIVATION_IDENTITY => false,
        other => return Err(Refusal::Unsupported(format!("{other:?}, expected ReLU or identity"))),
    };
    supported(relu || row.identity, || {
        "CUDNN_ACTIVATION_IDENTITY needs CUDNN_CONVOLUTION_FWD_ALGO_IMPLICIT_PRECOMP_GEMM".to_owned()
    })?;
    supported(activation.nan == cudnnNanPropagation_t::CUDNN_NOT_PROPAGATE_NAN, || {
        "the activation must not propagate NaN".to_owned()
    })?;
    valid(z == y, || format!("z is {z:?}, y is {y:?}: they must match"))?;
    supported(bias.dtype == x.dtype, || {
        format!("bias must have the type of x, {:?}, it is {:?}", x.dtype, bias.dtype)
    })?;
    let channels = y.sizes[1];
    valid(bias.sizes == [1, channels, 1, 1], || {
        format!("bias is {:?}, expected {:?}", bias.sizes, [1, channels, 1, 1])
    })?;
    supported(channels == 1 || bias.strides[1] == 1, || format!("bias has strides {:?}", bias.strides))?;
    Ok(relu)
}

/// Checks the addresses of operands, by their names.
///
/// # Errors
/// Which is null or not aligned.
pub fn check_addresses(problem: &Problem, operands: &[(&str, u64)]) -> Result<(), Refusal> {
    let alignment = if problem.w_layout == Layout::Nhwc { NHWC_ALIGNMENT } else { problem.dtype.size() };
    operands.iter().try_for_each(|&(name, address)| {
        valid(address != 0, || format!("{name} is null"))?;
        valid(address.is_multiple_of(alignment), || {
            format!("{name} is at {address:#x}, not aligned to {alignment} bytes")
        })
    })
}

/// Checks the workspace; returns the bytes that the algorithm uses.
///
/// # Errors
/// If there is too little.
pub fn check_workspace(row: &Row, problem: &Problem, address: u64, bytes: u64) -> Result<u64, Refusal> {
    let needed = row.workspace_bytes(problem);
    valid(needed == 0 || (address != 0 && bytes >= needed), || {
        format!("the workspace has {bytes} bytes at {address:#x}, {:?} needs {needed}", row.algorithm)
    })?;
    Ok(needed)
}

fn check_sizes(problem: &Problem, w: &Filter, y: &Tensor) -> Result<(), Refusal> {
    let &Problem { groups, x, y: out, taps, axes, .. } = problem;
    valid(x.channels.is_multiple_of(groups) && out.channels.is_multiple_of(groups), || {
        format!("{} and {} channels in {groups} groups", x.channels, out.channels)
    })?;
    let [k, c] = [w.sizes[0] as usize, w.sizes[1] as usize];
    valid(k == out.channels && c == x.channels / groups, || {
        format!("the filter is {:?}, x has {} channels in {groups} groups, y {}", w.sizes, x.channels, out.channels)
    })?;
    let outputs = |axis: Axis, len: usize, taps: usize| {
        (len + 2 * axis.pad).checked_sub(axis.dilation * (taps - 1) + 1).map(|room| room / axis.stride + 1)
    };
    let expected = [outputs(axes[0], x.height, taps[0]), outputs(axes[1], x.width, taps[1])];
    valid(expected == [Some(out.height), Some(out.width)] && y.sizes[0] as usize == problem.batch, || {
        format!("y is {:?}, expected a batch of {} and {expected:?} pixels", y.sizes, problem.batch)
    })
}

/// The layout of packed elements. Where both fit (one channel, or one pixel), `preferred`.
fn layout(name: &str, tensor: &Tensor, preferred: Layout) -> Result<Layout, Refusal> {
    let fits = |layout: &Layout| {
        let format = match layout {
            Layout::Nchw => cudnnTensorFormat_t::CUDNN_TENSOR_NCHW,
            Layout::Nhwc => cudnnTensorFormat_t::CUDNN_TENSOR_NHWC,
        };
        packed(format, &tensor.sizes).is_some_and(|strides| {
            let mut axes = tensor.sizes.iter().zip(strides.iter().zip(&tensor.strides));
            axes.all(|(&size, (expected, stride))| size == 1 || expected == stride)
        })
    };
    [preferred, Layout::Nhwc, Layout::Nchw].into_iter().find(fits).ok_or_else(|| {
        Refusal::Unsupported(format!(
            "{name} {:?} has strides {:?}, neither packed NHWC nor packed NCHW",
            tensor.sizes, tensor.strides
        ))
    })
}

fn image(tensor: &Tensor) -> Image {
    let [channels, height, width] = [1, 2, 3].map(|axis| tensor.sizes[axis] as usize);
    Image { channels, height, width }
}

/// The math type with which algorithms are listed for a descriptor that asks for `asked`. The documentation leaves it to the
/// library, and wants the descriptor to have it when the algorithm runs.
pub fn listed_math(asked: cudnnMathType_t) -> cudnnMathType_t {
    match asked {
        cudnnMathType_t::CUDNN_TENSOR_OP_MATH => cudnnMathType_t::CUDNN_DEFAULT_MATH,
        other => other,
    }
}

/// What tensor cores may do to factors.
fn rounding(dtype: Dtype, math: cudnnMathType_t) -> Rounding {
    match (dtype, math) {
        (Dtype::F32, cudnnMathType_t::CUDNN_TENSOR_OP_MATH_ALLOW_CONVERSION) => Rounding::F16,
        (Dtype::F32, cudnnMathType_t::CUDNN_DEFAULT_MATH | cudnnMathType_t::CUDNN_TENSOR_OP_MATH) => Rounding::Tf32,
        _ => Rounding::Exact,
    }
}
