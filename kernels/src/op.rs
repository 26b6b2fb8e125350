//! What an op is, and what the tape and an op say to each other.

use std::fmt::Debug;
use std::rc::Rc;

use crate::device::Device;
use crate::launch::Arg;
use crate::philox::Philox;
use crate::tensor::{Tensor, TensorMut};

/// A differentiable function of tensors. An op knows nothing of variables and tapes.
pub trait Op: Debug {
    /// The folder's name.
    fn name(&self) -> &'static str;

    /// Computes the outputs. What backward needs is put into [`Outputs::saved`]; nothing else stays alive.
    fn forward(&self, cx: &mut Cx, inputs: &[&Tensor]) -> Outputs;

    /// Computes the gradients of the inputs from those of the outputs (`None`: zero). One slot an input, in their
    /// order; an op computes nothing for a slot that is `Skip`.
    fn backward(&self, cx: &mut Cx, saved: Saved, grad_outs: &[Option<&Tensor>], grads: &mut [GradSlot]);

    /// Arithmetic and memory traffic of a pass, for rooflines.
    fn cost(&self, pass: Pass, inputs: &[&Tensor]) -> Cost;

    /// Whether few elements of its gradients are not zero. The tape then lets it add to zeros, which on the host are no
    /// memory before they are written.
    fn has_sparse_gradients(&self) -> bool {
        false
    }
}

impl Op for Rc<dyn Op> {
    fn name(&self) -> &'static str {
        (**self).name()
    }
    fn forward(&self, cx: &mut Cx, inputs: &[&Tensor]) -> Outputs {
        (**self).forward(cx, inputs)
    }
    fn backward(&self, cx: &mut Cx, saved: Saved, grad_outs: &[Option<&Tensor>], grads: &mut [GradSlot]) {
        (**self).backward(cx, saved, grad_outs, grads);
    }
    fn cost(&self, pass: Pass, inputs: &[&Tensor]) -> Cost {
        (**self).cost(pass, inputs)
    }
    fn has_sparse_gradients(&self) -> bool {
        (**self).has_sparse_gradients()
    }
}

/// What an op's forward returns.
#[derive(Debug, Default)]
pub struct Outputs {
    /// One to n outputs.
    pub tensors: Vec<Tensor>,
    /// What its backward needs.
    pub saved: Saved,
}

impl Outputs {
    /// A single output.
    pub fn one(y: Tensor, saved: Saved) -> Self {
        Outputs { tensors: vec![y], saved }
    }
}

/// What backward needs of forward.
#[derive(Debug, Default)]
pub struct Saved {
    /// Inputs, outputs and intermediates, in an order that is the op's own business.
    pub tensors: Vec<Tensor>,
    /// Where the op's random numbers came from.
    pub philox: Option<Philox>,
}

impl Saved {
    /// Saves tensors (cheap handles).
    pub fn tensors<const N: usize>(tensors: [&Tensor; N]) -> Self {
        Saved { tensors: tensors.map(Tensor::clone).to_vec(), philox: None }
    }
}

/// Where the gradient of one input goes. Only the tape decides which it is; the op honours it (beta = 0 or 1 in a
/// GEMM, `=` or `+=` in a kernel), so that no separate add runs and nothing frozen is computed.
pub enum GradSlot<'a> {
    /// Nobody needs it.
    Skip,
    /// The first contribution: the contents are arbitrary.
    Write(TensorMut<'a>),
    /// A later contribution: add to the contents.
    Accumulate(TensorMut<'a>),
}

impl GradSlot<'_> {
    /// False for `Skip`.
    pub fn is_needed(&self) -> bool {
        !matches!(self, GradSlot::Skip)
    }

    /// The elements to write and whether to add to them; `None` for `Skip`.
    #[track_caller]
    pub fn target<T: crate::Element>(&mut self) -> Option<(&mut [T], bool)> {
        match self {
            GradSlot::Skip => None,
            GradSlot::Write(t) => Some((t.as_mut_slice(), false)),
            GradSlot::Accumulate(t) => Some((t.as_mut_slice(), true)),
        }
    }

    /// The elements to add to (zeroed first for `Write`): for kernels that scatter or sum piece by piece.
    #[track_caller]
    pub fn accumulator<T: crate::Element>(&mut self) -> Option<&mut [T]> {
        let (out, accumulate) = self.target::<T>()?;
        if !accumulate {
            out.fill(T::from_f64(0.0));
        }
        Some(out)
    }

    /// Stores (or adds) a gradient computed elementwise by index.
    #[track_caller]
    pub fn store<T: crate::Real>(&mut self, value: impl Fn(usize) -> T) {
        if let Some((out, accumulate)) = self.target::<T>() {
            for (i, o) in out.iter_mut().enumerate() {
                *o = if accumulate { *o + value(i) } else { value(i) };
            }
        }
    }
}

/// What surrounds an op call.
#[derive(Debug)]
pub struct Cx {
    /// Where outputs are made.
    pub device: Device,
    /// Dropout draws masks when true, and is the identity when false.
    pub training: bool,
    /// False when no backward will come: ops may leave out what only it needs.
    pub saving: bool,
    seed: u64,
    /// Before those that are counted here.
    earlier: u64,
    draws: u64,
    /// `earlier` on a GPU, as two words, if kernels read it there.
    base: Option<Tensor>,
}

impl Cx {
    /// A context whose random numbers start at draw `draws` of the run with `seed`.
    pub fn new(device: Device, training: bool, saving: bool, seed: u64, draws: u64) -> Self {
        Cx { device, training, saving, seed, earlier: 0, draws, base: None }
    }

    /// The same whose kernels on a GPU read there at which draw it starts: their arguments are those of every step.
    pub fn with_draws_on_device(self) -> Self {
        if self.device.cuda().is_none() {
            return self;
        }
        let words = [self.draws as i32, (self.draws >> 32) as i32];
        let base = Some(Tensor::from_slice(&words, &[2], self.device));
        Cx { earlier: self.draws, draws: 0, base, ..self }
    }

    /// The next random stream; each call of an op that draws takes one.
    pub fn next_philox(&mut self) -> Philox {
        self.draws += 1;
        Philox { seed: self.seed, stream: self.draws }
    }

    /// A stream of this context as a kernel's argument.
    pub fn philox_arg(&self, philox: Option<Philox>) -> Arg {
        Arg::philox(philox, self.base.as_ref().map_or(0, Tensor::device_address))
    }

    /// How many streams were taken since the run began.
    pub fn draws(&self) -> u64 {
        self.earlier + self.draws
    }
}

/// Which pass a cost is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pass {
    /// Forward.
    Forward,
    /// Backward with the gradients of all inputs.
    Backward,
}

/// Arithmetic and memory traffic of one call.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Cost {
    /// Floating-point operations (a multiply-add is two).
    pub flops: f64,
    /// Bytes that must cross the memory bus at least.
    pub bytes: f64,
    /// Bytes kept alive for backward beyond inputs and outputs.
    pub saved: f64,
}

impl Cost {
    /// A cost without saved bytes.
    pub fn new(flops: usize, bytes: usize) -> Self {
        Cost { flops: flops as f64, bytes: bytes as f64, saved: 0.0 }
    }

    /// Adds saved bytes.
    pub fn saving(self, bytes: usize) -> Self {
        Cost { saved: bytes as f64, ..self }
    }
}
