//! What a new model starts from: pretrained weights of its parts, a whole checkpoint, or nothing.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use mdetr_autograd::Parameters;
use mdetr_model::checkpoint::{fill, refuse};
use mdetr_model::state_dict::StateDict;
use mdetr_model::{Mdetr, ModelConfig};

use crate::config::RunConfig;
use crate::download::local;
use crate::published::{load_partially, report_unexpected};

/// Below which names the parameters of a part lie.
const BACKBONE: &str = "backbone.0.body.";
const TEXT_ENCODER: &str = "transformer.text_encoder.";

/// In a folder of Hugging Face's, the first of these that is there.
const FILES: [&str; 2] = ["model.safetensors", "pytorch_model.bin"];

/// Fills a new model: `backbone_weights` and `text_encoder_weights`, then `load` over them. A ResNet or RoBERTa for which
/// none of them is given is an error, unless `from_scratch` is set.
pub fn initial_weights(config: &RunConfig, model: &mut Mdetr) -> Result<()> {
    let t = &config.training;
    let parts = [
        (BACKBONE, &t.backbone_weights, pretrained_backbone(&config.model), "--backbone-weights"),
        (TEXT_ENCODER, &t.text_encoder_weights, pretrained_text_encoder(&config.model), "--text-encoder-weights"),
    ];
    for (prefix, file, pretrained, flag) in parts {
        match (file, pretrained) {
            (Some(file), _) => fill_part(&mut model.parameters, prefix, &local(file)?)?,
            (None, Some((name, address))) => ensure!(
                t.load.is_some() || t.from_scratch,
                "{name} is to start from pretrained weights, and none are given: {flag} FILE, such as\n  {address}\n\
                 (file or address), or --load CHECKPOINT, or --from-scratch to start at random"
            ),
            (None, None) => {}
        }
    }
    if let Some(path) = &t.load {
        load_partially(&crate::checkpoint::weights_file(&local(Path::new(path))?)?, model)?;
    }
    Ok(())
}

/// The network that published weights exist of, and where.
fn pretrained_backbone(config: &ModelConfig) -> Option<(&str, String)> {
    let file = match config.backbone.as_str() {
        "resnet18" => "resnet18-f37072fd.pth",
        "resnet34" => "resnet34-b627a593.pth",
        "resnet50" => "resnet50-0676ba61.pth",
        "resnet101" => "resnet101-63fe2227.pth",
        _ => return None,
    };
    Some((&config.backbone, format!("https://download.pytorch.org/models/{file}")))
}

fn pretrained_text_encoder(config: &ModelConfig) -> Option<(&str, String)> {
    let name = config.text_encoder_type.as_str();
    (name != "words").then(|| (name, format!("https://huggingface.co/{name}/resolve/main/model.safetensors")))
}

/// Fills the parameters below `prefix` from a file that has that part alone, or within something larger: whatever stands
/// there before the names of the part is taken off.
fn fill_part(parameters: &mut Parameters, prefix: &str, path: &Path) -> Result<()> {
    let path = file_in(path);
    let weights = StateDict::open(&path, &["state_dict", "model"])?;
    let first = parameters.iter().find_map(|(_, p)| p.name.strip_prefix(prefix)).unwrap_or_default().to_string();
    let outer = weights.names().filter_map(|name| name.strip_suffix(&first));
    let outer = outer.filter(|outer| outer.is_empty() || outer.ends_with('.')).min_by_key(|outer| outer.len());
    let outer =
        outer.with_context(|| format!("{} holds no {first}, where {prefix} begins", path.display()))?.to_string();
    let weights = weights.rename(|name| Some(format!("{prefix}{}", name.strip_prefix(&outer)?)));
    let mut fit = fill(parameters, prefix, &weights)?;
    // Only some of Hugging Face's files have the pooler, whose output nothing reads.
    fit.missing.retain(|name| !name.contains(".pooler."));
    report_unexpected(&path, &fit);
    refuse(&path, &format!("this model's {}", prefix.trim_end_matches('.')), fit.problems().collect())
}

/// The file with the weights, in a folder or given itself.
fn file_in(path: &Path) -> PathBuf {
    FILES.iter().map(|name| path.join(name)).find(|file| file.is_file()).unwrap_or_else(|| path.into())
}

#[cfg(test)]
mod tests;
