//! `mdetr data show`

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use mdetr_train::{draw, samples};

use super::source::Source;

#[derive(clap::Args)]
#[command(after_help = "Examples:
  mdetr data show --ann train.json --img-path images --save look
  mdetr data show --ann val.json --img-path images --split val --save look --n 4 --config my.json

Writes a PNG a sample: the image after the transforms of its split, every box with the words of its
spans and the numbers of their tokens, the caption below with those tokens highlighted. Prints a
line of JSON a sample: file, image_id, width, height, caption, tokens, boxes (box, label, tokens).")]
pub struct Args {
    #[command(flatten)]
    source: Source,
    /// The folder that the pictures go to.
    #[arg(long, value_name = "DIR")]
    save: PathBuf,
    /// How many samples to draw.
    #[arg(long, default_value_t = 16)]
    n: usize,
    /// Seed of the choice and of the augmentation.
    #[arg(long, default_value_t = 42)]
    seed: u64,
}

pub fn run(args: Args) -> Result<()> {
    let dataset = args.source.read()?;
    let (path, problems) = (dataset.path().display(), &dataset.report().problems);
    if problems.count > 0 {
        eprintln!("{path}: rows left out: {}", problems.counts());
    }
    ensure!(!dataset.is_empty(), "{path} holds no image that can be shown");
    std::fs::create_dir_all(&args.save).with_context(|| format!("cannot make the folder {}", args.save.display()))?;
    for index in samples::choose(dataset.len(), args.n, args.seed) {
        let (picture, shown) = samples::draw(&dataset, index, args.seed)?;
        let file = args.save.join(format!("image_{}.png", shown.image_id));
        draw::save_png(&picture, &file)?;
        let mut line = serde_json::Map::from_iter([("file".into(), file.display().to_string().into())]);
        if let serde_json::Value::Object(fields) = serde_json::to_value(&shown)? {
            line.extend(fields);
        }
        crate::print_json(&line)?;
    }
    Ok(())
}
