//! `mdetr data emoji`

use std::path::PathBuf;

use anyhow::Result;
use mdetr_train::emoji::{EmojiConfig, Preset};
use mdetr_train::run::make_emoji;

#[derive(clap::Args)]
#[command(after_help = "Examples:
  mdetr data emoji --out data/emoji
  mdetr data emoji --out data/hard --preset hard --train 5000 --size 160

Writes images/ and MDETR annotation files: train.json, pretrain.json (easy scenes), val.json,
val_unseen.json (pairs of objects that meet nowhere else). Graphics: Twemoji, CC-BY 4.0.")]
pub struct Args {
    /// The folder to make.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Seed of all scenes.
    #[arg(long, default_value_t = EmojiConfig::default().seed)]
    seed: u64,
    /// Side of the images in pixels.
    #[arg(long, default_value_t = EmojiConfig::default().size)]
    size: usize,
    /// Scenes in train.json.
    #[arg(long, default_value_t = EmojiConfig::default().train)]
    train: usize,
    /// Scenes in pretrain.json.
    #[arg(long, default_value_t = EmojiConfig::default().pretrain)]
    pretrain: usize,
    /// Scenes in val.json.
    #[arg(long, default_value_t = EmojiConfig::default().val)]
    val: usize,
    /// Scenes in val_unseen.json.
    #[arg(long, default_value_t = EmojiConfig::default().val_unseen)]
    val_unseen: usize,
    /// What captions say: base (names), or hard (colours, counts, relations).
    #[arg(long, default_value = "base")]
    preset: Preset,
}

pub fn run(a: Args) -> Result<()> {
    let config = EmojiConfig {
        seed: a.seed,
        size: a.size,
        train: a.train,
        pretrain: a.pretrain,
        val: a.val,
        val_unseen: a.val_unseen,
        preset: a.preset,
    };
    let summary = make_emoji(&a.out, &config)?;
    crate::print_json(&summary)
}
