//! Checkpoints of the published program: `torch.save` of `model`, `model_ema`, `args` and the optimizer's state. Also
//! what it names differently: behind `module.` (several processes) or `detr.` (models with a mask head).

use std::path::Path;

use anyhow::{Context, Result, ensure};
use mdetr_autograd::Parameters;
use mdetr_model::Mdetr;
use mdetr_model::checkpoint::{Fit, fill, refuse};
use mdetr_model::state_dict::{StateDict, TorchFile, Value};
use serde::de::DeserializeOwned;

use crate::config::RunConfig;

/// Reads a checkpoint. The weights are those of the first of `parts` that it has: `model_ema`, `model`.
pub fn read(path: &Path, parts: &[&str]) -> Result<(RunConfig, Mdetr)> {
    let file = TorchFile::open(path)?;
    let config = config(&file, path)?;
    let mut model = Mdetr::new(&config.model, 0)?;
    load(&file, path, parts, &mut model)?;
    Ok((config, model))
}

/// The architecture and the losses that a checkpoint was trained with; all else is as published.
fn config(file: &TorchFile, path: &Path) -> Result<RunConfig> {
    let args = file.root().get("args").with_context(|| {
        format!(
            "{} holds no args that would say what model its weights are of: train --load FILE starts from such weights",
            path.display()
        )
    })?;
    let read = || {
        let config = RunConfig { model: from_args(args)?, criterion: from_args(args)?, ..RunConfig::default() };
        config.model.validate()?;
        Ok::<_, anyhow::Error>(config)
    };
    read().with_context(|| format!("args of {}", path.display()))
}

/// Those of the arguments that `T` has. Arguments without a value are left out.
fn from_args<T: DeserializeOwned>(args: Value) -> Result<T> {
    let mut json = args.json()?;
    if let Some(map) = json.as_object_mut() {
        map.retain(|_, value| !value.is_null() && value != "");
    }
    Ok(serde_json::from_value(json)?)
}

/// Every parameter from a file that has them all.
fn load(file: &TorchFile, path: &Path, parts: &[&str], model: &mut Mdetr) -> Result<()> {
    let part = parts.iter().find_map(|&part| Some((part, file.root().get(part).filter(|v| !v.is_none())?)));
    let (part, weights) = part.with_context(|| format!("{} holds no {}", path.display(), parts.join(" or ")))?;
    eprintln!("weights: {} ({part})", path.display());
    let weights = with_our_names(file.state_dict(weights)?, &model.parameters);
    let fit = fill(&mut model.parameters, "", &weights)?;
    report_unexpected(path, &fit);
    refuse(path, "the model that its args describe", fit.problems().collect())
}

/// Starts a model from the weights in a checkpoint of any kind, as far as it has them (fine-tuning).
pub fn load_partially(path: &Path, model: &mut Mdetr) -> Result<()> {
    let weights = StateDict::open(path, &["model_ema", "model", "state_dict"])?;
    let weights = with_our_names(weights, &model.parameters);
    let fit = fill(&mut model.parameters, "", &weights)?;
    report_unexpected(path, &fit);
    refuse(path, "the model that the configuration describes", fit.mismatched)?;
    ensure!(fit.missing.len() < model.parameters.len(), "{} holds no parameter of this model", path.display());
    if !fit.missing.is_empty() {
        eprintln!("{} does not hold {}, which start at random", path.display(), first_names(&fit.missing));
    }
    Ok(())
}

/// Names without or with the prefixes that tell one way of saving from another.
fn with_our_names(weights: StateDict, parameters: &Parameters) -> StateDict {
    weights.rename(|name| {
        let name = name.strip_prefix("module.").unwrap_or(name);
        let other = name.strip_prefix("detr.").map_or_else(|| format!("detr.{name}"), str::to_string);
        Some(if parameters.find(&other).is_some() { other } else { name.to_string() })
    })
}

/// Says what of a file is not used.
pub(crate) fn report_unexpected(path: &Path, fit: &Fit) {
    if !fit.unexpected.is_empty() {
        eprintln!("{}: this model has no {}", path.display(), first_names(&fit.unexpected));
    }
}

/// `a, b, c and 4 more`
fn first_names(names: &[String]) -> String {
    let shown = names[..names.len().min(3)].join(", ");
    if names.len() > 3 { format!("{shown} and {} more", names.len() - 3) } else { shown }
}

#[cfg(test)]
mod tests {
    use mdetr_model::{TextConfig, recipe};

    use super::*;

    /// Most of its backbone was taken out when it was recorded, and the average is half of the recipe's weights.
    #[test]
    fn a_recorded_checkpoint_loads_as_far_as_it_goes() {
        let path = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/goldens/checkpoint/checkpoint_zip.pth"));
        let file = TorchFile::open(path).unwrap();
        let mut config = config(&file, path).unwrap().model;
        assert_eq!((config.backbone.as_str(), config.hidden_dim, config.contrastive_loss_hdim), ("resnet18", 32, 16));
        config.text_config = Some(TextConfig {
            vocab_size: 640,
            hidden_size: 48,
            num_hidden_layers: 2,
            num_attention_heads: 4,
            intermediate_size: 96,
            max_position_embeddings: 270,
            ..TextConfig::default()
        });
        let mut model = Mdetr::new(&config, 0).unwrap();
        let error = load(&file, path, &["model_ema", "model"], &mut model).unwrap_err().to_string();
        assert!(error.contains("(91 problems)") && error.contains("layer1.0.conv1.weight is missing"), "{error}");
        let error = load(&file, path, &["weights"], &mut model).unwrap_err().to_string();
        assert!(error.contains("holds no weights"), "{error}");

        let (mut model, mut expected) = (Mdetr::new(&config, 1).unwrap(), Mdetr::new(&config, 1).unwrap());
        load_partially(path, &mut model).unwrap();
        recipe::fill(&mut expected.parameters);
        let value = |m: &Mdetr, name| m.parameters[m.parameters.find(name).unwrap()].value.to_f64_vec();
        for name in ["query_embed.weight", "backbone.0.body.conv1.weight", "backbone.0.body.bn1.running_var"] {
            let half: Vec<f64> = value(&expected, name).iter().map(|v| f64::from((0.5 * v) as f32)).collect();
            assert_eq!(value(&model, name), half, "{name}");
        }
    }
}
