//! `mdetr report`

use std::path::PathBuf;

use anyhow::Result;
use mdetr_train::report::{ReportOptions, write};
use serde_json::json;

#[derive(clap::Args)]
#[command(after_help = "Examples:
  mdetr report runs/emoji                    into runs/emoji/report.html
  mdetr report runs/emoji --max-images 0     without evaluating the model: no mistakes

The page holds curves, metrics, pictures, the worst mistakes, the settings and the environment;
it needs no other file. Prints {\"report\": PATH}.")]
pub struct Args {
    /// The folder of a run.
    run: PathBuf,
    /// Where the page goes [default: report.html in the run's folder].
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Look for mistakes among so many images of the first validation file; 0 leaves them out.
    #[arg(long, value_name = "N", default_value_t = 500)]
    max_images: usize,
    /// Images in a batch.
    #[arg(long, default_value_t = 16)]
    batch_size: usize,
    /// Loader threads.
    #[arg(long, default_value_t = 2)]
    num_workers: usize,
    #[command(flatten)]
    device: crate::device::Args,
}

pub fn run(args: Args) -> Result<()> {
    let out = args.out.unwrap_or_else(|| args.run.join("report.html"));
    let options =
        ReportOptions { max_images: args.max_images, batch_size: args.batch_size.max(1), workers: args.num_workers };
    args.device.run(|device| write(&args.run, &out, device, &options))?;
    crate::print_json(&json!({"report": out}))
}
