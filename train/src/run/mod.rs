//! A whole run: data, warm-up, training, evaluation, and what it leaves in its folder.

mod data;
mod epochs;
mod log;
mod resume;
mod saver;
mod warm_up;

use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use mdetr_autograd::profile::Profile;
use mdetr_kernels::{Device, Precision};
use mdetr_model::Mdetr;
use serde_json::Value;

use self::data::Datasets;
pub use self::data::{make_emoji, validation_sets};
use self::resume::Resumed;
pub use self::saver::SaveEvery;
use self::saver::Saver;
use crate::checkpoint::folder::replace_file;
use crate::checkpoint::{self, LATEST, Phase, Position};
use crate::config::{RunConfig, TrainingConfig};
use crate::data::Tokenizer;
use crate::engine::Trainer;
use crate::environment::Environment;
use crate::evaluate::{EvalOptions, Metrics, evaluate};
use crate::initial_weights::initial_weights;
use crate::optimizer::Optimizer;
use crate::{pictures, signals};

/// Scenes on the sheet of held-out examples.
const SHEET_SCENES: usize = 24;

/// A run under way.
struct Run<'a> {
    config: &'a RunConfig,
    data: &'a Datasets,
    trainer: Trainer<'a>,
    position: Position,
    saver: Saver,
    /// Trainable ones.
    n_parameters: usize,
    start: Instant,
    /// Seconds that the run had taken before.
    seconds_before: f64,
}

/// Trains as `config` says, on `device`, and returns the last metrics. With `profile`, prints the time of every op after each
/// epoch. Errors: [`signals::Stopped`] when it was asked to stop and saved.
pub fn train(config: &RunConfig, device: Device, profile: bool) -> Result<Value> {
    config.check()?;
    ensure!(
        config.training.start_epoch == 0,
        "start_epoch: a run goes on where its checkpoint was saved: use --resume"
    );
    check_graphs(config, device)?;
    let mut config = config.clone();
    let dir = config.run_dir();
    let _lock = resume::lock(&dir)?;
    let resumed = resume::start(&config)?;
    let data = Datasets::open(&config)?;
    // Saved settings say what the run is, not how this program was started.
    (config.training.resume, config.training.overwrite) = (None, false);
    resumed.iter().for_each(|resumed| resumed.fill_vocabulary(&mut config));
    data.fill_vocabulary(&mut config);
    let steps_per_epoch = data.train.len() / config.images_per_step();
    resumed.iter().try_for_each(|resumed| resumed.check(&config, steps_per_epoch))?;

    let mut model = Mdetr::new(&config.model, config.training.seed)?;
    match &resumed {
        Some(resumed) => checkpoint::restore_weights(resumed.folder(), &mut model.parameters)?,
        None => initial_weights(&config, &mut model)?,
    }
    model.parameters.set_precision(config.training.precision);
    model.parameters.to_device(device);
    if let Some(cuda) = device.cuda() {
        cuda.allow_tf32(config.training.precision == Precision::TF32);
    }
    let mut run = Run::new(&config, &data, &mut model, resumed.as_ref())?;
    let (parameters, images) = (run.n_parameters, data.train.len());
    eprintln!("{parameters} trainable parameters, {images} training images, run folder {}", dir.display());
    run.trainer.profile = profile.then(Profile::default);
    replace_file(&dir.join("config.json"), &serde_json::to_vec_pretty(&config)?)?;
    log::write(&dir.join("log.txt"), &run.position.log)?;
    Environment::current(device).append(&dir)?;
    signals::listen()?;
    run.warm_up()?;
    let last = run.train_epochs()?;
    run.draw_scenes()?;
    if let Some(cuda) = device.cuda() {
        eprintln!("{}", cuda.usage());
        if config.training.graphs {
            eprintln!("{}", cuda.graph_usage());
        }
    }
    eprintln!("{:.0} s in all; see {}", run.start.elapsed().as_secs_f64(), dir.display());
    Ok(last.unwrap_or(Value::Null))
}

/// Whether steps can be graphs, if they are to be.
fn check_graphs(config: &RunConfig, device: Device) -> Result<()> {
    let TrainingConfig { graphs, accumulate, .. } = config.training;
    if !graphs {
        return Ok(());
    }
    ensure!(
        accumulate == 1,
        "graphs are of steps of one batch: leave one of --graphs and --accumulate {accumulate} out"
    );
    let Device::Cuda(cuda) = device else {
        bail!("graphs are a GPU's: the CPU trains without --graphs (and with --buckets, if you like)")
    };
    ensure!(cuda.has_arena(), "graphs need memory at equal addresses: leave one of --graphs and --alloc each out");
    Ok(())
}

impl<'a> Run<'a> {
    /// From the start, or where `resumed` goes on: its weights are those of `model` already.
    fn new(
        config: &'a RunConfig,
        data: &'a Datasets,
        model: &'a mut Mdetr,
        resumed: Option<&Resumed>,
    ) -> Result<Self> {
        let t = &config.training;
        let trainable = model.parameters.iter().filter(|(_, p)| p.requires_grad);
        let n_parameters = trainable.map(|(_, p)| p.value.len()).sum();
        let mut optimizer = new_optimizer(config, model);
        if let Some(resumed) = resumed {
            let (folder, state) = (resumed.folder(), resumed.state());
            let had_average = checkpoint::restore_optimizer(folder, state, &model.parameters, &mut optimizer)?;
            if t.ema && !had_average {
                eprintln!("{} holds no moving average: it starts from the weights", folder.display());
            }
        }
        let position = resumed.map_or_else(
            || Position {
                phase: if t.pretrain.is_some() { Phase::WarmUp } else { Phase::Training },
                ..Position::default()
            },
            Resumed::position,
        );
        let trainer = Trainer {
            seed: t.seed,
            draws: position.draws,
            accumulate: t.accumulate,
            graphs: t.graphs,
            ..Trainer::new(model, optimizer, t.precision)
        };
        let saver = Saver::new(&config.run_dir(), t);
        let seconds_before = position.seconds;
        Ok(Run { config, data, trainer, position, saver, n_parameters, start: Instant::now(), seconds_before })
    }

    fn seconds(&self) -> f64 {
        self.seconds_before + self.start.elapsed().as_secs_f64()
    }

    /// Saves what resuming starts from, between two steps.
    fn save(&mut self) -> Result<()> {
        self.save_as(&[LATEST.into()])
    }

    /// The same under several names.
    fn save_as(&mut self, names: &[String]) -> Result<()> {
        (self.position.draws, self.position.seconds) = (self.trainer.draws, self.seconds());
        let Run { config, trainer: Trainer { model, optimizer, .. }, position, .. } = self;
        self.saver.save(names, |path| checkpoint::write(path, config, &model.parameters, optimizer, position.clone()))
    }

    /// A sheet of held-out scenes with what the weights find in them.
    fn draw_scenes(&self) -> Result<()> {
        let Some((_, val)) = self.data.val.first() else { return Ok(()) };
        let (model, optimizer) = (&*self.trainer.model, &self.trainer.optimizer);
        let averaged = optimizer.averaged(&model.parameters);
        let sheet = pictures::scenes(model, &averaged, val, &self.data.tokenizer, SHEET_SCENES)?;
        crate::draw::save_png(&sheet, &self.config.run_dir().join("scenes.png"))
    }

    /// Ends the run if it was asked to stop; it has saved.
    fn check_signals(&self) -> Result<()> {
        signals::check().with_context(|| {
            let (at, latest) = (self.position.describe(), self.saver.latest());
            format!("saved {at} to {}; --resume auto goes on from there", latest.display())
        })
    }
}

fn new_optimizer(config: &RunConfig, model: &Mdetr) -> Optimizer {
    let t = &config.training;
    Optimizer::new(&model.parameters, t.precision, t.optimizer_options())
}

/// Evaluates on every validation file of a configuration.
pub fn evaluate_all(config: &RunConfig, model: &Mdetr, options: &EvalOptions) -> Result<Vec<Metrics>> {
    let tokenizer = Tokenizer::roberta_base();
    let sets = validation_sets(config, &tokenizer)?;
    ensure!(
        !sets.is_empty(),
        "there is nothing to evaluate on: give --val-ann FILE and --img-path DIR, or --dataset-config FILE for \
         published datasets"
    );
    sets.iter().map(|(name, set)| evaluate(model, &model.parameters, name, set, &tokenizer, options)).collect()
}
