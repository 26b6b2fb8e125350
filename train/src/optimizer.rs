//! AdamW, or gradient descent with momentum, over the model's parameters, in the three published groups.

mod state;

pub use state::OptimizerState;

use anyhow::{Result, bail, ensure};
use mdetr_autograd::{Gradients, Parameter, ParameterId, Parameters};
use mdetr_kernels::cuda::Cuda;
use mdetr_kernels::optimizer_step::{
    self, DeviceGradient, DeviceState, DeviceUpdate, Gradient, NonFinite, Rule, STATUS_LEN, StepOptions, Update,
};
use mdetr_kernels::{DType, Device, Precision, Tensor};
use serde::{Deserialize, Serialize};

use crate::loss_scale::{GROWTH_INTERVAL, LossScale, SMALLEST};
use crate::parameter_group::Group;
use crate::schedule::Rates;

/// How gradients become steps.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct OptimizerOptions {
    /// How a gradient changes a value.
    pub rule: Rule,
    /// Decay of the weights.
    pub weight_decay: f64,
    /// The largest global norm of the gradients; 0 does not clip.
    pub clip_max_norm: f64,
    /// Decay of the weights' moving average, if one is kept.
    pub ema_decay: Option<f64>,
}

impl Default for OptimizerOptions {
    /// As published.
    fn default() -> Self {
        OptimizerOptions { rule: Rule::ADAMW, weight_decay: 1e-4, clip_max_norm: 0.1, ema_decay: None }
    }
}

/// What the optimizer keeps between steps.
#[derive(Debug)]
pub struct Optimizer {
    options: OptimizerOptions,
    /// The parameters that get gradients, in order.
    trainable: Vec<ParameterId>,
    groups: Vec<Group>,
    /// Of each trainable parameter that has had a gradient.
    moments: Vec<Option<Moments>>,
    record: Record,
    /// Scale and skipped steps as of the last step that was judged; f16 only.
    scaling: Option<Scaling>,
    ema: Option<Vec<Tensor>>,
}

/// What is known of a parameter's past gradients.
#[derive(Debug)]
struct Moments {
    /// Their mean; SGD's sum.
    mean: Tensor,
    /// The mean of their squares, if the rule has it.
    square: Option<Tensor>,
}

/// The numbers that change from step to step; a step that is skipped changes the scale alone.
#[derive(Debug)]
enum Record {
    Host {
        /// In f16 only.
        loss_scale: Option<LossScale>,
        /// Updates made, of each trainable parameter.
        updates: Vec<u32>,
    },
    /// They never come to the host.
    Device(&'static Cuda, DeviceState),
}

/// What a step in f16 tells of its scale.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Scaling {
    /// The factor of the loss.
    pub scale: f64,
    /// Steps left out so far.
    pub skipped: usize,
}

/// How an optimizer's step went.
#[derive(Clone, Copy, Debug)]
pub struct Outcome {
    /// Norm of all gradients before clipping.
    pub grad_norm: f64,
    /// What the loss was multiplied by.
    pub loss_scale: f64,
    /// The place among the trainable parameters of the first whose gradient is not finite.
    pub non_finite: Option<usize>,
}

impl Optimizer {
    /// For `parameters` whose gradients are computed in `precision`, on the parameters' device; the moving average, if any,
    /// starts as a copy of them.
    pub fn new(parameters: &Parameters, precision: Precision, options: OptimizerOptions) -> Self {
        let trainable: Vec<ParameterId> =
            parameters.iter().filter(|(_, p)| p.requires_grad).map(|(id, _)| id).collect();
        let loss_scale = (precision == Precision::F16).then(LossScale::default);
        let record = match parameters.device() {
            Device::Cpu => Record::Host { loss_scale, updates: vec![0; trainable.len()] },
            Device::Cuda(cuda) => {
                let scale = loss_scale.map(|scale| scale.value());
                Record::Device(cuda, DeviceState::new(cuda, trainable.len(), scale, GROWTH_INTERVAL))
            }
        };
        let copies = || parameters.iter().map(|(_, p)| p.value.copy()).collect();
        Optimizer {
            groups: trainable.iter().map(|&id| Group::of(&parameters[id].name)).collect(),
            moments: trainable.iter().map(|_| None).collect(),
            trainable,
            record,
            scaling: loss_scale.map(|scale| Scaling { scale: scale.value().into(), skipped: 0 }),
            ema: options.ema_decay.map(|_| as_state(parameters.device(), copies)),
            options,
        }
    }

    /// The gradient of the loss, (): the scale that gradients come with.
    pub fn loss_gradient(&self) -> Tensor {
        match &self.record {
            Record::Host { loss_scale, .. } => {
                Tensor::scalar(loss_scale.map_or(1.0, |scale| scale.value()), Device::Cpu)
            }
            Record::Device(_, state) => state.loss_scale(),
        }
    }

    /// Scale and skipped steps as of the last step that was judged; `None` outside of f16.
    pub fn scaling(&self) -> Option<Scaling> {
        self.scaling
    }

    /// One step, judged at once: on a GPU it waits. Returns the norm before clipping, or `None` for a skipped step.
    pub fn step(&mut self, parameters: &mut Parameters, gradients: &Gradients, rates: Rates) -> Result<Option<f64>> {
        let status = self.enqueue(parameters, gradients, rates).to_f64_vec();
        self.judge(parameters, Outcome::new(&status))
    }

    /// One step: global-norm clipping, the rule, moving average, compute copies. When a gradient is not finite nothing is
    /// touched. Returns what [`Outcome::new`] reads, on the parameters' device, without waiting for it.
    pub fn enqueue(&mut self, parameters: &mut Parameters, gradients: &Gradients, rates: Rates) -> Tensor {
        let device = parameters.device();
        for (place, &id) in self.trainable.iter().enumerate() {
            if let Some(grad) = gradients.parameter(id) {
                let zeros = || grad.zeros_like(DType::F32);
                let square = || self.options.rule.has_square().then(zeros);
                let make = || as_state(device, || Moments { mean: zeros(), square: square() });
                self.moments[place].get_or_insert_with(make);
            }
        }
        match device {
            Device::Cpu => self.step_on_host(parameters, gradients, rates),
            Device::Cuda(_) => self.step_on_device(parameters, gradients, rates),
        }
    }

    /// What a step's outcome means: the norm before clipping; in f16 `None` for a step that was skipped. Errors name the
    /// first parameter whose gradient is not finite, in f16 when no scale helps.
    pub fn judge(&mut self, parameters: &Parameters, outcome: Outcome) -> Result<Option<f64>> {
        let scaling = self.scaling.as_mut();
        let Some(place) = outcome.non_finite else {
            scaling.into_iter().for_each(|s| s.scale = outcome.loss_scale);
            return Ok(Some(outcome.grad_norm));
        };
        let name = &parameters[self.trainable[place]].name;
        let Some(scaling) = scaling else { bail!("the gradient of {name} is not finite") };
        *scaling = Scaling { scale: 0.5 * outcome.loss_scale, skipped: scaling.skipped + 1 };
        ensure!(
            scaling.scale >= SMALLEST,
            "the gradient of {name} is not finite even with the loss scaled by {:.1e}: f16 does not hold this model's \
             gradients, try --bf16 or a smaller learning rate",
            outcome.loss_scale
        );
        Ok(None)
    }

    fn step_on_host(&mut self, parameters: &mut Parameters, gradients: &Gradients, rates: Rates) -> Tensor {
        let Record::Host { loss_scale, updates: counts } = &mut self.record else {
            panic!("optimizer: made for parameters on a GPU, given some on the host")
        };
        let scale = loss_scale.map_or(1.0, |scale| scale.value());
        let options = self.options.of_step(scale.into());
        let mut updates = Vec::new();
        let mut places = Vec::new();
        let trainable = trainable_mut(parameters, self.ema.as_mut()).into_iter().zip(&mut self.moments);
        for (place, ((id, p, ema), moments)) in trainable.enumerate() {
            // What never had a gradient equals its average.
            let Some(moments) = moments else { continue };
            let gradient = gradients.parameter(id).map(|grad| Gradient {
                grad,
                m: &mut moments.mean,
                v: moments.square.as_mut(),
                step: counts[place] as usize + 1,
                lr: self.groups[place].rate(rates),
                weight_decay: self.options.weight_decay,
            });
            updates.push(Update { value: &mut p.value, ema, copy: p.copy.as_mut(), gradient });
            places.push(place);
        }
        let result = optimizer_step::step(&mut updates, &options);
        drop(updates);
        let (norm, place) = match result {
            Ok(norm) => {
                for (count, &id) in counts.iter_mut().zip(&self.trainable) {
                    *count += u32::from(gradients.parameter(id).is_some());
                }
                loss_scale.iter_mut().for_each(LossScale::step_was_made);
                (norm as f32, -1.0)
            }
            Err(NonFinite { index }) => {
                loss_scale.iter_mut().for_each(LossScale::step_was_skipped);
                (f32::INFINITY, places[index] as f32)
            }
        };
        Tensor::from_slice(&[norm, scale, place], &[STATUS_LEN], Device::Cpu)
    }

    fn step_on_device(&mut self, parameters: &mut Parameters, gradients: &Gradients, rates: Rates) -> Tensor {
        let Record::Device(cuda, state) = &mut self.record else {
            panic!("optimizer: made for parameters on the host, given some on a GPU")
        };
        let device = Device::Cuda(cuda);
        let mut updates = Vec::new();
        let trainable = trainable_mut(parameters, self.ema.as_mut()).into_iter().zip(&mut self.moments);
        for (((id, p, ema), moments), &group) in trainable.zip(&self.groups) {
            let ema = ema.filter(|_| moments.is_some());
            let gradient = gradients.parameter(id).zip(moments.as_mut()).map(|(grad, moments)| DeviceGradient {
                grad,
                m: &mut moments.mean,
                v: moments.square.as_mut(),
            });
            let group = group as usize;
            updates.push(DeviceUpdate { value: &mut p.value, copy: p.copy.as_mut(), ema, gradient, group });
        }
        let rates = [Group::Base, Group::Backbone, Group::TextEncoder].map(|group| group.rate(rates) as f32);
        let rates = Tensor::from_slice(&rates, &[rates.len()], device);
        let mut status = Tensor::empty(&[STATUS_LEN], DType::F32, device);
        let OptimizerOptions { weight_decay, .. } = self.options;
        let (slot, options) = (&mut status.view_mut(), self.options.of_step(1.0));
        optimizer_step::step_on_device(cuda, slot, &mut updates, state, &rates, weight_decay, &options);
        status
    }

    /// The moving average of the weights.
    pub fn ema(&self) -> Option<&[Tensor]> {
        self.ema.as_deref()
    }

    /// The moving average as parameters, or else a copy of `parameters`; for f32.
    pub fn averaged(&self, parameters: &Parameters) -> Parameters {
        let mut averaged = parameters.clone();
        averaged.set_precision(Precision::F32);
        if let Some(ema) = &self.ema {
            averaged.iter_mut().zip(ema).for_each(|((_, p), ema)| p.value = ema.clone());
        }
        averaged
    }
}

impl Outcome {
    /// Of the numbers that [`Optimizer::enqueue`] returns.
    #[track_caller]
    pub fn new(status: &[f64]) -> Self {
        let &[grad_norm, loss_scale, place] = status else {
            panic!("outcome: {status:?} is not {STATUS_LEN} numbers")
        };
        Outcome { grad_norm, loss_scale, non_finite: (place >= 0.0).then_some(place as usize) }
    }
}

/// Each parameter that gets gradients, with its average.
fn trainable_mut<'a>(
    parameters: &'a mut Parameters,
    ema: Option<&'a mut Vec<Tensor>>,
) -> Vec<(ParameterId, &'a mut Parameter, Option<&'a mut Tensor>)> {
    let mut averages = ema.map(|ema| ema.iter_mut());
    let with_average = parameters.iter_mut().map(|(id, p)| (id, p, averages.as_mut().and_then(Iterator::next)));
    with_average.filter(|(_, p, _)| p.requires_grad).collect()
}

/// Runs `make`, whose tensors outlive the step, on a device.
fn as_state<R>(device: Device, make: impl FnOnce() -> R) -> R {
    match device.cuda() {
        None => make(),
        Some(cuda) => cuda.allocating_state(make),
    }
}

impl OptimizerOptions {
    fn of_step(self, loss_scale: f64) -> StepOptions {
        let max_norm = (self.clip_max_norm > 0.0).then_some(self.clip_max_norm);
        StepOptions { rule: self.rule, max_norm, loss_scale, ema_decay: self.ema_decay.unwrap_or(0.0) }
    }
}

#[cfg(test)]
mod tests {
    use mdetr_autograd::functional as f;
    use mdetr_autograd::{Layout, Tape};
    use mdetr_kernels::activation::Activation;

    use super::*;

    const RATES: Rates = Rates { base: 0.1, backbone: 0.1, text_encoder: 0.1 };

    fn options(ema_decay: Option<f64>) -> OptimizerOptions {
        OptimizerOptions { rule: Rule::ADAMW, weight_decay: 0.0, clip_max_norm: 0.0, ema_decay }
    }

    /// w (1, 1) and b (1) of a linear map.
    fn parameters(precision: Precision) -> Parameters {
        let mut parameters = Parameters::default();
        for (name, shape, in_compute_dtype) in [("w", &[1, 1][..], true), ("b", &[1], false)] {
            parameters.push(Parameter {
                name: name.into(),
                value: Tensor::from_slice(&[0.5f32], shape, Device::Cpu),
                copy: None,
                in_compute_dtype,
                layout: Layout::AsIs,
                is_buffer: false,
                requires_grad: true,
            });
        }
        parameters.set_precision(precision);
        parameters
    }

    fn updates(optimizer: &Optimizer) -> &[u32] {
        let Record::Host { updates, .. } = &optimizer.record else { panic!("on the host") };
        updates
    }

    /// A step on the loss w x + b, whose gradients are x and 1.
    fn step(
        optimizer: &mut Optimizer,
        parameters: &mut Parameters,
        precision: Precision,
        x: f32,
    ) -> Result<Option<f64>> {
        let tape = Tape::training(parameters, Device::Cpu, precision, 0, 0);
        let x = tape.constant(Tensor::from_slice(&[x], &[1, 1], Device::Cpu).to_dtype(tape.compute_dtype()));
        let [w, b] = ["w", "b"].map(|name| tape.parameter(parameters.find(name).unwrap()));
        let y = f::cast(&f::linear(&x, &w, &b, Activation::None), DType::F32);
        let loss = f::weighted_sum(&[(&y, 1.0)]);
        let gradients = tape.backward_of(&loss, optimizer.loss_gradient());
        drop((x, w, b, y, loss));
        drop(tape);
        optimizer.step(parameters, &gradients, RATES)
    }

    #[test]
    fn f16_skips_steps_until_gradients_fit_and_touches_nothing_meanwhile() {
        let mut parameters = parameters(Precision::F16);
        let mut optimizer = Optimizer::new(&parameters, Precision::F16, options(Some(0.5)));
        let values = |p: &Parameters| p.iter().map(|(_, p)| p.value.item()).collect::<Vec<_>>();
        // The gradient of w is 1000 times the scale: it is finite, at most 65504, from a scale of 64 on.
        for skipped in 1..=10 {
            assert_eq!(step(&mut optimizer, &mut parameters, Precision::F16, 1000.0).unwrap(), None);
            assert_eq!(optimizer.scaling().unwrap().skipped, skipped);
            assert_eq!(updates(&optimizer), [0, 0]);
            assert_eq!((values(&parameters), optimizer.ema().unwrap()[0].item()), (vec![0.5, 0.5], 0.5));
        }
        let norm = step(&mut optimizer, &mut parameters, Precision::F16, 1000.0).unwrap();
        // The status is f32.
        assert!((norm.unwrap() - 1e6f64.hypot(1e3) / 1e3).abs() < 1e-4, "{norm:?}: without the scale");
        assert_eq!((optimizer.scaling().unwrap().scale, updates(&optimizer)), (64.0, &[1, 1][..]));
        // The first step of Adam is the learning rate; the copy is the rounded master.
        let w = &parameters[parameters.find("w").unwrap()];
        assert!((w.value.item() - 0.4).abs() < 1e-6, "{}", w.value.item());
        assert_eq!(w.copy.as_ref().unwrap().to_f64_vec(), w.value.to_dtype(DType::F16).to_f64_vec());
    }

    #[test]
    fn what_no_scale_helps_is_an_error_that_names_the_parameter() {
        for (precision, steps, hint) in
            [(Precision::F16, 31, "--bf16"), (Precision::BF16, 1, ""), (Precision::F32, 1, "")]
        {
            let mut parameters = parameters(precision);
            let mut optimizer = Optimizer::new(&parameters, precision, options(None));
            for _ in 1..steps {
                assert_eq!(step(&mut optimizer, &mut parameters, precision, f32::INFINITY).unwrap(), None);
            }
            let error = step(&mut optimizer, &mut parameters, precision, f32::INFINITY).unwrap_err().to_string();
            assert!(error.contains("the gradient of w is not finite") && error.contains(hint), "{error}");
        }
    }
}
