//! A run on disk: a folder with the weights, their moving average, what resuming needs, and the configuration.

pub mod folder;
mod state;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use mdetr_autograd::Parameters;
use mdetr_kernels::Tensor;
use mdetr_kernels::cuda::Cuda;
use mdetr_model::Mdetr;
use mdetr_model::checkpoint::{load, save, write_synced};

pub use self::state::{Phase, Position, State};
use crate::config::RunConfig;
use crate::download::local;
use crate::optimizer::Optimizer;
use crate::published;
use crate::settings::Settings;

const MODEL: &str = "model.safetensors";
const EMA: &str = "ema.safetensors";
const CONFIG: &str = "config.json";
const STATE: &str = "state.json";
const MOMENTS: &str = "state.safetensors";

/// The checkpoint of a run's folder that is replaced again and again.
pub const LATEST: &str = "checkpoint";

/// Which of a checkpoint's weights are read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Weights {
    /// The moving average if there is one.
    #[default]
    Auto,
    /// Those that were trained.
    Model,
    /// The moving average.
    Ema,
}

impl std::str::FromStr for Weights {
    type Err = anyhow::Error;

    fn from_str(name: &str) -> Result<Self> {
        match name {
            "auto" => Ok(Weights::Auto),
            "model" => Ok(Weights::Model),
            "ema" => Ok(Weights::Ema),
            _ => bail!("there are no weights {name:?}: choose auto, model or ema"),
        }
    }
}

/// Writes a checkpoint at `path`, replacing an earlier one. A crash at any moment leaves the old one or the new one whole.
pub fn write(
    path: &Path,
    config: &RunConfig,
    parameters: &Parameters,
    optimizer: &Optimizer,
    position: Position,
) -> Result<()> {
    folder::replace(path, |new| {
        let values: Vec<Tensor> = parameters.iter().map(|(_, p)| p.value.clone()).collect();
        save(&new.join(MODEL), parameters, &values)?;
        if let Some(ema) = optimizer.ema() {
            save(&new.join(EMA), parameters, ema)?;
        }
        optimizer.save_moments(&new.join(MOMENTS), parameters)?;
        let state = State::new(position, optimizer.state(parameters));
        write_synced(&new.join(STATE), &serde_json::to_vec(&state)?)?;
        write_synced(&new.join(CONFIG), &serde_json::to_vec_pretty(config)?)?;
        // A device that failed gave no weights: the earlier checkpoint stays.
        parameters.device().cuda().map_or(Ok(()), Cuda::check)
    })
}

/// Reads the model of a checkpoint, and says on stderr which weights it has. A checkpoint is a folder, the one in a run's
/// folder, or a file of the published program; `https://` addresses too.
pub fn read(path: &Path, weights: Weights) -> Result<(RunConfig, Mdetr)> {
    let path = &local(path)?;
    if path.is_file() {
        return published::read(path, weights.published_parts());
    }
    let folder = find(path)?;
    let config = config(&folder)?;
    let file = weights.file(&folder)?;
    let mut model = Mdetr::new(&config.model, 0)?;
    load(&file, &mut model.parameters)?;
    let position = State::read(&folder.join(STATE)).map(|state| format!(", {}", state.position.describe()));
    eprintln!("weights: {}{}", file.display(), position.unwrap_or_default());
    Ok((config, model))
}

/// The file that training can start from: `path` itself, or the weights in a checkpoint's or a run's folder.
pub fn weights_file(path: &Path) -> Result<PathBuf> {
    if path.is_file() { Ok(path.into()) } else { Weights::Auto.file(&find(path)?) }
}

impl Weights {
    /// Where the published program keeps them, the preferred first.
    fn published_parts(self) -> &'static [&'static str] {
        match self {
            Weights::Auto => &["model_ema", "model"],
            Weights::Model => &["model"],
            Weights::Ema => &["model_ema"],
        }
    }

    fn file(self, folder: &Path) -> Result<PathBuf> {
        let [model, ema] = [MODEL, EMA].map(|name| folder.join(name));
        match self {
            Weights::Auto if ema.exists() => Ok(ema),
            Weights::Auto | Weights::Model => Ok(model),
            Weights::Ema if ema.exists() => Ok(ema),
            Weights::Ema => bail!("{} holds no moving average ({EMA}): use --weights model", folder.display()),
        }
    }
}

/// The configuration that a checkpoint was written with.
pub fn config(folder: &Path) -> Result<RunConfig> {
    let mut settings = Settings::default();
    settings.add_file(&folder.join(CONFIG))?;
    settings.resolve()
}

/// What a checkpoint's run needs to go on.
pub fn state(folder: &Path) -> Result<State> {
    let path = folder.join(STATE);
    State::read(&path).with_context(|| format!("{} cannot be resumed from", folder.display()))
}

/// Gives a model the trained weights of a checkpoint.
pub fn restore_weights(folder: &Path, parameters: &mut Parameters) -> Result<()> {
    load(&folder.join(MODEL), parameters)
}

/// Gives an optimizer of `parameters` its moments, counters and, if both have one, the moving average. Returns whether there
/// is one.
pub fn restore_optimizer(
    folder: &Path,
    state: &State,
    parameters: &Parameters,
    optimizer: &mut Optimizer,
) -> Result<bool> {
    optimizer.restore(parameters, &state.optimizer, &folder.join(MOMENTS))?;
    let file = folder.join(EMA);
    let has_average = file.exists();
    if has_average && optimizer.ema().is_some() {
        let mut averaged = parameters.clone();
        load(&file, &mut averaged)?;
        optimizer.restore_average(averaged, parameters.device());
    }
    Ok(has_average)
}

/// The folder that holds the weights: `path`, or `path/checkpoint`, or what an interrupted replacement left.
pub fn find(path: &Path) -> Result<PathBuf> {
    let run = path.join(LATEST);
    let candidates = [path.to_path_buf(), run.clone(), folder::moved_away(path), folder::moved_away(&run)];
    match candidates.iter().find(|folder| folder.join(MODEL).exists()) {
        Some(folder) => Ok(folder.clone()),
        None if !path.exists() => bail!("{} does not exist: expected a checkpoint or a run's folder", path.display()),
        None => bail!(
            "{} is neither a checkpoint (a folder with {MODEL} and {CONFIG}) nor a run's folder with one",
            path.display()
        ),
    }
}

#[cfg(test)]
mod tests {
    use mdetr_kernels::Precision;

    use crate::optimizer::OptimizerOptions;

    use super::*;

    fn tiny() -> RunConfig {
        let mut settings = Settings::default();
        let json = r#"{"backbone": "conv5", "text_encoder_type": "words", "hidden_dim": 16, "nheads": 2, "enc_layers": 1,
            "dec_layers": 1, "dim_feedforward": 16, "num_queries": 3,
            "text_config": {"vocab_size": 5, "hidden_size": 8, "max_position_embeddings": 9}}"#;
        settings.add_json(json, "tiny").unwrap();
        settings.resolve().unwrap()
    }

    fn model(seed: u64) -> Mdetr {
        Mdetr::new(&tiny().model, seed).unwrap()
    }

    /// Of `model`, with the weights of `average` as its average.
    fn written(path: &Path, model: &Mdetr, average: Option<&Mdetr>) {
        let options = OptimizerOptions { ema_decay: average.map(|_| 0.5), ..Default::default() };
        let mut optimizer = Optimizer::new(&model.parameters, Precision::F32, options);
        average.iter().for_each(|a| optimizer.restore_average(a.parameters.clone(), mdetr_kernels::Device::Cpu));
        write(path, &tiny(), &model.parameters, &optimizer, Position::default()).unwrap();
    }

    fn values(m: &Mdetr) -> Vec<f64> {
        m.parameters.iter().flat_map(|(_, p)| p.value.to_f64_vec()).collect()
    }

    #[test]
    fn what_was_written_reads_back_and_the_average_is_preferred() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(LATEST);
        let (trained, average) = (model(1), model(2));
        let read_values = |weights| read(dir.path(), weights).map(|(_, model)| values(&model));
        written(&path, &trained, None);
        assert_eq!(read(dir.path(), Weights::Auto).unwrap().0, tiny());
        assert_eq!(read_values(Weights::Auto).unwrap(), values(&trained));
        assert!(format!("{:#}", read_values(Weights::Ema).unwrap_err()).contains("--weights model"));
        written(&path, &trained, Some(&average));
        for (weights, expected) in [(Weights::Auto, &average), (Weights::Ema, &average), (Weights::Model, &trained)] {
            assert_eq!(read_values(weights).unwrap(), values(expected), "{weights:?}");
        }
    }

    #[test]
    fn an_interrupted_replacement_loads_the_old_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(LATEST);
        written(&path, &model(1), None);
        std::fs::rename(&path, folder::moved_away(&path)).unwrap();
        assert!(read(dir.path(), Weights::Auto).is_ok());
    }

    #[test]
    fn errors_name_what_is_wrong() {
        let dir = tempfile::tempdir().unwrap();
        let error = |path: &Path| format!("{:#}", read(path, Weights::Auto).unwrap_err());
        assert!(error(&dir.path().join("nowhere")).contains("does not exist"));
        assert!(error(dir.path()).contains("neither a checkpoint"));
        let path = dir.path().join(LATEST);
        written(&path, &model(1), None);
        let weights = path.join(MODEL);
        let bytes = std::fs::read(&weights).unwrap();
        std::fs::write(&weights, &bytes[..bytes.len() / 2]).unwrap();
        assert!(error(&path).contains("not a whole safetensors file"));
        std::fs::write(&weights, &bytes).unwrap();
        let config_text = std::fs::read_to_string(path.join(CONFIG)).unwrap();
        std::fs::write(path.join(CONFIG), config_text.replace("\"num_queries\": 3", "\"num_queries\": 4")).unwrap();
        assert!(error(&path).contains("query_embed.weight is [3, 16], expected [4, 16]"), "{}", error(&path));
        let state_text = std::fs::read_to_string(path.join(STATE)).unwrap();
        std::fs::write(path.join(STATE), state_text.replace("\"format\":1", "\"format\":9")).unwrap();
        assert!(format!("{:#}", state(&path).unwrap_err()).contains("format 9"));
    }
}
