//! The training step and the epoch around it.

use std::collections::VecDeque;
use std::time::Instant;

use anyhow::{Context, Result, anyhow};
use mdetr_autograd::functional as f;
use mdetr_autograd::profile::Profile;
use mdetr_autograd::{Gradients, Tape, Var};
use mdetr_kernels::cuda::Cuda;
use mdetr_kernels::{Device, Precision, Tensor};
use mdetr_model::Mdetr;
use mdetr_model::criterion::Criterion;
use mdetr_model::pretrain::caption_contrastive;
use serde::{Deserialize, Serialize};

use crate::accumulate::with_shares;
use crate::ahead::{Ahead, Sent};
use crate::collate::Collated;
use crate::optimizer::Optimizer;
use crate::progress::Progress;
use crate::schedule::{Rates, Schedule};
use crate::status::{BatchLosses, Record, Status, StepNumbers};
use crate::tensorboard::EventWriter;

/// A model in training.
pub struct Trainer<'a> {
    /// The model.
    pub model: &'a mut Mdetr,
    /// What updates it.
    pub optimizer: Optimizer,
    /// What it computes in; its parameters have the copies.
    pub precision: Precision,
    /// Batches whose gradients make a step of [`Self::train`].
    pub accumulate: usize,
    /// Whether a GPU runs steps of one batch as graphs.
    pub graphs: bool,
    /// Of dropout.
    pub seed: u64,
    /// Random streams taken so far.
    pub draws: u64,
    /// Time by op, if it is measured.
    pub profile: Option<Profile>,
}

impl<'a> Trainer<'a> {
    /// At a run's start with seed 0, a batch a step, without graphs or profile.
    pub fn new(model: &'a mut Mdetr, optimizer: Optimizer, precision: Precision) -> Self {
        Trainer { model, optimizer, precision, accumulate: 1, graphs: false, seed: 0, draws: 0, profile: None }
    }
}

/// Means over an epoch, by name.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct EpochStats {
    /// Name, sum, count.
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

/// A step under way: what its batches have left so far.
#[derive(Default)]
struct Accumulated {
    gradients: Gradients,
    losses: Vec<BatchLosses>,
    /// Of each batch, for messages.
    images: Vec<String>,
}

/// A step whose work is done, or enqueued.
struct Updated {
    record: Record,
    /// Of the batches, for messages.
    images: String,
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
        self.begin();
        let mut step = Accumulated::default();
        self.add_with(&mut step, batch, |model, tape| {
            (caption_contrastive(model, tape, &batch.batch, &batch.phrases), Vec::new())
        });
        let updated = self.update(step, rates);
        let enqueued = self.end(updated);
        self.report(enqueued)
    }

    /// One step on the detection losses, without waiting for it.
    pub fn enqueue(&mut self, criterion: &Criterion, batch: &Collated, rates: Rates) -> Enqueued {
        self.begin();
        let draws = self.draws;
        // A graph may ask for it again.
        let graphs = self.model.parameters.device().cuda().filter(|_| self.graphs && self.profile.is_none());
        let mut work = || {
            self.draws = draws;
            let mut step = Accumulated::default();
            self.add(&mut step, criterion, batch);
            self.update(step, rates)
        };
        let updated = match graphs {
            Some(cuda) => cuda.as_graph(work),
            None => work(),
        };
        self.end(updated)
    }

    fn begin(&self) {
        self.model.parameters.device().cuda().into_iter().for_each(Cuda::begin_step);
    }

    /// Adds the gradients of the detection losses on a batch to those of its step.
    fn add(&mut self, step: &mut Accumulated, criterion: &Criterion, batch: &Collated) {
        self.add_with(step, batch, |model, tape| {
            let outputs = model.forward(tape, &batch.batch);
            let losses = criterion.forward(&outputs, &batch.targets);
            let terms = losses.terms().into_iter().map(|(name, v)| (name, v.value().clone())).collect();
            (losses.total, terms)
        });
    }

    fn add_with(
        &mut self,
        step: &mut Accumulated,
        batch: &Collated,
        loss: impl for<'t> FnOnce(&Mdetr, &'t Tape<'t>) -> (Var<'t>, Vec<(&'static str, Tensor)>),
    ) {
        let device = self.model.parameters.device();
        let tape = Tape::training(&self.model.parameters, device, self.precision, self.seed, self.draws);
        let tape = if self.profile.is_some() { tape.with_profile() } else { tape };
        let (total, terms) = loss(self.model, &tape);
        let share = batch.share;
        step.losses.push(BatchLosses { share, total: total.value().clone(), terms });
        step.images.push(images(batch));
        let total = if share == 1.0 { total } else { f::weighted_sum(&[(&total, share)]) };
        let earlier = std::mem::take(&mut step.gradients);
        step.gradients = tape.backward_onto(&total, self.optimizer.loss_gradient(), earlier);
        self.draws = tape.draws();
        if let (Some(sum), Some(step)) = (&mut self.profile, tape.take_profile()) {
            sum.merge(&step);
        }
    }

    fn update(&mut self, step: Accumulated, rates: Rates) -> Updated {
        // A loss that is not finite has gradients that are not finite: the optimizer touches nothing.
        let outcome = self.optimizer.enqueue(&mut self.model.parameters, &step.gradients, rates);
        let record = Record::new(&step.losses, &outcome);
        Updated { record, images: format!("images {}", step.images.join(", ")) }
    }

    fn end(&self, Updated { record, images }: Updated) -> Enqueued {
        let status = record.send();
        self.model.parameters.device().cuda().into_iter().for_each(Cuda::end_step);
        Enqueued { status, images }
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
        self.train_from(0, criterion, batches, rates, |_, _, report| {
            reports.push(report);
            Ok(())
        })?;
        Ok(reports)
    }

    /// [`Self::train`] from step `first` on, with each step's number, images and report given to `report`.
    fn train_from(
        &mut self,
        first: usize,
        criterion: &Criterion,
        batches: impl Iterator<Item = Result<Collated>>,
        rates: impl Fn(usize) -> Rates,
        mut report: impl FnMut(usize, usize, StepReport) -> Result<()>,
    ) -> Result<()> {
        let device = self.model.parameters.device();
        let ahead = if device == Device::Cpu { 0 } else { STEPS_AHEAD };
        let mut under_way = VecDeque::new();
        let mut finish = |trainer: &mut Self, (step, images, enqueued): (usize, usize, Enqueued)| -> Result<()> {
            report(step, images, trainer.report(enqueued).with_context(|| format!("step {step}"))?)
        };
        let mut batches = Ahead::new(with_shares(batches, self.accumulate), device);
        for number in first.. {
            let step = match self.accumulate {
                1 => self.next_step(criterion, &mut batches, rates(number)),
                _ => self.next_accumulated(criterion, &mut batches, rates(number)),
            };
            let Some((images, enqueued)) = step? else { break };
            under_way.push_back((number, images, enqueued));
            if under_way.len() > ahead {
                under_way.pop_front().map_or(Ok(()), |step| finish(self, step))?;
            }
        }
        under_way.into_iter().try_for_each(|step| finish(self, step))
    }

    /// A step on the next batch, and the number of its images.
    fn next_step(
        &mut self,
        criterion: &Criterion,
        batches: &mut impl Iterator<Item = Result<Sent>>,
        rates: Rates,
    ) -> Result<Option<(usize, Enqueued)>> {
        let device = self.model.parameters.device();
        let step = |batch: &Collated| (batch.records.len(), self.enqueue(criterion, batch, rates));
        batches.next().map(|batch| Ok(batch?.use_in(device, step))).transpose()
    }

    /// A step on the next [`Self::accumulate`] batches, and the number of their images.
    fn next_accumulated(
        &mut self,
        criterion: &Criterion,
        batches: &mut impl Iterator<Item = Result<Sent>>,
        rates: Rates,
    ) -> Result<Option<(usize, Enqueued)>> {
        let device = self.model.parameters.device();
        let (mut step, mut images) = (None, 0);
        for batch in batches.take(self.accumulate) {
            let batch = batch?;
            let step = step.get_or_insert_with(|| {
                self.begin();
                Accumulated::default()
            });
            batch.use_in(device, |batch| {
                images += batch.records.len();
                self.add(step, criterion, batch);
            });
        }
        let Some(step) = step else { return Ok(None) };
        let updated = self.update(step, rates);
        Ok(Some((images, self.end(updated))))
    }

    /// Steps of an epoch, the first of which is number `first` of the run.
    pub fn train_one_epoch(
        &mut self,
        criterion: &Criterion,
        batches: impl Iterator<Item = Result<Collated>>,
        schedule: &Schedule,
        first: usize,
        epoch: &mut Epoch,
    ) -> Result<()> {
        let rates = |step| schedule.at(step);
        self.train_from(first, criterion, batches, rates, |step, images, report| {
            epoch.add(step, images, rates(step), report)
        })
    }
}

/// An epoch under way.
pub struct Epoch<'p> {
    /// Of its steps so far.
    pub stats: EpochStats,
    progress: &'p mut Progress,
    events: &'p mut EventWriter,
    /// Since when the images below were seen.
    start: Instant,
    images: usize,
}

impl<'p> Epoch<'p> {
    /// That goes on from `stats`.
    pub fn new(stats: EpochStats, progress: &'p mut Progress, events: &'p mut EventWriter) -> Self {
        Epoch { stats, progress, events, start: Instant::now(), images: 0 }
    }

    /// Hears of every step.
    fn add(&mut self, step: usize, images: usize, rates: Rates, report: StepReport) -> Result<()> {
        self.images += images;
        let speed = self.images as f64 / self.start.elapsed().as_secs_f64();
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
        let values: Vec<_> = report.losses.into_iter().chain(norm).collect();
        let tags: Vec<_> = values.iter().map(|(name, value)| (format!("train/{name}"), *value)).collect();
        let rates = [
            ("lr/base", rates.base),
            ("lr/backbone", rates.backbone),
            ("lr/text_encoder", rates.text_encoder),
            ("speed/images_per_second", speed),
        ];
        self.events.scalars(step, tags.iter().map(|(tag, value)| (tag.as_str(), *value)).chain(rates))?;
        self.stats.add(values);
        Ok(())
    }
}

/// The ids of a batch's images.
fn images(batch: &Collated) -> String {
    let ids: Vec<String> = batch.records.iter().map(|r| r.image_id.to_string()).collect();
    ids.join(", ")
}
