//! The epochs of a run: steps, evaluation, log, checkpoints.

use std::sync::Arc;

use anyhow::Result;
use mdetr_kernels::Precision;
use mdetr_model::criterion::Criterion;
use serde_json::Value;

use super::{Run, log};
use crate::buckets::Buckets;
use crate::checkpoint::Position;
use crate::collate::Collator;
use crate::data::Dataset;
use crate::engine::Epoch;
use crate::evaluate::{Captions, EvalOptions, Metrics, evaluate};
use crate::loader::{Loader, shuffled};
use crate::pictures;
use crate::progress::Progress;
use crate::schedule::Schedule;
use crate::tensorboard::EventWriter;

impl Run<'_> {
    /// The epochs from where the run is; returns the log's last entry.
    pub(super) fn train_epochs(&mut self) -> Result<Option<Value>> {
        let t = &self.config.training;
        let schedule = self.config.schedule(self.data.train.len() / self.config.images_per_step());
        let max_steps = t.max_steps.unwrap_or(usize::MAX).min(schedule.total_steps());
        self.position.steps_per_epoch = schedule.steps_per_epoch;
        let mut progress = Progress::new("training", max_steps);
        let first_step = self.position.epoch * schedule.steps_per_epoch + self.position.step;
        let mut events = EventWriter::create(&self.config.run_dir(), first_step)?;
        let mut last = self.position.log.last().cloned();
        while self.position.epoch < t.epochs && self.position.epoch * schedule.steps_per_epoch < max_steps {
            self.train_one_epoch(&schedule, max_steps, &mut progress, &mut events)?;
            last = Some(self.end_epoch(&schedule, max_steps, &mut events)?);
            events.flush()?;
            if self.position.step > 0 {
                break; // max_steps cut the epoch
            }
        }
        progress.finish();
        Ok(last)
    }

    /// The steps of an epoch that are left, up to step `max_steps` of the run. Saves when it is time to.
    fn train_one_epoch(
        &mut self,
        schedule: &Schedule,
        max_steps: usize,
        progress: &mut Progress,
        events: &mut EventWriter,
    ) -> Result<()> {
        let (config, data, t) = (self.config, self.data, &self.config.training);
        let before = self.position.epoch * schedule.steps_per_epoch;
        let steps = schedule.steps_per_epoch.min(max_steps - before);
        let criterion = Criterion::new(&config.criterion);
        let plan = shuffled(data.train.len(), config.images_per_step(), t.seed, self.position.epoch);
        let batches = plan[..steps].iter().skip(self.position.step).flat_map(|images| images.chunks(t.batch_size));
        let plan = batches.map(<[usize]>::to_vec).collect();
        let buckets = if t.buckets || t.graphs { Buckets::new(&config.model) } else { Buckets::NONE };
        let collator = Collator::new(&config.model, data.tokenizer.pad_id()).with_buckets(buckets);
        let seed = t.seed.wrapping_add(self.position.epoch as u64);
        let mut loader = Loader::new(&data.train, &collator, plan, seed, t.num_workers);
        let mut epoch = Epoch::new(std::mem::take(&mut self.position.stats), progress, events);
        while self.position.step < steps {
            let (first, mut taken) = (before + self.position.step, 0);
            let until_save = std::iter::from_fn(|| {
                let is_between_steps = taken > 0 && taken % t.accumulate == 0;
                if is_between_steps && self.saver.is_due(first + taken / t.accumulate) {
                    return None;
                }
                let batch = loader.next();
                taken += usize::from(batch.is_some());
                batch
            });
            self.trainer.train_one_epoch(&criterion, until_save, schedule, first, &mut epoch)?;
            self.position.step += taken / t.accumulate;
            if self.position.step < steps {
                self.position.stats = epoch.stats.clone();
                self.save()?;
                self.check_signals()?;
            }
        }
        self.position.stats = epoch.stats;
        Ok(())
    }

    /// Evaluates, logs and saves the epoch whose steps are made; returns the log's entry. Observers of epochs belong here,
    /// those of steps in [`Epoch`].
    fn end_epoch(&mut self, schedule: &Schedule, max_steps: usize, events: &mut EventWriter) -> Result<Value> {
        let t = &self.config.training;
        if let Some(profile) = &mut self.trainer.profile {
            eprintln!("{}", std::mem::take(profile).table());
        }
        let epoch = self.position.epoch;
        let before = epoch * schedule.steps_per_epoch;
        let is_last = epoch + 1 == t.epochs || before + schedule.steps_per_epoch >= max_steps;
        let evaluates = is_last || (epoch + 1).is_multiple_of(t.eval_skip.max(1));
        let metrics = match evaluates && !self.data.val.is_empty() {
            true => self.evaluate()?,
            false => Vec::new(),
        };
        let facts = log::Facts {
            epoch,
            lr: schedule.at(before).base,
            loss_scale: self.trainer.optimizer.scaling().map(|scaling| scaling.scale),
            n_parameters: self.n_parameters,
            seconds: self.seconds(),
        };
        let entry = log::entry(&self.position.stats, &metrics, &facts);
        log::report(epoch, &self.position.stats, &metrics);
        for m in &metrics {
            let tag = |name: &str| format!("val/{}/{name}", m.dataset);
            let values = [(tag("recall@1"), m.recall_at_1), (tag("ap"), m.ap), (tag("ap50"), m.ap50)];
            events.scalars(before + self.position.step, values.iter().map(|(tag, value)| (tag.as_str(), *value)))?;
        }
        log::append(&self.config.run_dir().join("log.txt"), &entry)?;
        self.save_epoch(&metrics, &entry)?;
        Ok(entry)
    }

    /// Saves the end of an epoch, and draws the curves. An epoch that `max_steps` cut is not over: a run that resumes with
    /// more steps makes the rest of it.
    fn save_epoch(&mut self, metrics: &[Metrics], entry: &Value) -> Result<()> {
        let metric = mean_ap50(metrics);
        let is_best = metric.is_some_and(|m| self.position.best.is_none_or(|best| m > best));
        if is_best {
            self.position.best = metric;
        }
        let curves = pictures::training_curves(&[&self.position.log[..], std::slice::from_ref(entry)].concat())?;
        let epoch = self.position.epoch;
        if self.position.step == self.position.steps_per_epoch {
            let position = std::mem::take(&mut self.position);
            let log = position.log.into_iter().chain([entry.clone()]).collect();
            self.position = Position { epoch: epoch + 1, step: 0, stats: Default::default(), log, ..position };
        }
        self.save_as(&self.saver.names(epoch, is_best))?;
        self.saver.prune(epoch)?;
        crate::draw::save_png(&curves, &self.config.run_dir().join("curves.png"))
    }

    /// On every validation set. The steps before it are saved, since it may take long.
    fn evaluate(&mut self) -> Result<Vec<Metrics>> {
        self.save()?;
        self.check_signals()?;
        let (trainer, tokenizer) = (&self.trainer, &self.data.tokenizer);
        let averaged = trainer.optimizer.averaged(&trainer.model.parameters);
        let options = EvalOptions {
            batch_size: self.config.training.batch_size,
            workers: self.config.training.num_workers,
            captions: Captions::Own,
            max_images: None,
            precision: Precision::F32,
        };
        let run =
            |(name, set): &(String, Arc<Dataset>)| evaluate(trainer.model, &averaged, name, set, tokenizer, &options);
        let metrics = self.data.val.iter().map(run).collect();
        // It stops between two batches.
        self.check_signals()?;
        metrics
    }
}

/// What the best checkpoint is best by, as published: AP at IoU 0.5, the mean over the validation sets.
fn mean_ap50(metrics: &[Metrics]) -> Option<f64> {
    (!metrics.is_empty()).then(|| metrics.iter().map(|m| m.ap50).sum::<f64>() / metrics.len() as f64)
}
