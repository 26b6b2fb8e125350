//! `mdetr data check`

use std::sync::Mutex;

use anyhow::{Result, bail};
use mdetr_train::data::problems::Reason;
use mdetr_train::progress::Progress;
use serde_json::{Value, json};

use super::source::Source;

/// Tokens that a column of the histogram holds.
const BIN: usize = 16;

#[derive(clap::Args)]
#[command(after_help = "Examples:
  mdetr data check --ann train.json --img-path images
  mdetr data check --ann val.json --img-path images --split val --decode

Prints a JSON object: images and annotations of the file and how many of them are good; problems
and notes, each with count, by_reason and the first 20; tokens, the captions' lengths. Problems
stop a run unless it has --skip-bad, and make the exit status 1 here; notes say what is cut or
left out, as the published program does in silence.")]
pub struct Args {
    #[command(flatten)]
    source: Source,
    /// Decode every image too.
    #[arg(long)]
    decode: bool,
}

pub fn run(args: Args) -> Result<()> {
    let dataset = args.source.read()?;
    let mut report = dataset.report().clone();
    if args.decode {
        let progress = Mutex::new(None);
        let unreadable = dataset.unreadable_images(&|done, total| {
            if let Ok(mut progress) = progress.lock() {
                progress.get_or_insert_with(|| Progress::new("decoding", total)).at(done, &[]);
            }
        });
        for (image, reason) in unreadable {
            report.problems.add(format_args!("image {}", image.id), Reason::UnreadableImage, reason);
        }
        if let Ok(Some(progress)) = progress.into_inner() {
            progress.finish();
        }
    }
    let mut summary = serde_json::to_value(&report)?;
    summary["tokens"] = token_summary(dataset.caption_lengths());
    crate::print_json(&summary)?;
    let file = dataset.path().display();
    if report.notes.count > 0 {
        eprintln!("{file}: {}", report.notes.counts());
    }
    if report.problems.count > 0 {
        bail!("{file}: {}", report.problems);
    }
    eprintln!("{file}: {} images, {} annotations, no problem", report.images, report.annotations);
    Ok(())
}

/// Lengths of captions: extremes, quantiles, and how many captions have 0 to 15 tokens, 16 to 31, and so on.
fn token_summary(mut lengths: Vec<usize>) -> Value {
    lengths.sort_unstable();
    let quantile = |q: f64| lengths.get(((lengths.len() as f64 * q) as usize).min(lengths.len().saturating_sub(1)));
    let mut histogram = vec![0; lengths.last().map_or(0, |longest| longest / BIN + 1)];
    lengths.iter().for_each(|length| histogram[length / BIN] += 1);
    json!({
        "min": lengths.first(), "median": quantile(0.5), "p90": quantile(0.9), "p99": quantile(0.99), "max": lengths.last(),
        "histogram": {"bin": BIN, "captions": histogram},
    })
}
