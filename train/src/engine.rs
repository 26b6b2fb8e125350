//! The training step and the epoch around it.

use std::collections::VecDeque;
use std::time::Instant;

use anyhow::{Context, Result, anyhow};
use mdetr_autograd::profile::Profile;
use mdetr_autograd::{Tape, Var};
use mdetr_kernels::cuda::Cuda;
use mdetr_kernels::{Device, Precision, Tensor};
use mdetr_model::Mdetr;
use mdetr_model::criterion::Criterion;
use mdetr_model::pretrain::caption_contrastive;

use crate::ahead::Ahead;
use crate::collate::Collated;
use crate::optimizer::Optimizer;
use crate::progress::Progress;
use crate::schedule::{Rates, Schedule};
use crate::status::{Status, StepNumbers};

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
    sums: Vec<(String, f64, usize)>,
    /// Steps left out because a gradient was not finite in f16.
    pub skipped: usize,
}

impl EpochStats {
    fn add(&mut self, values: impl IntoIterator<Item = (String, f64)>) {
        for (name, value) in values {
            match self.sums.iter_mut().find(|(known, ..)| *known == name) {
                Some((_, sum, count)) => (*sum, *count) = (*sum + value, *count + 1),
                None => self.sums.push((name, value, 1)),
            }
        }
    }

    /// Means in the order in which the names came first.
    pub fn means(&self) -> impl Iterator<Item = (&str, f64)> {
        self.sums.iter().map(|(name, sum, count)| (name.as_str(), sum / *count as f64))
    }
}

/// What a step reports.
#[derive(Clone, Debug)]
pub struct StepReport {
    /// Losses by published name, the weighted `loss` first.
    pub losses: Vec<(String, f64)>,
    /// Norm of all gradients before clipping; `None` when the step was skipped because one of them was not finite in f16.
    pub grad_norm: Option<f64>,
}

/// A step that was enqueued; on a GPU its numbers come later.
pub struct Enqueued {
    status: Status,
    /// Of the batch, for messages.
    images: String,
}

/// Steps that may be under way on a GPU before the host reads the first one's numbers.
const STEPS_AHEAD: usize = 2;

impl Trainer<'_> {
    /// One step on the detection losses. On a GPU it waits for the step's end.
    pub fn step(&mut self, criterion: &Criterion, batch: &Collated, rates: Rates) -> Result<StepReport> {
        let enqueued = self.enqueue(criterion, batch, rates);
        self.report(enqueued)
    }

    /// One step of the image-caption warm-up. On a GPU it waits for the step's end.
    pub fn pretrain_step(&mut self, batch: &Collated, rates: Rates) -> Result<StepReport> {
        let enqueued = self.enqueue_with(batch, rates, |model, tape| {
            (caption_contrastive(model, tape, &batch.batch, &batch.phrases), Vec::new())
        });
        self.report(enqueued)
    }

    /// One step on the detection losses, without waiting for it.
    pub fn enqueue(&mut self, criterion: &Criterion, batch: &Collated, rates: Rates) -> Enqueued {
        self.enqueue_with(batch, rates, |model, tape| {
            let outputs = model.forward(tape, &batch.batch);
            let losses = criterion.forward(&outputs, &batch.targets);
            let terms = losses.terms().into_iter().map(|(name, v)| (name, v.value().clone())).collect();
            (losses.total, terms)
        })
    }

    fn enqueue_with(
        &mut self,
        batch: &Collated,
        rates: Rates,
        loss: impl for<'t> FnOnce(&Mdetr, &'t Tape<'t>) -> (Var<'t>, Vec<(&'static str, Tensor)>),
    ) -> Enqueued {
        let device = self.model.parameters.device();
        device.cuda().into_iter().for_each(Cuda::begin_step);
        let tape = Tape::training(&self.model.parameters, device, self.precision, self.seed, self.draws);
        let tape = if self.profile.is_some() { tape.with_profile() } else { tape };
        let (total, terms) = loss(self.model, &tape);
        let gradients = tape.backward_of(&total, self.optimizer.loss_gradient());
        let total = total.value().clone();
        self.draws = tape.draws();
        if let (Some(sum), Some(step)) = (&mut self.profile, tape.take_profile()) {
            sum.merge(&step);
        }
        drop(tape);
        // A loss that is not finite has gradients that are not finite: the optimizer touches nothing.
        let outcome = self.optimizer.enqueue(&mut self.model.parameters, &gradients, rates);
        let status = Status::send(&total, &terms, &outcome);
        device.cuda().into_iter().for_each(Cuda::end_step);
        Enqueued { status, images: images(batch) }
    }

    /// What a step tells; waits for it where it is under way. Errors: a loss or a gradient that is not finite, with its name
    /// and the images; a failure of the device.
    pub fn report(&mut self, enqueued: Enqueued) -> Result<StepReport> {
        let Enqueued { status, images } = enqueued;
        let numbers = status.read();
        if let Some(cuda) = self.model.parameters.device().cuda() {
            cuda.check()?;
        }
        let StepNumbers { losses, outcome } = numbers.context("the step's numbers did not come")?;
        let check = || {
            let bad = losses.iter().skip(1).chain(losses.first()).find(|(_, value)| !value.is_finite());
            bad.map_or(Ok(()), |(name, value)| Err(anyhow!("{name} is {value}")))
        };
        let judged = check().and_then(|()| self.optimizer.judge(&self.model.parameters, outcome));
        let grad_norm = judged.context(images)?;
        Ok(StepReport { losses, grad_norm })
    }

    /// Steps on batches, at the rates that `rates` gives each, and what they report. Batches go to a GPU ahead of their step,
    /// and the host reads a step's report when two more are enqueued.
    pub fn train(
        &mut self,
        criterion: &Criterion,
        batches: impl Iterator<Item = Result<Collated>>,
        rates: impl Fn(usize) -> Rates,
    ) -> Result<Vec<StepReport>> {
        let mut reports = Vec::new();
        self.train_from(0, criterion, batches, rates, |_, _, report| reports.push(report))?;
        Ok(reports)
    }

    /// [`Self::train`] from step `first` on, with each step's number, images and report given to `report`.
    fn train_from(
        &mut self,
        first: usize,
        criterion: &Criterion,
        batches: impl Iterator<Item = Result<Collated>>,
        rates: impl Fn(usize) -> Rates,
        mut report: impl FnMut(usize, usize, StepReport),
    ) -> Result<()> {
        let device = self.model.parameters.device();
        let ahead = if device == Device::Cpu { 0 } else { STEPS_AHEAD };
        let mut under_way = VecDeque::new();
        let mut finish = |trainer: &mut Self, (step, images, enqueued): (usize, usize, Enqueued)| -> Result<()> {
            report(step, images, trainer.report(enqueued).with_context(|| format!("step {step}"))?);
            Ok(())
        };
        for (step, batch) in (first..).zip(Ahead::new(batches, device)) {
            let rates = rates(step);
            under_way.push_back(
                batch?.use_in(device, |batch| (step, batch.records.len(), self.enqueue(criterion, batch, rates))),
            );
            if under_way.len() > ahead {
                under_way.pop_front().map_or(Ok(()), |step| finish(self, step))?;
            }
        }
        under_way.into_iter().try_for_each(|step| finish(self, step))
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
        let mut epoch = Epoch { stats: EpochStats::default(), start: Instant::now(), seen: 0, progress };
        let batches = batches.take(max_steps.saturating_sub(first_step));
        let rates = |step| schedule.at(step);
        self.train_from(first_step, criterion, batches, rates, |step, images, report| {
            epoch.add(step, images, rates(step), report);
        })?;
        Ok(epoch.stats)
    }
}

/// An epoch under way.
struct Epoch<'p> {
    stats: EpochStats,
    start: Instant,
    /// Images.
    seen: usize,
    progress: &'p mut Progress,
}

impl Epoch<'_> {
    fn add(&mut self, step: usize, images: usize, rates: Rates, report: StepReport) {
        self.seen += images;
        let speed = self.seen as f64 / self.start.elapsed().as_secs_f64();
        self.stats.skipped += usize::from(report.grad_norm.is_none());
        let mut shown = vec![
            ("loss", format!("{:.3}", report.losses[0].1)),
            ("lr", format!("{:.1e}", rates.base)),
            ("images/s", format!("{speed:.1}")),
        ];
        if self.stats.skipped > 0 {
            shown.push(("skipped", self.stats.skipped.to_string()));
        }
        self.progress.at(step + 1, &shown);
        let norm = report.grad_norm.map(|norm| ("grad_norm".to_string(), norm));
        self.stats.add(report.losses.into_iter().chain(norm));
    }
}

fn images(batch: &Collated) -> String {
    let ids: Vec<String> = batch.records.iter().map(|r| r.image_id.to_string()).collect();
    format!("images {}", ids.join(", "))
}
