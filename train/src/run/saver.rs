//! When a run saves, and under which names.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::checkpoint::{LATEST, folder};
use crate::config::TrainingConfig;
use crate::signals;

/// The checkpoint of the best evaluation.
const BEST: &str = "BEST_checkpoint";

/// How often a run saves inside of an epoch.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Value", into = "Value")]
pub enum SaveEvery {
    /// After so many steps.
    Steps(u64),
    /// After so many minutes.
    Minutes(f64),
}

impl TryFrom<Value> for SaveEvery {
    type Error = anyhow::Error;

    /// `500`, `"500"`, `"500steps"`, `"10m"`.
    fn try_from(value: Value) -> Result<Self> {
        let text = value.as_str().map_or(value.to_string(), str::to_string);
        let steps = || text.strip_suffix("steps").unwrap_or(&text).trim().parse().ok().filter(|&n| n > 0);
        let minutes = || text.strip_suffix('m')?.trim().parse().ok().filter(|m: &f64| *m > 0.0 && m.is_finite());
        let every = steps().map(SaveEvery::Steps).or_else(|| minutes().map(SaveEvery::Minutes));
        every.ok_or_else(|| anyhow!("save_every is {text}: expected a number of steps (500) or of minutes (10m)"))
    }
}

impl From<SaveEvery> for Value {
    fn from(every: SaveEvery) -> Value {
        match every {
            SaveEvery::Steps(steps) => steps.to_string().into(),
            SaveEvery::Minutes(minutes) => format!("{minutes}m").into(),
        }
    }
}

/// The checkpoints of a run's folder.
pub(super) struct Saver {
    dir: PathBuf,
    every: Option<SaveEvery>,
    keep: Option<usize>,
    lr_drop: usize,
    last: Instant,
}

impl Saver {
    pub fn new(dir: &Path, training: &TrainingConfig) -> Self {
        let TrainingConfig { save_every, keep, lr_drop, .. } = training;
        Saver { dir: dir.into(), every: *save_every, keep: *keep, lr_drop: *lr_drop, last: Instant::now() }
    }

    /// Whether to save after step `step` of the warm-up or of training, counted from 1.
    pub fn is_due(&self, step: usize) -> bool {
        let by_plan = match self.every {
            Some(SaveEvery::Steps(steps)) => (step as u64).is_multiple_of(steps),
            Some(SaveEvery::Minutes(minutes)) => self.last.elapsed() >= Duration::from_secs_f64(60.0 * minutes),
            None => false,
        };
        by_plan || signals::is_requested()
    }

    /// The checkpoint that is resumed from.
    pub fn latest(&self) -> PathBuf {
        self.dir.join(LATEST)
    }

    /// What the end of an epoch is saved as: its number, every second epoch and before the learning rate drops, as published;
    /// the best. What resuming starts from comes last, so that a run that is killed on the way does all of it again.
    pub fn names(&self, epoch: usize, is_best: bool) -> Vec<String> {
        let is_numbered = (epoch + 1).is_multiple_of(self.lr_drop) || (epoch + 1).is_multiple_of(2);
        let names = [is_numbered.then(|| numbered(epoch)), is_best.then(|| BEST.into()), Some(LATEST.into())];
        names.into_iter().flatten().collect()
    }

    /// Saves what `write` writes under all of the names.
    pub fn save(&mut self, names: &[String], write: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
        let paths: Vec<PathBuf> = names.iter().map(|name| self.dir.join(name)).collect();
        let saved = write(&paths[0]).and_then(|()| paths[1..].iter().try_for_each(|p| folder::share(&paths[0], p)));
        self.last = Instant::now();
        saved.with_context(|| match self.latest().exists() {
            true => format!(
                "saving failed and the run stops; {} is complete: make room, then go on by --resume auto",
                self.latest().display()
            ),
            false => "saving failed and the run stops; there was no checkpoint yet".into(),
        })
    }

    /// Removes numbered checkpoints up to `epoch` but the newest ones.
    pub fn prune(&self, epoch: usize) -> Result<()> {
        let Some(keep) = self.keep else { return Ok(()) };
        let mut epochs: Vec<usize> = folder::names(&self.dir)?.iter().filter_map(|name| number(name)).collect();
        epochs.retain(|&e| e <= epoch);
        epochs.sort_unstable();
        let superseded = &epochs[..epochs.len().saturating_sub(keep)];
        superseded.iter().try_for_each(|&e| folder::remove(&self.dir.join(numbered(e))))
    }
}

/// Whether a name in a run's folder is that of a checkpoint.
pub(super) fn is_checkpoint(name: &str) -> bool {
    name == LATEST || name == BEST || number(name).is_some()
}

fn numbered(epoch: usize) -> String {
    format!("{LATEST}{epoch:04}")
}

fn number(name: &str) -> Option<usize> {
    let epoch = name.strip_prefix(LATEST)?.parse().ok()?;
    (numbered(epoch) == name).then_some(epoch)
}
