//! `mdetr eval`

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use mdetr_kernels::Precision;
use mdetr_model::ModelConfig;
use mdetr_train::config::RunConfig;
use mdetr_train::evaluate::{Captions, EvalOptions, Metrics};
use mdetr_train::run::evaluate_all;
use mdetr_train::settings::Settings;

use crate::device::Memory;

/// What a run's configuration says of where and how it was trained, and not of what is evaluated.
const OF_TRAINING_ALONE: [&str; 7] = ["device", "eval", "load", "resume", "start_epoch", "emoji", "precision"];

#[derive(clap::Args)]
#[command(after_help = "Examples:
  mdetr eval runs/emoji                                    the run's own validation files
  mdetr eval runs/emoji --bf16                             in bfloat16
  mdetr eval runs/emoji --shuffle-captions                 other images' captions: is the text read at all?
  mdetr eval runs/emoji --val-ann my.json --img-path images

Settings are the checkpoint's own, below those that the command gives. Prints a JSON object a
dataset: dataset, n, n_skipped, boxes_skipped, phrases, recall@1, recall@5, recall@10,
upper_bound, ap, ap50, ap75.")]
pub struct Args {
    /// A checkpoint, or the folder of a run; otherwise that of --resume or --load.
    checkpoint: Option<PathBuf>,
    #[command(flatten)]
    settings: crate::settings::Args,
    /// At most so many images of each dataset.
    #[arg(long, value_name = "N")]
    max_images: Option<usize>,
    /// Evaluate each image with another image's caption.
    #[arg(long)]
    shuffle_captions: bool,
    #[command(flatten)]
    weights: crate::weights::Args,
    #[command(flatten)]
    memory: Memory,
}

impl From<crate::train::Args> for Args {
    /// `train --eval`.
    fn from(args: crate::train::Args) -> Self {
        let crate::train::Args { settings, memory, .. } = args;
        Args {
            checkpoint: None,
            settings,
            max_images: None,
            shuffle_captions: false,
            weights: Default::default(),
            memory,
        }
    }
}

pub fn run(args: Args) -> Result<()> {
    let given = args.settings.resolve(Settings::default())?;
    let checkpoint = args.checkpoint.clone();
    let checkpoint =
        checkpoint.or_else(|| given.training.resume.as_ref().or(given.training.load.as_ref()).map(PathBuf::from));
    let checkpoint =
        checkpoint.context("which checkpoint? name it: mdetr eval CHECKPOINT, or --resume CHECKPOINT")?;
    given.unbuilt.check()?;
    let (trained, mut model) = mdetr_train::checkpoint::read(&checkpoint, args.weights.which)?;
    let config = args.settings.resolve(base(&trained, &given)?)?;
    config.check()?;
    check_architecture(&checkpoint, &trained.model, &config.model)?;
    let options = EvalOptions {
        batch_size: config.training.batch_size,
        workers: config.training.num_workers,
        captions: if args.shuffle_captions { Captions::Shuffled } else { Captions::Own },
        max_images: args.max_images,
        precision: config.training.precision,
    };
    let metrics = args.memory.run_on(&config.training.device, |device| {
        model.parameters.set_precision(options.precision);
        device.cuda().into_iter().for_each(|cuda| cuda.allow_tf32(options.precision == Precision::TF32));
        model.parameters.to_device(device);
        let metrics = evaluate_all(&config, &model, &options);
        drop(model);
        metrics
    })?;
    print_table(&metrics);
    metrics.iter().try_for_each(crate::print_json)
}

/// What a checkpoint was trained with, as a layer below what the command gives. Datasets that the command names replace
/// the run's files.
fn base(trained: &RunConfig, given: &RunConfig) -> Result<Settings> {
    let mut base = Settings::default();
    base.add_json(&serde_json::to_string(trained)?, "the checkpoint's configuration")?;
    let names_datasets = given.official != Default::default();
    let files = ["train_ann", "val_ann", "img_path"].into_iter().filter(|_| names_datasets);
    OF_TRAINING_ALONE.into_iter().chain(files).try_for_each(|key| base.add(key, serde_json::Value::Null))?;
    Ok(base)
}

/// Refuses settings that ask for other weights than the checkpoint has.
fn check_architecture(checkpoint: &Path, trained: &ModelConfig, asked: &ModelConfig) -> Result<()> {
    let weights = |config: &ModelConfig| {
        let training = ["dropout", "lr_backbone", "freeze_text_encoder", "aux_loss", "tie_key_query_init"];
        let mut values = serde_json::to_value(config)?;
        values.as_object_mut().into_iter().for_each(|map| map.retain(|key, _| !training.contains(&key.as_str())));
        anyhow::Ok(values)
    };
    let (trained, asked) = (weights(trained)?, weights(asked)?);
    let differs = trained.as_object().into_iter().flatten().find(|(key, value)| asked[key.as_str()] != **value);
    if let Some((key, value)) = differs {
        bail!("{} has {key} {value}, not {}: leave {key} out", checkpoint.display(), asked[key.as_str()]);
    }
    Ok(())
}

fn print_table(metrics: &[Metrics]) {
    eprintln!(
        "{:<24} {:>6} {:>8} {:>7} {:>7} {:>7} {:>7} {:>7}",
        "dataset", "n", "phrases", "R@1", "R@5", "R@10", "AP", "AP50"
    );
    for m in metrics {
        eprintln!(
            "{:<24} {:>6} {:>8} {:>7.4} {:>7.4} {:>7.4} {:>7.4} {:>7.4}",
            m.dataset, m.n, m.phrases, m.recall_at_1, m.recall_at_5, m.recall_at_10, m.ap, m.ap50
        );
    }
}
