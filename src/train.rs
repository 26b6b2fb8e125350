//! `mdetr train`

use anyhow::Result;
use mdetr_train::checkpoint;
use mdetr_train::config::RunConfig;
use mdetr_train::settings::Settings;
use serde_json::Value;

use crate::device::Memory;

/// The main job's configuration: a small model, emoji scenes.
const EMOJI: &str = include_str!("../configs/emoji.json");

/// What a run's configuration says of the command that started it, and not of the run.
const OF_THE_COMMAND: [&str; 2] = ["device", "max_steps"];

#[derive(clap::Args)]
#[command(after_help = "Examples:
  mdetr train                                    the embedded emoji run, into runs/emoji
  mdetr train --seed 7 --run-name seed7          the same with another seed
  mdetr train --config my.json --set lr=5e-5     your configuration; nothing of the emoji run applies
  mdetr train --config my.json --train-ann train.json --val-ann val.json --img-path images --epochs 5
  mdetr train --resume runs/my                   goes on with a run, in its own configuration
  mdetr train --dataset_config configs/refcoco.json --batch_size 4 --load CHECKPOINT --ema

Every setting is a flag, a --set key and a JSON key, with dashes or underscores; flags may be cut
short as long as one is meant; a switch has a --no- form. Configurations are JSON objects of
settings; what they leave out has the published default. Precedence: defaults < --config <
--dataset-config < --set < flags.")]
pub struct Args {
    #[command(flatten)]
    pub settings: crate::settings::Args,
    /// Print the time of every op at the end of an epoch.
    #[arg(long)]
    profile: bool,
    #[command(flatten)]
    pub memory: Memory,
}

impl Args {
    /// Without files, the configuration is that of the run to go on with, else the emoji run's.
    fn config(&self) -> Result<RunConfig> {
        if self.settings.config.is_some() || self.settings.dataset_config.is_some() {
            return self.settings.resolve(Settings::default());
        }
        let mut emoji = Settings::default();
        emoji.add_json(EMOJI, "configs/emoji.json")?;
        let config = self.settings.resolve(emoji)?;
        match resumed(&config)? {
            Some(run) => self.settings.resolve(run),
            None => Ok(config),
        }
    }
}

/// The settings of the run that `config` asks to go on with; none where there is none of this program.
fn resumed(config: &RunConfig) -> Result<Option<Settings>> {
    let run = match config.training.resume.as_deref() {
        Some("auto") => config.run_dir(),
        Some(path) => path.into(),
        None => return Ok(None),
    };
    let Ok(folder) = checkpoint::find(&run) else { return Ok(None) };
    let mut settings = Settings::default();
    settings.add_json(&serde_json::to_string(&checkpoint::config(&folder)?)?, "the checkpoint's configuration")?;
    OF_THE_COMMAND.into_iter().try_for_each(|key| settings.add(key, Value::Null))?;
    Ok(Some(settings))
}

pub fn run(args: Args) -> Result<()> {
    let config = args.config()?;
    if config.training.eval {
        return crate::eval::run(args.into());
    }
    let log = args
        .memory
        .run_on(&config.training.device, |device| mdetr_train::run::train(&config, device, args.profile))?;
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
        Cli::parse_from([&["train"], words].concat()).args.config().unwrap()
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

    #[test]
    fn the_last_of_a_flag_and_its_opposite_counts() {
        let ema = |words: &[&str]| resolve(words).training.ema;
        assert!(ema(&["--no-ema", "--ema"]) && !ema(&["--ema", "--no-ema"]) && !ema(&["--set", "ema=1", "--no-ema"]));
        let config =
            resolve(&["--epochs", "2", "--epochs", "3", "--train-scales", "64", "80", "--epoch-chunks", "-1"]);
        assert_eq!((config.training.epochs, config.data.train_scales), (3, vec![64, 80]));
        let config = resolve(&["--val-ann", "a", "--val-ann", "[1].json", "--text-config.hidden-size", "8"]);
        assert_eq!(config.data.val_ann, ["a", "[1].json"].map(std::path::PathBuf::from));
        assert_eq!(config.model.text().hidden_size, 8);
    }
}
