//! What a run needs besides weights and moments to go on as if it had never stopped.
//!
//! There is no state of a sampler, a worker or a random generator: order, augmentation and dropout are functions of the
//! seed and of the counters here.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::engine::EpochStats;
use crate::optimizer::OptimizerState;

/// The version of this format.
const FORMAT: u32 = 1;

/// Where a run is, between two steps.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Position {
    /// What the steps are counted in.
    pub phase: Phase,
    /// Epochs that are complete, evaluated and logged.
    pub epoch: usize,
    /// Steps made of the warm-up, or of the epoch. When it is all of them, the epoch's evaluation is to come.
    pub step: usize,
    /// Steps of an epoch.
    pub steps_per_epoch: usize,
    /// Random streams taken.
    pub draws: u64,
    /// Of the steps of this epoch.
    pub stats: EpochStats,
    /// The running mean of the warm-up's loss.
    pub warm_up_loss: f64,
    /// The best metric of all evaluations.
    pub best: Option<f64>,
    /// That the run has taken.
    pub seconds: f64,
    /// The lines of `log.txt`, an object an epoch.
    pub log: Vec<Value>,
}

/// The parts of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// The image-caption warm-up.
    #[default]
    WarmUp,
    /// MDETR's losses.
    Training,
}

/// The file `state.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct State {
    format: u32,
    /// Of the program that wrote it.
    version: String,
    /// Where the run is.
    pub position: Position,
    /// The optimizer's numbers.
    pub optimizer: OptimizerState,
}

impl Position {
    /// For people.
    pub fn describe(&self) -> String {
        match (self.phase, self.step) {
            (Phase::WarmUp, step) => format!("step {step} of the warm-up"),
            (Phase::Training, 0) if self.epoch == 0 => "the start of training".into(),
            (Phase::Training, 0) => format!("the end of epoch {}", self.epoch - 1),
            (Phase::Training, step) => format!("step {step} of {} of epoch {}", self.steps_per_epoch, self.epoch),
        }
    }
}

impl State {
    /// Of this program.
    pub fn new(position: Position, optimizer: OptimizerState) -> Self {
        State { format: FORMAT, version: env!("CARGO_PKG_VERSION").into(), position, optimizer }
    }

    /// Reads the file. Errors: not JSON, not of this format.
    pub fn read(path: &Path) -> Result<Self> {
        let bytes = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        let value: Value =
            serde_json::from_slice(&bytes).with_context(|| format!("{} is not valid JSON", path.display()))?;
        ensure!(
            value["format"] == FORMAT,
            "{} has format {}, this program reads {FORMAT}: resume with mdetr {}",
            path.display(),
            value["format"],
            value["version"].as_str().unwrap_or("of its version")
        );
        serde_json::from_value(value).with_context(|| format!("{} is not a run's state", path.display()))
    }
}
