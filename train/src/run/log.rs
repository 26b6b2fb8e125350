//! `log.txt`: a JSON object an epoch.

use std::path::Path;

use anyhow::{Context, Result};
use serde_json::{Map, Value, json};

use crate::checkpoint::folder::replace_file;
use crate::engine::EpochStats;
use crate::evaluate::Metrics;

/// What is logged of an epoch besides losses and metrics.
pub(super) struct Facts {
    pub epoch: usize,
    /// At its first step.
    pub lr: f64,
    /// At its end, in f16.
    pub loss_scale: Option<f64>,
    pub n_parameters: usize,
    /// Since the run's start.
    pub seconds: f64,
}

/// An object of `log.txt`, under the published keys: `train_*`, `test_<dataset>_*`, `epoch`, `n_parameters`. In f16 also
/// the `skipped_steps` of the epoch, and the `loss_scale` at its end.
pub(super) fn entry(stats: &EpochStats, metrics: &[Metrics], facts: &Facts) -> Value {
    let mut entry = Map::new();
    entry.insert("train_lr".into(), facts.lr.into());
    for (name, value) in stats.means() {
        entry.insert(format!("train_{name}"), value.into());
    }
    if let Some(scale) = facts.loss_scale {
        entry.insert("skipped_steps".into(), stats.skipped.into());
        entry.insert("loss_scale".into(), scale.into());
    }
    for m in metrics {
        if let Ok(Value::Object(values)) = serde_json::to_value(m) {
            let values = values.into_iter().filter(|(key, _)| key != "dataset");
            entry.extend(values.map(|(key, v)| (format!("test_{}_{key}", m.dataset), v)));
        }
    }
    let facts = [
        ("epoch", json!(facts.epoch)),
        ("n_parameters", json!(facts.n_parameters)),
        ("seconds", json!(facts.seconds)),
    ];
    entry.extend(facts.map(|(k, v)| (k.to_string(), v)));
    Value::Object(entry)
}

/// An epoch for people, on stderr.
pub(super) fn report(epoch: usize, stats: &EpochStats, metrics: &[Metrics]) {
    let loss = stats.means().next().map_or(f64::NAN, |(_, v)| v);
    let sets = metrics.iter().map(|m| {
        format!(
            "  {}: recall@1 {:.4}, recall@5 {:.4}, AP {:.3}, AP50 {:.3}",
            m.dataset, m.recall_at_1, m.recall_at_5, m.ap, m.ap50
        )
    });
    let skipped = if stats.skipped > 0 { format!(", {} steps skipped", stats.skipped) } else { String::new() };
    eprintln!("epoch {epoch}: loss {loss:.4}{skipped}{}", sets.collect::<String>());
}

/// Writes the log as far as a run has come that starts or resumes.
pub(super) fn write(path: &Path, entries: &[Value]) -> Result<()> {
    let lines: String = entries.iter().map(|entry| format!("{entry}\n")).collect();
    replace_file(path, lines.as_bytes())
}

/// Adds a line.
pub(super) fn append(path: &Path, entry: &Value) -> Result<()> {
    use std::io::Write;
    let write = || writeln!(std::fs::OpenOptions::new().append(true).create(true).open(path)?, "{entry}");
    write().with_context(|| format!("cannot write {}", path.display()))
}
