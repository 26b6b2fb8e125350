//! `mdetr train`

use std::path::PathBuf;

use anyhow::Result;
use mdetr_train::config::{RunConfig, Settings};

/// The main job's configuration: a small model, emoji scenes.
const EMOJI: &str = include_str!("../configs/emoji.json");

#[derive(clap::Args)]
#[command(after_help = "Examples:
  mdetr train                                    the embedded emoji run, into runs/emoji
  mdetr train --seed 7 --run-name seed7          the same with another seed
  mdetr train --config my.json --set lr=5e-5     your configuration; nothing of the emoji run applies
  mdetr train --config my.json --train-ann train.json --val-ann val.json --img-path images --epochs 5

A configuration is a JSON object of the published program's arguments; what it leaves out has
the published default. Precedence: defaults < --config < --dataset-config < --set < flags.")]
pub struct Args {
    /// A configuration file instead of the embedded emoji run.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// A second configuration file, for the data.
    #[arg(long, value_name = "FILE")]
    dataset_config: Option<PathBuf>,
    /// Any setting by its published name; dots reach into objects (text_config.hidden_size=128).
    #[arg(long = "set", value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Training annotations in MDETR's COCO-style format.
    #[arg(long, value_name = "FILE")]
    train_ann: Option<String>,
    /// Validation annotations; may be given several times.
    #[arg(long, value_name = "FILE")]
    val_ann: Vec<String>,
    /// The folder of the images.
    #[arg(long, value_name = "DIR")]
    img_path: Option<String>,
    /// Name of the run's folder.
    #[arg(long, value_name = "NAME")]
    run_name: Option<String>,
    /// Where runs go.
    #[arg(long, value_name = "DIR")]
    output_dir: Option<String>,
    /// Seed of weights, order, augmentation and dropout.
    #[arg(long)]
    seed: Option<u64>,
    /// Passes over the training data.
    #[arg(long)]
    epochs: Option<usize>,
    /// Images in a step.
    #[arg(long)]
    batch_size: Option<usize>,
    /// Learning rate of the transformer and the heads.
    #[arg(long)]
    lr: Option<f64>,
    /// Learning rate of the backbone; 0 freezes it.
    #[arg(long)]
    lr_backbone: Option<f64>,
    /// Learning rate of the text encoder.
    #[arg(long)]
    text_encoder_lr: Option<f64>,
    /// Stop after so many steps.
    #[arg(long)]
    max_steps: Option<usize>,
    /// Loader threads.
    #[arg(long)]
    num_workers: Option<usize>,
    /// Activations and matrices in f16, with a dynamic loss scale.
    #[arg(long, group = "precision")]
    fp16: bool,
    /// Activations and matrices in bfloat16.
    #[arg(long, group = "precision")]
    bf16: bool,
    /// Matrix products and convolutions of a GPU in TF32 (on the CPU the same as f32).
    #[arg(long, group = "precision")]
    tf32: bool,
    /// Keep a moving average of the weights.
    #[arg(long)]
    ema: bool,
    /// Print the time of every op at the end of an epoch.
    #[arg(long)]
    profile: bool,
    #[command(flatten)]
    device: crate::device::Args,
}

impl Args {
    /// The layers of settings in their order.
    fn settings(&self) -> Result<RunConfig> {
        let mut settings = Settings::default();
        if self.config.is_none() && self.dataset_config.is_none() {
            settings.add_json(EMOJI, "configs/emoji.json")?;
        }
        for file in [&self.config, &self.dataset_config].into_iter().flatten() {
            settings.add_file(file)?;
        }
        for assignment in &self.set {
            settings.add_assignment(assignment)?;
        }
        let texts = [
            ("train_ann", &self.train_ann),
            ("img_path", &self.img_path),
            ("run_name", &self.run_name),
            ("output_dir", &self.output_dir),
        ];
        texts.into_iter().for_each(|(key, v)| v.iter().for_each(|v| settings.set(key, v.as_str())));
        let floats = [("lr", self.lr), ("lr_backbone", self.lr_backbone), ("text_encoder_lr", self.text_encoder_lr)];
        floats.into_iter().for_each(|(key, v)| v.iter().for_each(|&v| settings.set(key, v)));
        let counts = [
            ("epochs", self.epochs),
            ("batch_size", self.batch_size),
            ("max_steps", self.max_steps),
            ("num_workers", self.num_workers),
        ];
        counts.into_iter().for_each(|(key, v)| v.iter().for_each(|&v| settings.set(key, v)));
        self.seed.iter().for_each(|&seed| settings.set("seed", seed));
        if !self.val_ann.is_empty() {
            settings.set("val_ann", self.val_ann.clone());
        }
        let precisions = [("fp16", self.fp16), ("bf16", self.bf16), ("tf32", self.tf32)];
        for (name, _) in precisions.into_iter().filter(|(_, given)| *given) {
            settings.set("precision", name);
        }
        if self.ema {
            settings.set("ema", true);
        }
        let (config, unknown) = settings.resolve()?;
        for key in unknown {
            eprintln!("warning: nothing here reads the setting {key:?}");
        }
        Ok(config)
    }
}

pub fn run(args: Args) -> Result<()> {
    let config = args.settings()?;
    let log = args.device.run(|device| mdetr_train::run::train(&config, device, args.profile))?;
    crate::print_json(&log)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;
    use mdetr_kernels::Precision;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        args: Args,
    }

    fn resolve(words: &[&str]) -> RunConfig {
        Cli::parse_from([&["train"], words].concat()).args.settings().unwrap()
    }

    #[test]
    fn the_embedded_run_applies_only_without_files() {
        assert_eq!(resolve(&[]).model.backbone, "conv5");
        assert_eq!(resolve(&["--epochs", "1"]).model.backbone, "conv5");
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("c.json");
        std::fs::write(&file, r#"{"epochs": 3}"#).unwrap();
        for flag in ["--config", "--dataset-config"] {
            let config = resolve(&[flag, file.to_str().unwrap()]);
            let expected = RunConfig {
                training: mdetr_train::config::TrainingConfig { epochs: 3, ..Default::default() },
                ..Default::default()
            };
            assert_eq!(config, expected);
        }
    }

    #[test]
    fn flags_win_over_settings() {
        let config = resolve(&["--set", "lr=0.5", "--lr", "0.25", "--set", "batch_size=3"]);
        assert_eq!((config.training.lr, config.training.batch_size), (0.25, 3));
        let config = resolve(&["--set", "precision=fp16", "--bf16"]);
        assert_eq!(config.training.precision, Precision::BF16);
        assert!(Cli::try_parse_from(["train", "--fp16", "--bf16"]).is_err());
    }
}
