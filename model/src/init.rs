//! Building a model's parameters: names as paths, initial values from a seed and the name alone.

use mdetr_autograd::{Layout, Parameter, ParameterId, Parameters};
use mdetr_kernels::philox::Philox;
use mdetr_kernels::{Device, Tensor};

/// How a parameter starts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Init {
    /// All the same.
    Constant(f32),
    /// Uniform in [-bound, bound).
    Uniform(f64),
    /// Uniform in [0, 1).
    Unit,
    /// Normal with this standard deviation.
    Normal(f64),
}

impl Init {
    /// The default of a linear map or convolution: uniform within 1 / sqrt(fan_in).
    pub fn fan_in(fan_in: usize) -> Self {
        Init::Uniform((fan_in.max(1) as f64).sqrt().recip())
    }

    /// Glorot and Bengio's uniform initialization of an (O, I) matrix.
    pub fn xavier(o: usize, i: usize) -> Self {
        Init::Uniform((6.0 / (o + i) as f64).sqrt())
    }

    /// He et al.'s normal initialization for a fan of this size.
    pub fn he(fan: usize) -> Self {
        Init::Normal((2.0 / fan.max(1) as f64).sqrt())
    }

    fn values(self, n: usize, philox: Philox) -> Vec<f32> {
        let each = |f: &dyn Fn(u64) -> f64| (0..n as u64).map(|i| f(i) as f32).collect();
        match self {
            Init::Constant(c) => vec![c; n],
            Init::Uniform(bound) => each(&|i| bound * (2.0 * f64::from(philox.uniform(i)) - 1.0)),
            Init::Unit => each(&|i| f64::from(philox.uniform(i))),
            Init::Normal(std) => each(&|i| std * philox.normal(i)),
        }
    }
}

/// FNV-1a 64 of a name: the random stream of a parameter, so that its start depends on no other parameter.
pub fn fnv1a(name: &str) -> u64 {
    name.bytes().fold(0xcbf2_9ce4_8422_2325, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0000_0100_0000_01b3))
}

/// A place in the tree of names.
pub struct Builder<'a> {
    parameters: &'a mut Parameters,
    prefix: String,
    seed: u64,
    in_f32: bool,
}

impl<'a> Builder<'a> {
    /// The root.
    pub fn new(parameters: &'a mut Parameters, seed: u64) -> Self {
        Builder { parameters, prefix: String::new(), seed, in_f32: false }
    }

    /// The child called `name`.
    pub fn at(&mut self, name: impl std::fmt::Display) -> Builder<'_> {
        let prefix = format!("{}{name}.", self.prefix);
        Builder { prefix, parameters: self.parameters, ..*self }
    }

    /// The same place, for modules that compute with master weights whatever the precision.
    pub fn in_f32(self) -> Self {
        Builder { in_f32: true, ..self }
    }

    /// A trainable parameter.
    pub fn parameter(&mut self, name: &str, shape: &[usize], init: Init) -> ParameterId {
        self.push(name, shape, init, Layout::AsIs, false)
    }

    /// The matrix (O, I) of a linear map, which reads it in the compute dtype.
    pub fn matrix(&mut self, name: &str, shape: [usize; 2], init: Init) -> ParameterId {
        let id = self.parameter(name, &shape, init);
        self.parameters[id].in_compute_dtype = !self.in_f32;
        id
    }

    /// A convolution's filter, (O, KH, KW, I): the convolution folds scales into the master and rounds the product.
    pub fn filter(&mut self, name: &str, shape: &[usize; 4], init: Init) -> ParameterId {
        self.push(name, shape, init, Layout::Filter, false)
    }

    /// A value that no optimizer touches.
    pub fn buffer(&mut self, name: &str, shape: &[usize], value: f32) -> ParameterId {
        self.push(name, shape, Init::Constant(value), Layout::AsIs, true)
    }

    fn push(&mut self, name: &str, shape: &[usize], init: Init, layout: Layout, is_buffer: bool) -> ParameterId {
        let name = format!("{}{name}", self.prefix);
        let philox = Philox { seed: self.seed, stream: fnv1a(&name) };
        let values = init.values(shape.iter().product(), philox);
        let value = Tensor::from_slice(&values, shape, Device::Cpu);
        self.parameters.push(Parameter {
            name,
            value,
            copy: None,
            in_compute_dtype: false,
            layout,
            is_buffer,
            requires_grad: !is_buffer,
        })
    }

    /// Starts one parameter's rows as a copy of others of its rows.
    pub fn copy_rows(&mut self, id: ParameterId, from: std::ops::Range<usize>, to: usize) {
        let value = &self.parameters[id].value;
        let row: usize = value.shape()[1..].iter().product();
        let mut values = value.as_slice::<f32>().to_vec();
        values.copy_within(from.start * row..from.end * row, to * row);
        self.parameters[id].value = Tensor::from_slice(&values, value.shape(), Device::Cpu);
    }
}
