//! Test cases: one set feeds conformance, gradient checks and benches.

use std::rc::Rc;

use crate::device::Device;
use crate::dtype::DType;
use crate::op::Op;
use crate::philox::Philox;
use crate::tensor::Tensor;

/// How an input's elements are made.
#[derive(Clone, Debug)]
pub enum Values {
    /// Standard normal times a factor.
    Normal(f64),
    /// Uniform in [lo, hi).
    Uniform(f64, f64),
    /// Uniform magnitude in [lo, hi), random sign: keeps away from a kink at zero.
    AwayFromZero(f64, f64),
    /// Uniform integers in [lo, hi), as i32.
    Index(i32, i32),
    /// A random permutation of 0..n scaled by a factor: all elements differ by at least the factor, so that a maximum
    /// stays where it is when one of them moves a little.
    Distinct(f64),
    /// These values.
    Exact(Vec<f64>),
}

/// One input of a case.
#[derive(Clone, Debug)]
pub struct Input {
    /// For messages.
    pub name: &'static str,
    /// The sizes of the axes.
    pub shape: Vec<usize>,
    /// How its elements are made.
    pub values: Values,
    /// False for inputs that get no gradient (indices, targets, frozen statistics).
    pub differentiable: bool,
    /// True for i32 inputs.
    pub index: bool,
    /// True for what stays f32 when the op computes in f16 or bf16: masters, biases, weights of norms.
    pub stays_f32: bool,
}

impl Input {
    /// A differentiable float input.
    pub fn new(name: &'static str, shape: &[usize], values: Values) -> Self {
        Input { name, shape: shape.to_vec(), values, differentiable: true, index: false, stays_f32: false }
    }

    /// A float input without gradient.
    pub fn constant(name: &'static str, shape: &[usize], values: Values) -> Self {
        Input { differentiable: false, ..Self::new(name, shape, values) }
    }

    /// An i32 input.
    pub fn index(name: &'static str, shape: &[usize], values: Values) -> Self {
        Input { index: true, ..Self::constant(name, shape, values) }
    }

    /// The same input, which stays f32 when the op computes in f16 or bf16.
    pub fn in_f32(self) -> Self {
        Input { stays_f32: true, ..self }
    }

    /// The type in which it is given to an op that computes in `dtype`.
    pub fn dtype(&self, dtype: DType) -> DType {
        match dtype {
            _ if self.index => DType::I32,
            DType::F16 | DType::BF16 if self.stays_f32 => DType::F32,
            _ => dtype,
        }
    }

    /// Its elements for a seed; floats as `dtype`.
    pub fn tensor(&self, dtype: DType, seed: u64) -> Tensor {
        self.make(dtype, Philox { seed, stream: 0 })
    }

    fn make(&self, dtype: DType, philox: Philox) -> Tensor {
        let n: usize = self.shape.iter().product();
        let uniform = |i: usize| f64::from(philox.word(i as u64)) / 4_294_967_296.0;
        let values: Vec<f64> = match &self.values {
            Values::Normal(std) => (0..n).map(|i| std * philox.normal(i as u64)).collect(),
            Values::Uniform(lo, hi) => (0..n).map(|i| lo + (hi - lo) * uniform(i)).collect(),
            Values::AwayFromZero(lo, hi) => (0..n)
                .map(|i| {
                    let u = 2.0 * uniform(i);
                    let magnitude = lo + (hi - lo) * u.fract();
                    if u < 1.0 { -magnitude } else { magnitude }
                })
                .collect(),
            Values::Index(lo, hi) => {
                (0..n).map(|i| f64::from(*lo) + (f64::from(hi - lo) * uniform(i)).floor()).collect()
            }
            Values::Distinct(step) => {
                let mut order: Vec<usize> = (0..n).collect();
                order.sort_by_key(|&i| philox.word(i as u64));
                order.iter().map(|&i| step * (i as f64 - n as f64 / 2.0)).collect()
            }
            Values::Exact(v) => {
                assert_eq!(v.len(), n, "case input {}: {} values for {:?}", self.name, v.len(), self.shape);
                v.clone()
            }
        };
        let dtype = if self.index { DType::I32 } else { dtype };
        Tensor::from_slice(&values, &self.shape, Device::Cpu).to_dtype(dtype)
    }
}

/// An op with the description of its inputs.
#[derive(Debug)]
pub struct Case {
    /// Says what is special about it: "one row", "odd width", "more rows than a block".
    pub name: String,
    /// The op.
    pub op: Rc<dyn Op>,
    /// Its inputs.
    pub inputs: Vec<Input>,
    /// Largest allowed |fast f32 - reference f64| relative to the largest magnitude of the tensor compared: an f32
    /// rounding (6e-8) times the growth that the length of the op's sums causes.
    pub tolerance: f64,
    /// Whether dropout draws.
    pub training: bool,
    /// Whether it computes in f16 and bf16 too.
    pub in_half: bool,
    /// True for shapes that only benches run: the reference would take too long.
    pub only_for_benches: bool,
    /// An output that nothing depends on: backward gets no gradient of it.
    pub unused_output: Option<usize>,
    /// The seed of the values.
    pub seed: u64,
}

impl Case {
    /// A case in eval mode with a tolerance of 1e-5.
    pub fn new(name: impl Into<String>, op: impl Op + 'static, inputs: Vec<Input>) -> Self {
        Case {
            name: name.into(),
            op: Rc::new(op),
            inputs,
            tolerance: 1e-5,
            training: false,
            in_half: true,
            only_for_benches: false,
            unused_output: None,
            seed: 1,
        }
    }

    /// Sets the tolerance.
    pub fn tolerance(self, tolerance: f64) -> Self {
        Case { tolerance, ..self }
    }

    /// Lets dropout draw.
    pub fn training(self) -> Self {
        Case { training: true, ..self }
    }

    /// For ops that stay in f32 when a model computes in f16 or bf16: everything from logits and boxes on.
    pub fn only_in_f32(self) -> Self {
        Case { in_half: false, ..self }
    }

    /// Keeps it out of tests.
    pub fn only_for_benches(self) -> Self {
        Case { only_for_benches: true, ..self }
    }

    /// Nothing depends on that output.
    pub fn unused_output(self, output: usize) -> Self {
        Case { unused_output: Some(output), ..self }
    }

    /// Sets the seed of the values.
    pub fn seed(self, seed: u64) -> Self {
        Case { seed, ..self }
    }

    /// The inputs, floats as `dtype`. Values are rounded to f32 first so that every dtype sees the same problem.
    pub fn make_inputs(&self, dtype: DType) -> Vec<Tensor> {
        self.inputs
            .iter()
            .enumerate()
            .map(|(i, input)| {
                let philox = Philox { seed: self.seed, stream: i as u64 };
                input.make(DType::F32, philox).to_dtype(input.dtype(dtype))
            })
            .collect()
    }
}

/// Random choices from a list that a property test draws and shrinks: every choice that is missing counts as 0, the
/// smallest, so a failing case shrinks to a small one.
#[derive(Debug)]
pub struct Draw<'a> {
    choices: std::slice::Iter<'a, u32>,
}

impl<'a> Draw<'a> {
    /// Draws from `choices`, front to back.
    pub fn new(choices: &'a [u32]) -> Self {
        Draw { choices: choices.iter() }
    }

    /// A number in lo..=hi.
    pub fn size(&mut self, lo: usize, hi: usize) -> usize {
        lo + self.choices.next().copied().unwrap_or(0) as usize % (hi - lo + 1)
    }

    /// One of the options.
    pub fn pick<T: Clone>(&mut self, options: &[T]) -> T {
        options[self.size(0, options.len() - 1)].clone()
    }

    /// True or false.
    pub fn flag(&mut self) -> bool {
        self.size(0, 1) == 1
    }

    /// A seed for values.
    pub fn seed(&mut self) -> u64 {
        u64::from(self.choices.next().copied().unwrap_or(0))
    }
}
