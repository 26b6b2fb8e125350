//! The image-caption warm-up.

use anyhow::{Context, Result, ensure};

use super::{Run, new_optimizer};
use crate::checkpoint::Phase;
use crate::collate::Collator;
use crate::loader::{Loader, shuffled};
use crate::progress::Progress;
use crate::schedule::Rates;

impl Run<'_> {
    /// Easy scenes first, then the training data; from where the run is, if that is before or within the warm-up.
    pub(super) fn warm_up(&mut self) -> Result<()> {
        let (config, data) = (self.config, self.data);
        let t = &config.training;
        let (Some(pretrain), Some(easy)) = (&t.pretrain, &data.easy) else { return Ok(()) };
        if self.position.phase != Phase::WarmUp {
            return Ok(());
        }
        let rates = Rates { base: pretrain.lr, backbone: pretrain.lr, text_encoder: pretrain.lr };
        let collator = Collator::new(&config.model, data.tokenizer.pad_id());
        let mut progress = Progress::new("warm-up", pretrain.steps);
        let easy_steps = pretrain.easy_steps.min(pretrain.steps);
        for (set, steps) in [(easy, 0..easy_steps), (&data.train, easy_steps..pretrain.steps)] {
            ensure!(
                set.len() >= pretrain.batch_size,
                "the warm-up's batch_size is more than its {} images",
                set.len()
            );
            let epochs = (0..).flat_map(|epoch| shuffled(set.len(), pretrain.batch_size, t.seed, epoch));
            let made = self.position.step.saturating_sub(steps.start);
            let plan: Vec<_> = epochs.take(steps.len()).skip(made).collect();
            for batch in Loader::new(set, &collator, plan, t.seed, t.num_workers) {
                self.warm_up_step(&batch?, rates, &mut progress)?;
            }
        }
        progress.finish();
        let skipped =
            self.trainer.optimizer.scaling().map(|scaling| format!(", {} of them skipped", scaling.skipped));
        let (steps, loss) = (self.position.step, self.position.warm_up_loss);
        eprintln!("warm-up: {steps} steps{}, contrastive loss {loss:.3}", skipped.unwrap_or_default());
        self.trainer.optimizer = new_optimizer(config, self.trainer.model);
        (self.position.phase, self.position.step) = (Phase::Training, 0);
        self.save()?;
        self.check_signals()
    }

    fn warm_up_step(
        &mut self,
        batch: &crate::collate::Collated,
        rates: Rates,
        progress: &mut Progress,
    ) -> Result<()> {
        let position = &mut self.position;
        let report = self.trainer.pretrain_step(batch, rates);
        let report = report.with_context(|| format!("warm-up step {}", position.step))?;
        position.step += 1;
        position.warm_up_loss +=
            (report.losses[0].1 - position.warm_up_loss) * 0.02f64.max(1.0 / position.step as f64);
        progress.at(position.step, &[("loss", format!("{:.3}", position.warm_up_loss))]);
        if self.saver.is_due(position.step) {
            self.save()?;
            self.check_signals()?;
        }
        Ok(())
    }
}
