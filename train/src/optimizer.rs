//! AdamW over the model's parameters, in the three published groups.

use anyhow::{Result, bail};
use mdetr_autograd::{Gradients, Parameters};
use mdetr_kernels::adamw::{self, AdamW, Gradient, NonFinite, Update};
use mdetr_kernels::{DType, Device, Tensor};

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
    /// Updates made.
    steps: usize,
}

impl Optimizer {
    /// For `parameters`; the moving average, if any, starts as a copy of them.
    pub fn new(parameters: &Parameters, weight_decay: f64, clip_max_norm: f64, ema_decay: Option<f64>) -> Self {
        Optimizer {
            groups: parameters.iter().map(|(_, p)| Group::of(&p.name)).collect(),
            moments: parameters.iter().map(|_| None).collect(),
            ema: ema_decay.map(|_| parameters.iter().map(|(_, p)| p.value.copy()).collect()),
            ema_decay: ema_decay.unwrap_or(0.0),
            weight_decay,
            clip_max_norm,
        }
    }

    /// One step: global-norm clipping, AdamW, moving average. Returns the norm before clipping. When a gradient is not
    /// finite nothing is touched, and the error names the first such parameter.
    pub fn step(&mut self, parameters: &mut Parameters, gradients: &Gradients, rates: Rates) -> Result<f64> {
        let zeros = |t: &Tensor| Tensor::zeros(t.shape(), DType::F32, Device::Cpu);
        for (id, grad) in gradients.iter() {
            self.moments[id.0].get_or_insert_with(|| Moments { mean: zeros(grad), square: zeros(grad), steps: 0 });
        }
        let options = AdamW {
            max_norm: (self.clip_max_norm > 0.0).then_some(self.clip_max_norm),
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
                step: moments.steps + 1,
                lr: group.rate(rates),
                weight_decay: self.weight_decay,
            });
            // What never had a gradient equals its average.
            if has_trained {
                updates.push((id, Update { value: &mut p.value, ema, gradient }));
            }
        }
        let (ids, mut updates): (Vec<_>, Vec<_>) = updates.into_iter().unzip();
        let result = adamw::step(&mut updates, &options);
        drop(updates);
        match result {
            Ok(norm) => {
                gradients.iter().for_each(|(id, _)| self.moments[id.0].iter_mut().for_each(|m| m.steps += 1));
                Ok(norm)
            }
            Err(NonFinite { index }) => bail!("the gradient of {} is not finite", parameters[ids[index]].name),
        }
    }

    /// The moving average of the weights.
    pub fn ema(&self) -> Option<&[Tensor]> {
        self.ema.as_deref()
    }

    /// The moving average as parameters, or else a copy of `parameters`.
    pub fn averaged(&self, parameters: &Parameters) -> Parameters {
        let mut averaged = parameters.clone();
        if let Some(ema) = &self.ema {
            averaged.iter_mut().zip(ema).for_each(|((_, p), ema)| p.value = ema.clone());
        }
        averaged
    }
}
