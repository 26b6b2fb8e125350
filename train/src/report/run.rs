//! What a run's folder tells.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::config::RunConfig;
use crate::environment::{self, Environment};
use crate::tensorboard::{self, Scalars};

/// Metrics that the table shows, as `log.txt` names them behind `test_DATASET_`.
pub const METRICS: [&str; 7] = ["recall@1", "recall@5", "recall@10", "upper_bound", "ap", "ap50", "ap75"];

/// A run, as its folder has it.
pub struct Run {
    /// The folder.
    pub folder: String,
    /// `config.json`.
    pub config: Value,
    /// `log.txt`, an object an epoch.
    pub log: Vec<Value>,
    /// Of the event files.
    pub scalars: Scalars,
    /// A line a start.
    pub environments: Vec<Environment>,
}

/// The metrics of a validation set, in the order of [`METRICS`].
pub struct Row {
    /// The set's name.
    pub dataset: String,
    /// After the last epoch that evaluated it.
    pub last: [Option<f64>; METRICS.len()],
    /// The best of all epochs.
    pub best: [Option<f64>; METRICS.len()],
}

impl Run {
    /// Reads a run's folder.
    ///
    /// # Errors
    /// If it is not one, or its files are damaged.
    pub fn read(folder: &Path) -> Result<Self> {
        let config = folder.join("config.json");
        let log = folder.join("log.txt");
        ensure!(
            config.is_file() && log.is_file(),
            "{} is not the folder of a run: expected config.json and log.txt in it",
            folder.display()
        );
        let text = std::fs::read_to_string(&config).with_context(|| format!("cannot read {}", config.display()))?;
        Ok(Run {
            folder: folder.display().to_string(),
            config: serde_json::from_str(&text).with_context(|| format!("{} is not JSON", config.display()))?,
            log: lines(&log)?,
            scalars: tensorboard::read(folder)?,
            environments: match folder.join(environment::FILE) {
                path if path.exists() => lines(&path)?,
                _ => Vec::new(),
            },
        })
    }

    /// The metrics of every validation set that the log knows.
    pub fn metrics(&self) -> Vec<Row> {
        let mut datasets: Vec<&str> = Vec::new();
        for key in self.log.iter().filter_map(Value::as_object).flat_map(|entry| entry.keys()) {
            let dataset = key.strip_prefix("test_").and_then(|key| key.strip_suffix("_recall@1"));
            datasets.extend(dataset.filter(|name| !datasets.contains(name)));
        }
        let row = |dataset: &str| {
            let values = |metric: &str| {
                let key = format!("test_{dataset}_{metric}");
                self.log.iter().filter_map(move |entry| entry[&key].as_f64())
            };
            Row {
                dataset: dataset.to_string(),
                last: METRICS.map(|metric| values(metric).next_back()),
                best: METRICS.map(|metric| values(metric).reduce(f64::max)),
            }
        };
        datasets.into_iter().map(row).collect()
    }

    /// Settings, and whether each differs from its default.
    pub fn settings(&self) -> Vec<(&String, &Value, bool)> {
        let default = serde_json::to_value(RunConfig::default()).unwrap_or_default();
        let settings = self.config.as_object().into_iter().flatten();
        settings.map(|(key, value)| (key, value, default.get(key) != Some(value))).collect()
    }
}

/// The JSON values of a file's lines.
fn lines<T: serde::de::DeserializeOwned>(path: &Path) -> Result<Vec<T>> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let parse =
        |(i, line)| serde_json::from_str(line).with_context(|| format!("{} line {}: damaged", path.display(), i + 1));
    text.lines().enumerate().map(parse).collect()
}
