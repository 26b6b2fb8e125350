//! What an optimizer keeps between steps, on the way to a checkpoint and back.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Result;
use mdetr_autograd::Parameters;
use mdetr_kernels::{Device, Tensor};
use mdetr_model::checkpoint::{Published, read, save_tensors};
use mdetr_model::state_dict::StateDict;

use serde::{Deserialize, Serialize};

use super::{Moments, Optimizer, Record, Scaling, as_state};
use crate::loss_scale::LossScale;

/// Names of the moments, behind the parameter's: PyTorch's.
const MEAN: &str = "exp_avg";
const SQUARE: &str = "exp_avg_sq";
/// SGD's.
const SUM: &str = "momentum_buffer";

/// An optimizer's numbers; its moments and averages are tensors in files of their own. The same for every device.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct OptimizerState {
    /// Updates made of each parameter that has moments.
    updates: BTreeMap<String, u32>,
    /// In f16: that of the next step.
    loss_scale: Option<LossScale>,
    /// In f16: what was last told of it.
    scaling: Option<Scaling>,
}

impl Optimizer {
    /// Its numbers. Waits for a GPU.
    pub fn state(&self, parameters: &Parameters) -> OptimizerState {
        let (loss_scale, updates) = match &self.record {
            Record::Host { loss_scale, updates } => (*loss_scale, updates.clone()),
            Record::Device(_, state) => {
                let (scale, good_steps) = state.scale_and_good_steps();
                let loss_scale = self.scaling.map(|_| LossScale::new(scale, good_steps as usize));
                (loss_scale, state.steps().into_iter().map(|n| n as u32).collect())
            }
        };
        let names = self.trainable.iter().map(|&id| parameters[id].name.clone());
        let with_moments = names.zip(updates).zip(&self.moments).filter(|(_, moments)| moments.is_some());
        OptimizerState { updates: with_moments.map(|(entry, _)| entry).collect(), loss_scale, scaling: self.scaling }
    }

    /// Writes the moments, in the published shapes.
    pub fn save_moments(&self, path: &Path, parameters: &Parameters) -> Result<()> {
        let moments =
            self.trainable.iter().zip(&self.moments).filter_map(|(&id, m)| Some((&parameters[id], m.as_ref()?)));
        let (first, second) = self.names();
        let tensors = moments.flat_map(|(p, m)| {
            let of = |name, tensor| (format!("{}.{name}", p.name), Published::new(p, tensor));
            [Some(of(first, &m.mean)), second.zip(m.square.as_ref()).map(|(name, square)| of(name, square))]
                .into_iter()
                .flatten()
        });
        save_tensors(path, tensors)
    }

    /// Of the moments that the rule has.
    fn names(&self) -> (&'static str, Option<&'static str>) {
        if self.options.rule.has_square() { (MEAN, Some(SQUARE)) } else { (SUM, None) }
    }

    /// Goes on from what [`Self::state`] told and [`Self::save_moments`] wrote. A parameter that is new among the trainable
    /// ones starts without a past; the loss scale is kept where this precision has one.
    pub fn restore(&mut self, parameters: &Parameters, state: &OptimizerState, moments: &Path) -> Result<()> {
        let file = StateDict::open(moments, &[])?;
        let device = parameters.device();
        let (first, second) = self.names();
        for (moments, &id) in self.moments.iter_mut().zip(&self.trainable) {
            let p = &parameters[id];
            if state.updates.contains_key(&p.name) {
                let named = |name: &str| read(&file, &format!("{}.{name}", p.name), p);
                let (mean, square) = (named(first)?, second.map(named).transpose()?);
                let on_device = |t: Tensor| if device == Device::Cpu { t.thinned() } else { t.to_device(device) };
                let moved = || Moments { mean: on_device(mean), square: square.map(on_device) };
                *moments = Some(as_state(device, moved));
            }
        }
        let count = |&id| state.updates.get(&parameters[id].name).copied().unwrap_or(0);
        let counts: Vec<u32> = self.trainable.iter().map(count).collect();
        let kept = state.loss_scale.filter(|_| self.scaling.is_some());
        match &mut self.record {
            Record::Host { loss_scale, updates } => {
                (*loss_scale, *updates) = (kept.or(*loss_scale), counts);
            }
            Record::Device(cuda, device_state) => {
                let (scale, good_steps) = match kept {
                    Some(scale) => (scale.value(), scale.good_steps() as u32),
                    None => device_state.scale_and_good_steps(),
                };
                let counts: Vec<i32> = counts.into_iter().map(|n| n as i32).collect();
                device_state.restore(cuda, &counts, scale, good_steps);
            }
        }
        if let (Some(scaling), Some(saved)) = (&mut self.scaling, state.scaling) {
            *scaling = saved;
        }
        Ok(())
    }

    /// Goes on with these averages, if it keeps any.
    pub fn restore_average(&mut self, mut averaged: Parameters, device: Device) {
        if let Some(ema) = &mut self.ema {
            averaged.to_device(device);
            *ema = averaged.iter().map(|(_, p)| p.value.clone()).collect();
        }
    }
}
