//! `mdetr dump`

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use mdetr_kernels::DType;
use mdetr_model::criterion::Criterion;
use mdetr_model::{CriterionConfig, Mdetr, ModelConfig};
use mdetr_train::dump::{RecordedCase, activations, read_configs, save, trace};
use mdetr_train::session::Session;
use serde_json::json;

#[derive(clap::Args)]
#[command(after_help = "Examples:
  mdetr dump runs/emoji -i photo.png -t 'a dog' -o out.safetensors
  mdetr dump recipe --model-config case.json -i photo.png -t 'a dog' -o out.safetensors
  mdetr dump recipe --case tests/goldens/tiny/base -o out.safetensors

`recipe` stands for weights by the goldens' recipe. Tensors have the goldens' names and
layouts; image positions that are padding are zero, and `valid` (B, h, w) tells them apart.
With --case, JSON on stdout has losses by name, the matching, and the gradient norm of every
parameter.")]
pub struct Args {
    /// A checkpoint, the folder of a run, or `recipe`.
    checkpoint: PathBuf,
    /// The architecture for `recipe`: a configuration with the published argument names.
    #[arg(long, value_name = "FILE")]
    model_config: Option<PathBuf>,
    /// A recorded case: a folder with case.json and inputs.safetensors.
    #[arg(long, value_name = "DIR", conflicts_with_all = ["image", "caption", "model_config"])]
    case: Option<PathBuf>,
    /// The image.
    #[arg(short, long, value_name = "FILE", requires = "caption")]
    image: Option<PathBuf>,
    /// Its caption.
    #[arg(short = 't', long, value_name = "TEXT", requires = "image")]
    caption: Option<String>,
    /// A folder with vocab.json and merges.txt, for models with a tokenizer of their own.
    #[arg(long, value_name = "DIR")]
    tokenizer: Option<PathBuf>,
    /// Where the tensors go.
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    #[command(flatten)]
    weights: crate::weights::Args,
}

pub fn run(args: Args) -> Result<()> {
    match (&args.case, &args.image, &args.caption) {
        (Some(case), ..) => dump_case(&args, case),
        (None, Some(image), Some(caption)) => dump_image(&args, image, caption),
        _ => bail!("nothing to run: give an image and a caption (-i, -t), or a recorded --case"),
    }
}

/// The model that the first argument names, with the architecture of `config` if it is the recipe.
fn model(args: &Args, config: impl FnOnce() -> Result<ModelConfig>) -> Result<Mdetr> {
    if args.checkpoint == Path::new("recipe") {
        let mut model = Mdetr::new(&config()?, 0)?;
        mdetr_model::recipe::fill(&mut model.parameters);
        return Ok(model);
    }
    Ok(mdetr_train::checkpoint::read(&args.checkpoint, args.weights.which)?.1)
}

fn dump_case(args: &Args, dir: &Path) -> Result<()> {
    let case = RecordedCase::read(dir)?;
    let model = model(args, || Ok(case.model.clone()))?;
    let Some(targets) = &case.targets else {
        save(&args.output, &activations(&model, &case.batch, DType::F32))?;
        return crate::print_json(&json!({}));
    };
    let trace = trace(&model, &Criterion::new(&case.criterion), &case.batch, targets, DType::F32);
    save(&args.output, &trace.activations)?;
    crate::print_json(&trace.summary(&model.parameters))
}

fn dump_image(args: &Args, image: &Path, caption: &str) -> Result<()> {
    let is_recipe = args.checkpoint == Path::new("recipe");
    let session = if is_recipe {
        let config = args.model_config.as_ref().context("recipe weights need --model-config FILE")?;
        let (_, config, _): (_, _, CriterionConfig) = read_configs(config)?;
        Session::new(model(args, || Ok(config))?, Default::default(), args.tokenizer.as_deref())?
    } else {
        Session::open(&args.checkpoint, args.weights.which, args.tokenizer.as_deref())?
    };
    let batch = session.batch(image, caption)?;
    save(&args.output, &activations(&session.model, &batch, DType::F32))
}
