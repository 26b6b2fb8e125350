//! One optimizer step over all parameters: clipping by the global norm (Pascanu et al., 2013, arXiv 1211.5063), AdamW
//! (Loshchilov & Hutter, 2019, arXiv 1711.05101) or gradient descent with momentum (Sutskever et al., 2013, as PyTorch
//! writes it), and a moving average of the weights. With t the parameter's own count of updates, from 1:
//!
//! ```text
//! g     = grad / scale min(1, max_norm / (norm + 1e-6))     norm over grad / scale of all parameters
//!
//! AdamW                                             SGD
//! m     = beta1 m + (1 - beta1) g                   m     = momentum m + g + weight_decay value
//! v     = beta2 v + (1 - beta2) g^2                 value = value - lr m
//! value = value (1 - lr weight_decay) - lr / (1 - beta1^t) m / (sqrt(v / (1 - beta2^t)) + eps)
//!
//! ema   = decay ema + (1 - decay) value             copy  = value, rounded
//! ```
//!
//! Gradients may be f16 or bf16; masters, moments and averages, and all arithmetic, are f32.

mod cpu;
mod cuda;
mod part;
mod reference;

pub use cuda::{DeviceGradient, DeviceState, DeviceUpdate, KERNELS, STATUS_LEN, step_on_device};

use rayon::prelude::*;

use crate::simd::{BLOCK, vectorized};
use crate::{DType, Element, Tensor, dispatch_real, rounding};

/// How a gradient changes a value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Rule {
    /// By its mean, divided by the root of its square's.
    AdamW {
        /// Decay of the gradient's mean and of its square's.
        betas: [f64; 2],
        /// Keeps the denominator from 0.
        eps: f64,
    },
    /// By the sum of all gradients so far, which decays.
    Sgd {
        /// What is left of the sum after a step.
        momentum: f64,
    },
}

impl Rule {
    /// With PyTorch's defaults.
    pub const ADAMW: Self = Rule::AdamW { betas: [0.9, 0.999], eps: 1e-8 };
    /// With MDETR's momentum.
    pub const SGD: Self = Rule::Sgd { momentum: 0.9 };

    /// Whether the rule asks for the mean of the gradient's square.
    pub fn has_square(self) -> bool {
        matches!(self, Rule::AdamW { .. })
    }
}

/// What all parameters share.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepOptions {
    /// How gradients change values.
    pub rule: Rule,
    /// The largest global norm; `None` does not clip.
    pub max_norm: Option<f64>,
    /// What the loss, and so every gradient, was multiplied by.
    pub loss_scale: f64,
    /// Decay of the moving average.
    pub ema_decay: f64,
}

impl Default for StepOptions {
    /// AdamW, and MDETR's clipping and moving average.
    fn default() -> Self {
        StepOptions { rule: Rule::ADAMW, max_norm: Some(0.1), loss_scale: 1.0, ema_decay: 0.9998 }
    }
}

/// A parameter in a step. All its tensors have one shape and dtype, f32 or f64; beside f32, the gradient and the copy may be
/// f16 or bf16.
#[derive(Debug)]
pub struct Update<'a> {
    /// The master value.
    pub value: &'a mut Tensor,
    /// The moving average, if one is kept; it moves without a gradient too.
    pub ema: Option<&'a mut Tensor>,
    /// The value in the compute dtype, if that is another.
    pub copy: Option<&'a mut Tensor>,
    /// `None` when the loss did not depend on the parameter: then its value stays, without decay.
    pub gradient: Option<Gradient<'a>>,
}

/// A parameter's gradient and what turns it into a change of the value.
#[derive(Debug)]
pub struct Gradient<'a> {
    /// The gradient, scaled and not clipped.
    pub grad: &'a Tensor,
    /// The mean of the gradient, or SGD's sum; 0 before the first update.
    pub m: &'a mut Tensor,
    /// The mean of its square, 0 before the first update, if the rule has it.
    pub v: Option<&'a mut Tensor>,
    /// The number of this update, from 1. As in PyTorch, steps in which the parameter had no gradient do not count.
    pub step: usize,
    /// The learning rate.
    pub lr: f64,
    /// AdamW: decoupled from the gradient, times the learning rate. SGD: part of the gradient.
    pub weight_decay: f64,
}

/// Why a step was not made: a gradient has an infinity or a NaN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NonFinite {
    /// The first such parameter's place in the list of updates.
    pub index: usize,
}

/// Updates all parameters and returns the global norm of their gradients, without the scale, before clipping. When that is
/// not finite, nothing is touched.
#[track_caller]
pub fn step(updates: &mut [Update], options: &StepOptions) -> Result<f64, NonFinite> {
    updates.iter().for_each(|update| check(update, options.rule));
    let norm = global_norm(updates)? / options.loss_scale;
    let clip = options.max_norm.map_or(1.0, |max_norm| (max_norm / (norm + 1e-6)).min(1.0));
    let factor = clip / options.loss_scale;
    let (fast, exact): (Vec<&mut Update>, Vec<&mut Update>) =
        updates.iter_mut().partition(|update| update.value.dtype() == DType::F32);
    cpu::update(fast, factor, options);
    exact.into_iter().for_each(|update| reference::update::<f64>(update, factor, options));
    Ok(norm)
}

#[track_caller]
fn check(update: &Update, rule: Rule) {
    let value = &update.value;
    assert!(matches!(value.dtype(), DType::F32 | DType::F64), "optimizer_step: value is {value:?}");
    let same = |name: &str, t: &Tensor, has_type: bool| {
        assert!(t.shape() == value.shape() && has_type, "optimizer_step: {name} is {t:?}, value is {value:?}");
    };
    let is_master = |t: &Tensor| t.dtype() == value.dtype();
    let is_rounded = |t: &Tensor| value.dtype() == DType::F32 && rounding::is_half(t.dtype());
    update.ema.iter().for_each(|ema| same("ema", ema, is_master(ema)));
    update.copy.iter().for_each(|copy| same("copy", copy, is_rounded(copy)));
    if let Some(gradient) = &update.gradient {
        same("grad", gradient.grad, is_master(gradient.grad) || is_rounded(gradient.grad));
        same("m", gradient.m, is_master(gradient.m));
        gradient.v.iter().for_each(|v| same("v", v, is_master(v)));
        assert_eq!(gradient.v.is_some(), rule.has_square(), "optimizer_step: whether there is a v, for {rule:?}");
        assert!(gradient.step > 0, "optimizer_step: the first update of {value:?} is number 1");
    }
}

/// Squares are summed in f64, in blocks and then in order, so that the norm is the same for any number of threads.
fn global_norm(updates: &[Update]) -> Result<f64, NonFinite> {
    let mut total = 0.0;
    for (index, update) in updates.iter().enumerate() {
        let Some(gradient) = &update.gradient else { continue };
        let grad = rounding::widened(gradient.grad);
        let sums: Vec<f64> = dispatch_real!("optimizer_step", grad.dtype(), T => {
            grad.as_slice::<T>().par_chunks(BLOCK).map(sum_of_squares).collect()
        });
        total += sums.iter().sum::<f64>();
        if !f64::is_finite(total) {
            return Err(NonFinite { index });
        }
    }
    Ok(total.sqrt())
}

/// In lanes, which vectorize.
fn sum_of_squares<T: Element>(block: &[T]) -> f64 {
    let (chunks, rest) = block.as_chunks::<16>();
    let mut lanes = [0.0; 16];
    vectorized(|| {
        for chunk in chunks {
            for (lane, g) in lanes.iter_mut().zip(chunk) {
                *lane += g.to_f64() * g.to_f64();
            }
        }
    });
    lanes.into_iter().chain(rest.iter().map(|g| g.to_f64() * g.to_f64())).sum()
}
