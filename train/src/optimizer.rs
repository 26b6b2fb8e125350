//! AdamW over the model's parameters, in the three published groups.

use anyhow::{Result, bail, ensure};
use mdetr_autograd::{Gradients, ParameterId, Parameters};
use mdetr_kernels::adamw::{self, AdamW, Gradient, NonFinite, Update};
use mdetr_kernels::{DType, Precision, Tensor};

use crate::loss_scale::LossScale;
use crate::schedule::Rates;

/// Which learning rate a parameter has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    /// `lr`
    Base,
    /// `lr_backbone`
    Backbone,
    /// `text_encoder_lr`
    TextEncoder,
}

impl Group {
    /// As published, the name decides.
    pub fn of(name: &str) -> Self {
        if name.contains("backbone") {
            Group::Backbone
        } else if name.contains("text_encoder") {
            Group::TextEncoder
        } else {
            Group::Base
        }
    }

    /// For people.
    pub fn name(self) -> &'static str {
        match self {
            Group::Base => "base",
            Group::Backbone => "backbone",
            Group::TextEncoder => "text_encoder",
        }
    }

    fn rate(self, rates: Rates) -> f64 {
        match self {
            Group::Base => rates.base,
            Group::Backbone => rates.backbone,
            Group::TextEncoder => rates.text_encoder,
        }
    }
}

/// What the optimizer keeps between steps.
#[derive(Debug)]
pub struct Optimizer {
    groups: Vec<Group>,
    /// Of each parameter that has had a gradient.
    moments: Vec<Option<Moments>>,
    record: StepRecord,
    ema: Option<Vec<Tensor>>,
    ema_decay: f64,
    weight_decay: f64,
    clip_max_norm: f64,
}

/// What AdamW knows of a parameter's past.
#[derive(Debug)]
struct Moments {
    mean: Tensor,
    square: Tensor,
}

/// The numbers that change from step to step; a step that is skipped changes the scale alone.
#[derive(Debug)]
struct StepRecord {
    /// In f16 only.
    loss_scale: Option<LossScale>,
    /// Updates made, of each parameter.
    updates: Vec<u32>,
}

impl Optimizer {
    /// For `parameters` whose gradients are computed in `precision`; the moving average, if any, starts as a copy of them.
    pub fn new(
        parameters: &Parameters,
        precision: Precision,
        weight_decay: f64,
        clip_max_norm: f64,
        ema_decay: Option<f64>,
    ) -> Self {
        let loss_scale = (precision == Precision::F16).then(LossScale::default);
        Optimizer {
            record: StepRecord { loss_scale, updates: vec![0; parameters.len()] },
            groups: parameters.iter().map(|(_, p)| Group::of(&p.name)).collect(),
            moments: parameters.iter().map(|_| None).collect(),
            ema: ema_decay.map(|_| parameters.iter().map(|(_, p)| p.value.copy()).collect()),
            ema_decay: ema_decay.unwrap_or(0.0),
            weight_decay,
            clip_max_norm,
        }
    }

    /// The scale that the next step's loss needs; `None` outside of f16.
    pub fn loss_scale(&self) -> Option<LossScale> {
        self.record.loss_scale
    }

    /// One step: global-norm clipping, AdamW, moving average, compute copies. Returns the norm before clipping. When a
    /// gradient is not finite nothing is touched: in f16 the step is skipped, returns `None` and changes the scale; elsewhere
    /// (and in f16 when no scale helps) the error names the first such parameter.
    pub fn step(&mut self, parameters: &mut Parameters, gradients: &Gradients, rates: Rates) -> Result<Option<f64>> {
        match self.update(parameters, gradients, rates) {
            Ok(norm) => {
                gradients.iter().for_each(|(id, _)| self.record.updates[id.0] += 1);
                self.record.loss_scale.iter_mut().for_each(LossScale::step_was_made);
                Ok(Some(norm))
            }
            Err(id) => {
                let name = &parameters[id].name;
                let Some(scale) = &mut self.record.loss_scale else {
                    bail!("the gradient of {name} is not finite");
                };
                let last = scale.value();
                ensure!(
                    scale.step_was_skipped(),
                    "the gradient of {name} is not finite even with the loss scaled by {last:.1e}: f16 does not \
                     hold this model's gradients, try --bf16 or a smaller learning rate"
                );
                Ok(None)
            }
        }
    }

    /// The norm, or the first parameter whose gradient is not finite.
    fn update(
        &mut self,
        parameters: &mut Parameters,
        gradients: &Gradients,
        rates: Rates,
    ) -> Result<f64, ParameterId> {
        let zeros = |t: &Tensor| Tensor::zeros(t.shape(), DType::F32, t.device());
        for (id, grad) in gradients.iter() {
            self.moments[id.0].get_or_insert_with(|| Moments { mean: zeros(grad), square: zeros(grad) });
        }
        let options = AdamW {
            max_norm: (self.clip_max_norm > 0.0).then_some(self.clip_max_norm),
            loss_scale: self.record.loss_scale.map_or(1.0, |scale| scale.value().into()),
            ema_decay: self.ema_decay,
            ..AdamW::default()
        };
        let mut averages = self.ema.as_mut().map(|ema| ema.iter_mut());
        let mut updates = Vec::new();
        for (((id, p), moments), group) in parameters.iter_mut().zip(&mut self.moments).zip(&self.groups) {
            let ema = averages.as_mut().and_then(Iterator::next);
            let has_trained = moments.is_some();
            let gradient = gradients.parameter(id).zip(moments.as_mut()).map(|(grad, moments)| Gradient {
                grad,
                m: &mut moments.mean,
                v: &mut moments.square,
                step: self.record.updates[id.0] as usize + 1,
                lr: group.rate(rates),
                weight_decay: self.weight_decay,
            });
            // What never had a gradient equals its average.
            if has_trained {
                updates.push((id, Update { value: &mut p.value, ema, copy: p.copy.as_mut(), gradient }));
            }
        }
        let (ids, mut updates): (Vec<_>, Vec<_>) = updates.into_iter().unzip();
        adamw::step(&mut updates, &options).map_err(|NonFinite { index }| ids[index])
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

#[cfg(test)]
mod tests {
    use mdetr_autograd::functional as f;
    use mdetr_autograd::{Layout, Parameter, Tape};
    use mdetr_kernels::Device;
    use mdetr_kernels::activation::Activation;

    use super::*;

    const RATES: Rates = Rates { base: 0.1, backbone: 0.1, text_encoder: 0.1 };

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
        let scale = optimizer.loss_scale().map_or(1.0, |scale| scale.value().into());
        let gradients = tape.backward_scaled(&loss, scale);
        drop((x, w, b, y, loss));
        drop(tape);
        optimizer.step(parameters, &gradients, RATES)
    }

    #[test]
    fn f16_skips_steps_until_gradients_fit_and_touches_nothing_meanwhile() {
        let mut parameters = parameters(Precision::F16);
        let mut optimizer = Optimizer::new(&parameters, Precision::F16, 0.0, 0.0, Some(0.5));
        let values = |p: &Parameters| p.iter().map(|(_, p)| p.value.item()).collect::<Vec<_>>();
        // The gradient of w is 1000 times the scale: it is finite, at most 65504, from a scale of 64 on.
        for skipped in 1..=10 {
            assert_eq!(step(&mut optimizer, &mut parameters, Precision::F16, 1000.0).unwrap(), None);
            assert_eq!(optimizer.loss_scale().unwrap().skipped(), skipped);
            assert_eq!(optimizer.record.updates, [0, 0]);
            assert_eq!((values(&parameters), optimizer.ema().unwrap()[0].item()), (vec![0.5, 0.5], 0.5));
        }
        let norm = step(&mut optimizer, &mut parameters, Precision::F16, 1000.0).unwrap();
        assert!((norm.unwrap() - 1e6f64.hypot(1e3) / 1e3).abs() < 1e-9, "{norm:?}: without the scale");
        assert_eq!((optimizer.loss_scale().unwrap().value(), &optimizer.record.updates[..]), (64.0, &[1, 1][..]));
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
            let mut optimizer = Optimizer::new(&parameters, precision, 0.0, 0.0, None);
            for _ in 1..steps {
                assert_eq!(step(&mut optimizer, &mut parameters, precision, f32::INFINITY).unwrap(), None);
            }
            let error = step(&mut optimizer, &mut parameters, precision, f32::INFINITY).unwrap_err().to_string();
            assert!(error.contains("the gradient of w is not finite") && error.contains(hint), "{error}");
        }
    }
}
