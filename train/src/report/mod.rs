//! One page of HTML about a run, pictures included: how it went, what it is worth, where it is wrong, how to repeat it.

mod mistakes;
mod page;
mod run;

use std::io::Cursor;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use image::{ImageFormat, RgbImage};
use mdetr_kernels::{Device, Precision};

use crate::checkpoint::Weights;
use crate::data::Tokenizer;
use crate::evaluate::{Captions, EvalOptions};
use crate::pictures;
use mistakes::Mistakes;
use page::{Figure, Page};
use run::Run;

/// Mistakes that are shown.
const MISTAKES: usize = 16;

/// How a report is made.
#[derive(Clone, Debug)]
pub struct ReportOptions {
    /// Looks for mistakes among so many images of the first validation file; 0 leaves them out.
    pub max_images: usize,
    /// Images in a batch of that search.
    pub batch_size: usize,
    /// Loader threads of that search.
    pub workers: usize,
}

/// Writes the report about the run in the folder `run` to `out`. Mistakes need the images of the validation file; where they
/// cannot be had, the page says why.
///
/// # Errors
/// If the folder holds no run, or `out` cannot be written.
pub fn write(run: &Path, out: &Path, device: Device, options: &ReportOptions) -> Result<()> {
    let run_data = Run::read(run)?;
    let mut figures = vec![Figure {
        title: "Over the epochs".into(),
        note: String::new(),
        png: png(&pictures::training_curves(&run_data.log)?)?,
    }];
    if !run_data.scalars.is_empty() {
        let png = png(&pictures::step_curves(&run_data.scalars)?)?;
        figures.push(Figure { title: "Over the steps".into(), note: String::new(), png });
    }
    if let Ok(png) = std::fs::read(run.join("scenes.png")) {
        let note = "Predicted boxes are solid, true ones dashed.".into();
        figures.push(Figure { title: "Held-out scenes".into(), note, png });
    }
    let mut notes = Vec::new();
    if options.max_images > 0 {
        match find_mistakes(run, device, options) {
            Ok((dataset, found)) => figures.push(mistakes_figure(&dataset, &found)?),
            Err(error) => notes.push(format!("The worst mistakes are left out: {error:#}.")),
        }
    }
    let page = Page { run: &run_data, figures: &figures, notes: &notes };
    write_whole(out, page.html().as_bytes())
}

fn find_mistakes(run: &Path, device: Device, options: &ReportOptions) -> Result<(String, Mistakes)> {
    let (config, mut model) = crate::checkpoint::read(run, Weights::Auto)?;
    let tokenizer = Tokenizer::roberta_base();
    let sets = crate::run::validation_sets(&config, &tokenizer)?;
    let (name, dataset) = sets.first().context("the run has no validation annotations (val_ann)")?;
    model.parameters.to_device(device);
    let options = EvalOptions {
        batch_size: options.batch_size,
        workers: options.workers,
        captions: Captions::Own,
        max_images: Some(options.max_images),
        precision: Precision::F32,
    };
    Ok((name.clone(), mistakes::worst(&model, name, dataset, &tokenizer, &options, MISTAKES)?))
}

fn mistakes_figure(dataset: &str, found: &Mistakes) -> Result<Figure> {
    let Mistakes { phrases, wrong, sheet } = found;
    let note = format!(
        "Of {phrases} phrases of {dataset}, {wrong} have a best box whose IoU with every true box is below 0.5. These are \
         the ones that the model is surest of and furthest off: its box is solid, with the probability that it means the \
         phrase; true boxes are dashed."
    );
    Ok(Figure { title: "Worst mistakes".into(), note, png: png(sheet)? })
}

fn png(image: &RgbImage) -> Result<Vec<u8>> {
    let mut bytes = Cursor::new(Vec::new());
    image.write_to(&mut bytes, ImageFormat::Png)?;
    Ok(bytes.into_inner())
}

/// Writes a file under another name first: a reader finds the earlier one or the whole new one.
fn write_whole(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut partial = path.as_os_str().to_owned();
    partial.push(".partial");
    let partial = PathBuf::from(partial);
    let write = || std::fs::write(&partial, bytes).and_then(|()| std::fs::rename(&partial, path));
    write().with_context(|| format!("cannot write {}", path.display()))
}
