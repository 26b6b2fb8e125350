//! Which of a checkpoint's weights a command reads.

use mdetr_train::checkpoint::Weights;

#[derive(Default, clap::Args)]
pub struct Args {
    /// Weights of the checkpoint: auto (the moving average if there is one), model or ema.
    #[arg(long = "weights", value_name = "WHICH", default_value = "auto")]
    pub which: Weights,
}
