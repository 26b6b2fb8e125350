//! A trained model on disk: a folder with the weights, their moving average, and the configuration.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use mdetr_autograd::Parameters;
use mdetr_kernels::Tensor;
use mdetr_kernels::cuda::Cuda;
use mdetr_model::Mdetr;
use mdetr_model::checkpoint::{load, save, write_synced};

use crate::config::RunConfig;
use crate::download::local;
use crate::published;
use crate::settings::Settings;

const MODEL: &str = "model.safetensors";
const EMA: &str = "ema.safetensors";
const CONFIG: &str = "config.json";

/// Writes a checkpoint at `path`, replacing an earlier one. It is complete on disk under another name before it gets its
/// own, so a crash at any moment leaves the old one or the new one whole.
pub fn write(path: &Path, config: &RunConfig, parameters: &Parameters, ema: Option<&[Tensor]>) -> Result<()> {
    let (new, old) = (sibling(path, "new"), sibling(path, "old"));
    remove(&new)?;
    std::fs::create_dir_all(&new).with_context(|| format!("cannot make {}", new.display()))?;
    let values: Vec<Tensor> = parameters.iter().map(|(_, p)| p.value.clone()).collect();
    save(&new.join(MODEL), parameters, &values)?;
    if let Some(ema) = ema {
        save(&new.join(EMA), parameters, ema)?;
    }
    // A device that failed gave no weights: the earlier checkpoint stays.
    parameters.device().cuda().map_or(Ok(()), Cuda::check)?;
    write_synced(&new.join(CONFIG), &serde_json::to_vec_pretty(config)?)?;
    sync_folder(&new)?;
    if path.exists() {
        remove(&old)?;
        rename(path, &old)?;
    }
    rename(&new, path)?;
    sync_folder(path.parent().unwrap_or(Path::new(".")))?;
    remove(&old)
}

fn sibling(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(format!(".{suffix}"));
    path.with_file_name(name)
}

fn rename(from: &Path, to: &Path) -> Result<()> {
    std::fs::rename(from, to).with_context(|| format!("cannot rename {} to {}", from.display(), to.display()))
}

fn remove(path: &Path) -> Result<()> {
    if path.exists() {
        std::fs::remove_dir_all(path).with_context(|| format!("cannot remove {}", path.display()))?;
    }
    Ok(())
}

fn sync_folder(path: &Path) -> Result<()> {
    let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    let sync = || std::fs::File::open(path)?.sync_all();
    sync().with_context(|| format!("cannot sync {}", path.display()))
}

/// Reads a checkpoint: a folder, the one of a run's folder, or a file of the published program; `https://` addresses too.
/// The weights are the moving average when there is one.
pub fn read(path: &Path) -> Result<(RunConfig, Mdetr)> {
    let path = &local(path)?;
    if path.is_file() {
        return published::read(path, &["model_ema", "model"]);
    }
    let folder = find(path)?;
    let mut settings = Settings::default();
    settings.add_file(&folder.join(CONFIG))?;
    let config = settings.resolve()?;
    let mut model = Mdetr::new(&config.model, 0)?;
    load(&weights_in(&folder), &mut model.parameters)?;
    Ok((config, model))
}

/// The file with a checkpoint's weights: `path` itself, or the one in a checkpoint's or a run's folder.
pub fn weights_file(path: &Path) -> Result<PathBuf> {
    if path.is_file() { Ok(path.into()) } else { Ok(weights_in(&find(path)?)) }
}

fn weights_in(folder: &Path) -> PathBuf {
    let [ema, model] = [EMA, MODEL].map(|name| folder.join(name));
    if ema.exists() { ema } else { model }
}

/// The folder that holds the weights: `path`, or `path/checkpoint`, or what an interrupted replacement left.
fn find(path: &Path) -> Result<PathBuf> {
    let run = path.join("checkpoint");
    let candidates = [path.to_path_buf(), run.clone(), sibling(path, "old"), sibling(&run, "old")];
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
    use super::*;

    fn tiny() -> RunConfig {
        let mut settings = Settings::default();
        let json = r#"{"backbone": "conv5", "text_encoder_type": "words", "hidden_dim": 16, "nheads": 2, "enc_layers": 1,
            "dec_layers": 1, "dim_feedforward": 16, "num_queries": 3,
            "text_config": {"vocab_size": 5, "hidden_size": 8, "max_position_embeddings": 9}}"#;
        settings.add_json(json, "tiny").unwrap();
        settings.resolve().unwrap()
    }

    #[test]
    fn what_was_written_reads_back_and_the_average_is_preferred() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("checkpoint");
        let config = tiny();
        let (model, average) = (Mdetr::new(&config.model, 1).unwrap(), Mdetr::new(&config.model, 2).unwrap());
        let values = |m: &Mdetr| m.parameters.iter().flat_map(|(_, p)| p.value.to_f64_vec()).collect::<Vec<_>>();
        write(&path, &config, &model.parameters, None).unwrap();
        let (config_read, model_read) = read(dir.path()).unwrap();
        assert_eq!(config_read, config);
        assert_eq!(values(&model_read), values(&model));
        let ema: Vec<Tensor> = average.parameters.iter().map(|(_, p)| p.value.clone()).collect();
        write(&path, &config, &model.parameters, Some(&ema)).unwrap();
        assert_eq!(values(&read(&path).unwrap().1), values(&average));
    }

    #[test]
    fn an_interrupted_replacement_loads_the_old_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("checkpoint");
        let config = tiny();
        let model = Mdetr::new(&config.model, 1).unwrap();
        write(&path, &config, &model.parameters, None).unwrap();
        std::fs::rename(&path, sibling(&path, "old")).unwrap();
        assert!(read(dir.path()).is_ok());
    }

    #[test]
    fn errors_name_what_is_wrong() {
        let dir = tempfile::tempdir().unwrap();
        let error = |path: &Path| format!("{:#}", read(path).unwrap_err());
        assert!(error(&dir.path().join("nowhere")).contains("does not exist"));
        assert!(error(dir.path()).contains("neither a checkpoint"));
        let path = dir.path().join("checkpoint");
        let config = tiny();
        write(&path, &config, &Mdetr::new(&config.model, 1).unwrap().parameters, None).unwrap();
        let weights = path.join(MODEL);
        let bytes = std::fs::read(&weights).unwrap();
        std::fs::write(&weights, &bytes[..bytes.len() / 2]).unwrap();
        assert!(error(&path).contains("not a whole safetensors file"));
        std::fs::write(&weights, &bytes).unwrap();
        let config_text = std::fs::read_to_string(path.join(CONFIG)).unwrap();
        std::fs::write(path.join(CONFIG), config_text.replace("\"num_queries\": 3", "\"num_queries\": 4")).unwrap();
        assert!(error(&path).contains("query_embed.weight is [3, 16], expected [4, 16]"), "{}", error(&path));
    }
}
