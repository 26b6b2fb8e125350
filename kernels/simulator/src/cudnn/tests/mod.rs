//! Convolutions, and the memory that they work on.

mod loops;
mod refusals;

use cudarc::cudnn::sys::{
    cudnnActivationMode_t, cudnnConvolutionMode_t, cudnnDataType_t, cudnnMathType_t, cudnnNanPropagation_t,
    cudnnTensorFormat_t as Format,
};

use super::HANDLES;
use super::convolution::{Arguments, Fused, backward_data, backward_filter, forward, fused_forward};
use super::descriptor::{
    ACTIVATIONS, Activation, CONVOLUTIONS, Convolution, FILTERS, Filter, TENSORS, Tensor, packed,
};
use super::support::{Algorithm, TABLE};
use crate::driver::library::LibraryCall;
use crate::memory::Memory;
use crate::vendor::testing::{Random, random};
use crate::vendor::{Dtype, Refusal};

#[derive(Clone, Copy)]
struct Case {
    dtype: Dtype,
    /// Of x and y; of the filter.
    formats: [Format; 2],
    batch: usize,
    /// Of x, of y.
    channels: [usize; 2],
    groups: usize,
    /// Of x.
    size: [usize; 2],
    taps: [usize; 2],
    stride: [usize; 2],
    pad: [usize; 2],
    dilation: [usize; 2],
    scalars: [f32; 2],
    math: cudnnMathType_t,
}

const NHWC: [Format; 2] = [Format::CUDNN_TENSOR_NHWC; 2];
const NCHW: [Format; 2] = [Format::CUDNN_TENSOR_NCHW; 2];

const PLAIN: Case = Case {
    dtype: Dtype::F32,
    formats: NHWC,
    batch: 2,
    channels: [3, 5],
    groups: 1,
    size: [6, 7],
    taps: [3, 2],
    stride: [1, 1],
    pad: [1, 0],
    dilation: [1, 1],
    scalars: [1.0, 0.0],
    math: cudnnMathType_t::CUDNN_FMA_MATH,
};

/// A convolution in memory: x, w and y hold random numbers, whatever is computed of them.
struct Fixture {
    memory: Memory,
    scalars: [f32; 2],
    x: Tensor,
    w: Filter,
    y: Tensor,
    z: Tensor,
    bias: Tensor,
    convolution: Convolution,
    activation: Activation,
    algorithm: Algorithm,
    workspace: (u64, u64),
    /// Of x, w, y, z, bias.
    addresses: [u64; 5],
}

fn number(dtype: Dtype) -> cudnnDataType_t {
    match dtype {
        Dtype::F16 => cudnnDataType_t::CUDNN_DATA_HALF,
        Dtype::Bf16 => cudnnDataType_t::CUDNN_DATA_BFLOAT16,
        Dtype::F32 => cudnnDataType_t::CUDNN_DATA_FLOAT,
        Dtype::F64 => cudnnDataType_t::CUDNN_DATA_DOUBLE,
    }
}

impl Case {
    /// Height or width of y.
    fn outputs(&self, axis: usize) -> usize {
        (self.size[axis] + 2 * self.pad[axis] - self.dilation[axis] * (self.taps[axis] - 1) - 1) / self.stride[axis]
            + 1
    }

    /// Sizes of x, w and y.
    fn sizes(&self) -> [[usize; 4]; 3] {
        let [c, k] = self.channels;
        [
            [self.batch, c, self.size[0], self.size[1]],
            [k, c / self.groups, self.taps[0], self.taps[1]],
            [self.batch, k, self.outputs(0), self.outputs(1)],
        ]
    }
}

impl Fixture {
    /// The fixture of a case, with the table's algorithm of that index.
    fn new(case: &Case, algorithm: usize) -> Self {
        let mut memory = Memory::new(true);
        let mut numbers = Random::new(case.size[0] as u64 + 100 * case.channels[1] as u64);
        let dtype = number(case.dtype);
        let sizes = case.sizes().map(|sizes| sizes.map(|size| size as i32).to_vec());
        let tensor =
            |sizes: &[i32]| Tensor { dtype, sizes: sizes.to_vec(), strides: packed(case.formats[0], sizes).unwrap() };
        let y = tensor(&sizes[2]);
        let axes = [case.pad, case.stride, case.dilation].map(|axes| axes.map(|value| value as i32).to_vec());
        let [pads, strides, dilations] = axes;
        let [x_len, w_len, y_len] = case.sizes().map(|sizes| sizes.into_iter().product());
        let addresses = [x_len, w_len, y_len, y_len, case.channels[1]];
        Self {
            addresses: addresses.map(|len| random(&mut memory, case.dtype, len, &mut numbers)),
            workspace: (memory.allocate(1 << 16, "workspace"), 1 << 16),
            memory,
            scalars: case.scalars,
            x: tensor(&sizes[0]),
            w: Filter { dtype, format: case.formats[1], sizes: sizes[1].clone() },
            z: y.clone(),
            y,
            bias: tensor(&[1, case.channels[1] as i32, 1, 1]),
            convolution: Convolution {
                pads,
                strides,
                dilations,
                mode: cudnnConvolutionMode_t::CUDNN_CROSS_CORRELATION,
                compute: cudnnDataType_t::CUDNN_DATA_FLOAT,
                math: case.math,
                groups: case.groups as i32,
            },
            activation: Activation {
                mode: cudnnActivationMode_t::CUDNN_ACTIVATION_RELU,
                nan: cudnnNanPropagation_t::CUDNN_NOT_PROPAGATE_NAN,
            },
            algorithm: TABLE[algorithm].algorithm,
        }
    }

    fn arguments(&self) -> Arguments {
        Arguments {
            handle: HANDLES.create(0),
            x: TENSORS.create(Some(self.x.clone())),
            w: FILTERS.create(Some(self.w.clone())),
            convolution: CONVOLUTIONS.create(Some(self.convolution.clone())),
            y: TENSORS.create(Some(self.y.clone())),
            algorithm: self.algorithm,
            workspace: self.workspace,
        }
    }

    /// The call that computes y, dx in x's place, or dw in w's, as the algorithm says.
    fn call(&self) -> Result<LibraryCall, Refusal> {
        let [x, w, y, ..] = self.addresses;
        match self.algorithm {
            Algorithm::Forward(_) => forward(&self.arguments(), [x, w, y], self.scalars),
            Algorithm::BackwardData(_) => backward_data(&self.arguments(), [w, y, x], self.scalars),
            Algorithm::BackwardFilter(_) => backward_filter(&self.arguments(), [x, y, w], self.scalars),
        }
    }

    /// The fused forward pass.
    fn fused(&self) -> Result<LibraryCall, Refusal> {
        let [x, w, y, z_address, bias_address] = self.addresses;
        let fused = Fused {
            z: TENSORS.create(Some(self.z.clone())),
            bias: TENSORS.create(Some(self.bias.clone())),
            activation: ACTIVATIONS.create(Some(self.activation)),
            z_address,
            bias_address,
        };
        fused_forward(&self.arguments(), &fused, [x, w, y], self.scalars)
    }
}
