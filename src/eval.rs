//! `mdetr eval`

use std::path::PathBuf;

use anyhow::{Result, ensure};
use mdetr_train::evaluate::{Captions, EvalOptions, Metrics};
use mdetr_train::run::evaluate_all;

#[derive(clap::Args)]
#[command(after_help = "Examples:
  mdetr eval runs/emoji                                    the run's own validation files
  mdetr eval runs/emoji --shuffle-captions                 other images' captions: is the text read at all?
  mdetr eval runs/emoji --val-ann my.json --img-path images

Prints a JSON object a dataset: dataset, n, n_skipped, boxes_skipped, phrases, recall@1, recall@5,
recall@10, upper_bound, ap, ap50, ap75.")]
pub struct Args {
    /// A checkpoint, or the folder of a run.
    checkpoint: PathBuf,
    /// Annotations to evaluate on instead of the run's; may be given several times.
    #[arg(long, value_name = "FILE")]
    val_ann: Vec<PathBuf>,
    /// The folder of the images.
    #[arg(long, value_name = "DIR")]
    img_path: Option<PathBuf>,
    /// Images in a batch.
    #[arg(long, default_value_t = 16)]
    batch_size: usize,
    /// Loader threads.
    #[arg(long, default_value_t = 2)]
    num_workers: usize,
    /// At most so many images of each dataset.
    #[arg(long, value_name = "N")]
    max_images: Option<usize>,
    /// Evaluate each image with another image's caption.
    #[arg(long)]
    shuffle_captions: bool,
    #[command(flatten)]
    device: crate::device::Args,
}

pub fn run(args: Args) -> Result<()> {
    let (mut config, mut model) = mdetr_train::checkpoint::read(&args.checkpoint)?;
    if !args.val_ann.is_empty() {
        config.data.val_ann = args.val_ann;
    }
    config.data.img_path = args.img_path.or(config.data.img_path);
    ensure!(
        !config.data.val_ann.is_empty(),
        "{} was trained without validation annotations: name some with --val-ann",
        args.checkpoint.display()
    );
    let options = EvalOptions {
        batch_size: args.batch_size.max(1),
        workers: args.num_workers,
        captions: if args.shuffle_captions { Captions::Shuffled } else { Captions::Own },
        max_images: args.max_images,
    };
    let metrics = args.device.run(|device| {
        model.parameters.to_device(device);
        let metrics = evaluate_all(&config, &model, &options);
        drop(model);
        metrics
    })?;
    print_table(&metrics);
    metrics.iter().try_for_each(crate::print_json)
}

fn print_table(metrics: &[Metrics]) {
    eprintln!(
        "{:<24} {:>6} {:>8} {:>7} {:>7} {:>7} {:>7} {:>7}",
        "dataset", "n", "phrases", "R@1", "R@5", "R@10", "AP", "AP50"
    );
    for m in metrics {
        eprintln!(
            "{:<24} {:>6} {:>8} {:>7.4} {:>7.4} {:>7.4} {:>7.4} {:>7.4}",
            m.dataset, m.n, m.phrases, m.recall_at_1, m.recall_at_5, m.recall_at_10, m.ap, m.ap50
        );
    }
}
