//! `mdetr params`

use std::path::PathBuf;

use anyhow::Result;
use mdetr_model::{Mdetr, ModelConfig};
use mdetr_train::parameter_group::Group;
use serde_json::json;

#[derive(clap::Args)]
#[command(after_help = "Examples:
  mdetr params                                   the published model
  mdetr params --model-config my.json
  mdetr params --checkpoint runs/emoji

Prints a JSON object a parameter (name, shape, count, group, trainable) and a last one with
the totals.")]
pub struct Args {
    /// The architecture: a configuration with the published argument names.
    #[arg(long, value_name = "FILE")]
    model_config: Option<PathBuf>,
    /// The architecture of a checkpoint or run.
    #[arg(long, value_name = "CKPT", conflicts_with = "model_config")]
    checkpoint: Option<PathBuf>,
    #[command(flatten)]
    weights: crate::weights::Args,
}

pub fn run(args: Args) -> Result<()> {
    let model = match (&args.checkpoint, &args.model_config) {
        (Some(path), _) => mdetr_train::checkpoint::read(path, args.weights.which)?.1,
        (None, Some(path)) => Mdetr::new(&mdetr_train::dump::read_configs(path)?.1, 0)?,
        (None, None) => Mdetr::new(&ModelConfig::default(), 0)?,
    };
    let mut totals = std::collections::BTreeMap::<&str, usize>::new();
    for (_, p) in model.parameters.iter() {
        let group = if p.is_buffer { "buffer" } else { Group::of(&p.name).name() };
        *totals.entry(group).or_default() += p.value.len();
        *totals.entry("trainable").or_default() += if p.requires_grad { p.value.len() } else { 0 };
        crate::print_json(&json!({
            "name": p.name,
            "shape": p.published_shape(),
            "count": p.value.len(),
            "group": group,
            "trainable": p.requires_grad,
        }))?;
    }
    let all: usize = model.parameters.iter().map(|(_, p)| p.value.len()).sum();
    crate::print_json(&json!({"total": all, "counts": totals}))
}
