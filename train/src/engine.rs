//! The training step and the epoch around it.

use anyhow::{Context, Result, ensure};
use mdetr_autograd::profile::Profile;
use mdetr_autograd::{Tape, Var};
use mdetr_kernels::{Device, Precision};
use mdetr_model::Mdetr;
use mdetr_model::criterion::{Criterion, Losses};
use mdetr_model::pretrain::caption_contrastive;

use crate::collate::Collated;
use crate::optimizer::Optimizer;
use crate::progress::Progress;
use crate::schedule::{Rates, Schedule};

/// A model in training.
pub struct Trainer<'a> {
    /// The model.
    pub model: &'a mut Mdetr,
    /// What updates it.
    pub optimizer: Optimizer,
    /// What it computes in; its parameters have the copies.
    pub precision: Precision,
    /// Of dropout.
    pub seed: u64,
    /// Random streams taken so far.
    pub draws: u64,
    /// Time by op, if it is measured.
    pub profile: Option<Profile>,
}

/// Means over an epoch, by name.
#[derive(Clone, Debug, Default)]
pub struct EpochStats {
    sums: Vec<(String, f64)>,
    steps: usize,
}

impl EpochStats {
    fn add(&mut self, values: impl IntoIterator<Item = (String, f64)>) {
        for (name, value) in values {
            match self.sums.iter_mut().find(|(known, _)| *known == name) {
                Some((_, sum)) => *sum += value,
                None => self.sums.push((name, value)),
            }
        }
        self.steps += 1;
    }

    /// Means in the order in which the names came first.
    pub fn means(&self) -> impl Iterator<Item = (&str, f64)> {
        self.sums.iter().map(|(name, sum)| (name.as_str(), sum / self.steps.max(1) as f64))
    }
}

/// What a step reports.
#[derive(Clone, Debug)]
pub struct StepReport {
    /// Losses by published name, the weighted `loss` first.
    pub losses: Vec<(String, f64)>,
    /// Norm of all gradients before clipping.
    pub grad_norm: f64,
}

impl Trainer<'_> {
    /// One step on the detection losses.
    pub fn step(&mut self, criterion: &Criterion, batch: &Collated, rates: Rates) -> Result<StepReport> {
        self.step_with(rates, |model, tape| {
            let outputs = model.forward(tape, &batch.batch);
            let losses = criterion.forward(&outputs, &batch.targets);
            check_finite(&losses)?;
            let mut named = vec![("loss".to_string(), losses.total.value().item())];
            named.extend(losses.named());
            Ok((losses.total, named))
        })
        .with_context(|| images(batch))
    }

    /// One step of the image-caption warm-up.
    pub fn pretrain_step(&mut self, batch: &Collated, rates: Rates) -> Result<StepReport> {
        self.step_with(rates, |model, tape| {
            let loss = caption_contrastive(model, tape, &batch.batch, &batch.phrases);
            let value = loss.value().item();
            ensure!(value.is_finite(), "the contrastive loss is {value}");
            Ok((loss, vec![("loss".to_string(), value)]))
        })
        .with_context(|| images(batch))
    }

    fn step_with(
        &mut self,
        rates: Rates,
        loss: impl for<'t> FnOnce(&Mdetr, &'t Tape<'t>) -> Result<(Var<'t>, Vec<(String, f64)>)>,
    ) -> Result<StepReport> {
        let tape = Tape::training(&self.model.parameters, Device::Cpu, self.precision, self.seed, self.draws);
        let tape = if self.profile.is_some() { tape.with_profile() } else { tape };
        let (total, losses) = loss(self.model, &tape)?;
        let gradients = tape.backward(&total);
        drop(total);
        self.draws = tape.draws();
        if let (Some(sum), Some(step)) = (&mut self.profile, tape.take_profile()) {
            sum.merge(&step);
        }
        drop(tape);
        let grad_norm = self.optimizer.step(&mut self.model.parameters, &gradients, rates)?;
        Ok(StepReport { losses, grad_norm })
    }

    /// An epoch of steps, the first of which is number `first_step` of the run. Stops early at step `max_steps`.
    pub fn train_one_epoch(
        &mut self,
        criterion: &Criterion,
        batches: impl Iterator<Item = Result<Collated>>,
        schedule: &Schedule,
        first_step: usize,
        max_steps: usize,
        progress: &mut Progress,
    ) -> Result<EpochStats> {
        let mut stats = EpochStats::default();
        let start = std::time::Instant::now();
        let mut seen = 0;
        for (i, batch) in batches.enumerate().take(max_steps.saturating_sub(first_step)) {
            let (batch, step) = (batch?, first_step + i);
            let rates = schedule.at(step);
            let report = self.step(criterion, &batch, rates).with_context(|| format!("step {step}"))?;
            seen += batch.records.len();
            let speed = seen as f64 / start.elapsed().as_secs_f64();
            progress.at(
                step + 1,
                &[
                    ("loss", format!("{:.3}", report.losses[0].1)),
                    ("lr", format!("{:.1e}", rates.base)),
                    ("images/s", format!("{speed:.1}")),
                ],
            );
            stats.add(report.losses.into_iter().chain([("grad_norm".to_string(), report.grad_norm)]));
        }
        Ok(stats)
    }
}

fn images(batch: &Collated) -> String {
    let ids: Vec<String> = batch.records.iter().map(|r| r.image_id.to_string()).collect();
    format!("images {}", ids.join(", "))
}

fn check_finite(losses: &Losses) -> Result<()> {
    for (name, value) in losses.named() {
        ensure!(value.is_finite(), "{name} is {value}");
    }
    let total = losses.total.value().item();
    ensure!(total.is_finite(), "the weighted loss is {total}");
    Ok(())
}
