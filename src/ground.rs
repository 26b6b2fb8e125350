//! `mdetr ground`

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use mdetr_kernels::{Device, Precision};
use mdetr_train::data::Span;
use mdetr_train::grounding::{Detection, GroundOptions};
use mdetr_train::session::{Found, Grounder, Query, Session};
use serde_json::json;

#[derive(clap::Args)]
#[command(after_help = "Examples:
  mdetr ground runs/emoji -i scene.png -t 'a dog and a bus'
  mdetr ground runs/emoji -i a.png -i b.png -t 'a dog' -t 'a cat' --save out
  mdetr ground runs/emoji -i scene.png -t 'a dog and a bus' --phrase dog --top-k 3
  mdetr ground runs/emoji --pairs pairs.jsonl  # {\"image\": \"a.png\", \"caption\": \"a dog\"}

One image and one caption print a list of {score, label, box: {xmin, ymin, xmax, ymax}, span,
spans}, boxes in pixels of the original image, upright, spans in code points of the caption.
More pairs, or --jsonl, print a line a pair: {image, caption, width, height, detections}. A
pair that fails has an `error` instead of detections, and the exit status is 1.")]
pub struct Args {
    /// A checkpoint, or the folder of a run.
    checkpoint: PathBuf,
    /// Images; every one is searched with every caption.
    #[arg(short, long, value_name = "FILE", num_args = 1..)]
    image: Vec<PathBuf>,
    /// Captions.
    #[arg(short = 't', long, value_name = "TEXT", num_args = 1..)]
    caption: Vec<String>,
    /// Pairs of `image` and `caption`, a JSON object a line, instead of the cross product.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["image", "caption"])]
    pairs: Option<PathBuf>,
    /// Keep a query when 1 - P(no object) is above this.
    #[arg(long, default_value_t = GroundOptions::default().threshold)]
    threshold: f32,
    /// A query means the tokens with a probability above this, or above half of its largest one.
    #[arg(long, default_value_t = GroundOptions::default().text_threshold)]
    text_threshold: f32,
    /// Rank the queries for this part of the caption (every occurrence of it); may be given several times.
    #[arg(long, value_name = "TEXT")]
    phrase: Vec<String>,
    /// The same for a range of code points of the caption.
    #[arg(long, value_name = "START:END", value_parser = parse_span)]
    span: Vec<Span>,
    /// Keep the K best (for each phrase, if any are given) whatever their scores.
    #[arg(long, value_name = "K")]
    top_k: Option<usize>,
    /// Drop boxes that overlap a better one of the same label by more than this IoU.
    #[arg(long, value_name = "IOU", num_args = 0..=1, default_missing_value = "0.5")]
    nms: Option<f32>,
    /// Split a caption that is too long at sentence ends, else commas, else spaces, and merge what its parts find.
    #[arg(long)]
    chunk: bool,
    /// Print a line a pair, also for a single one.
    #[arg(long)]
    jsonl: bool,
    /// Draw the boxes into pictures in this folder.
    #[arg(long, value_name = "DIR")]
    save: Option<PathBuf>,
    /// Activations and matrices in bfloat16.
    #[arg(long)]
    bf16: bool,
    #[command(flatten)]
    weights: crate::weights::Args,
    #[command(flatten)]
    device: crate::device::Args,
}

fn parse_span(text: &str) -> Result<Span, String> {
    let parse = || {
        let (start, end) = text.split_once(':')?;
        Some([start.trim().parse().ok()?, end.trim().parse().ok()?])
    };
    let span: Span = parse().ok_or("expected START:END in code points, such as 2:5")?;
    if span[0] >= span[1] { Err("the span is empty: START must be less than END".into()) } else { Ok(span) }
}

pub fn run(args: Args) -> Result<()> {
    args.device.run(|device| ground(&args, device))
}

fn ground(args: &Args, device: Device) -> Result<()> {
    let pairs = pairs(args)?;
    let precision = if args.bf16 { Precision::BF16 } else { Precision::F32 };
    let mut session = Session::open(&args.checkpoint, args.weights.which, None)?.with_precision(precision);
    session.model.parameters.to_device(device);
    let options = GroundOptions {
        threshold: args.threshold,
        text_threshold: args.text_threshold,
        top_k: args.top_k,
        nms: args.nms,
        chunk: args.chunk,
    };
    let queries: Vec<Query> = args
        .phrase
        .iter()
        .map(|p| Query::Phrase(p.clone()))
        .chain(args.span.iter().map(|&s| Query::Span(s)))
        .collect();
    if let Some(dir) = &args.save {
        std::fs::create_dir_all(dir).with_context(|| format!("cannot make the folder {}", dir.display()))?;
    }
    let tape = session.tape();
    let mut grounder = Grounder::new(&session, &tape, options, queries);
    let single = pairs.len() == 1 && !args.jsonl && args.pairs.is_none();
    let mut failed = 0;
    for (i, (image, caption)) in pairs.iter().enumerate() {
        if caption.trim().is_empty() {
            eprintln!("the caption {caption:?} is blank: it names nothing");
        }
        let result = grounder.ground(image, caption);
        let result = result.and_then(|found| {
            if let Some(dir) = &args.save {
                save(dir, i, image, caption, &found)?;
            }
            Ok(found)
        });
        match result {
            Ok(found) if single => print_list(&found.detections)?,
            Ok(found) => crate::print_json(&json!({
                "image": image,
                "caption": caption,
                "width": found.width,
                "height": found.height,
                "detections": found.detections,
            }))?,
            Err(e) if single => return Err(e),
            Err(e) => {
                failed += 1;
                eprintln!("error: {e:#}");
                crate::print_json(&json!({"image": image, "caption": caption, "error": format!("{e:#}")}))?;
            }
        }
    }
    ensure!(failed == 0, "{failed} of {} pairs failed", pairs.len());
    Ok(())
}

fn print_list(detections: &[Detection]) -> Result<()> {
    use std::io::Write;
    let mut out = std::io::stdout().lock();
    serde_json::to_writer_pretty(&mut out, detections).map_err(std::io::Error::from)?;
    writeln!(out)?;
    Ok(())
}

/// The pairs to search: those of the file, or every image with every caption.
fn pairs(args: &Args) -> Result<Vec<(PathBuf, String)>> {
    let Some(path) = &args.pairs else {
        if args.image.is_empty() || args.caption.is_empty() {
            bail!("nothing to search: give images (-i) and captions (-t), or --pairs FILE.jsonl");
        }
        let with = |image: &PathBuf| args.caption.iter().map(|c| (image.clone(), c.clone())).collect::<Vec<_>>();
        return Ok(args.image.iter().flat_map(with).collect());
    };
    #[derive(serde::Deserialize)]
    struct Pair {
        image: PathBuf,
        caption: String,
    }
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    lines
        .map(|(i, line)| {
            let pair: Pair = serde_json::from_str(line).with_context(|| {
                format!("{} line {}: expected {{\"image\": ..., \"caption\": ...}}", path.display(), i + 1)
            })?;
            Ok((pair.image, pair.caption))
        })
        .collect()
}

fn save(dir: &Path, index: usize, image: &Path, caption: &str, found: &Found) -> Result<()> {
    let stem = image.file_stem().unwrap_or_default().to_string_lossy();
    let path = dir.join(format!("{index:04}_{stem}.png"));
    mdetr_train::draw::save_png(&found.picture(image, caption)?, &path)?;
    eprintln!("{}", path.display());
    Ok(())
}

#[cfg(test)]
mod tests {
    #[test]
    fn spans() {
        assert_eq!(super::parse_span("2:5"), Ok([2, 5]));
        assert!(
            super::parse_span("5:2").is_err() && super::parse_span("2").is_err() && super::parse_span("a:b").is_err()
        );
    }
}
