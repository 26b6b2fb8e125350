//! Event files of TensorBoard: scalars by step, written while a run goes on, and read back for reports.
//!
//! A file is a sequence of records (`record`) of protocol buffers (`event`). A run that is resumed begins another file
//! with the step that it resumes from: readers, TensorBoard and [`read`] alike, forget later points of earlier files.

mod event;
mod record;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use prost::Message;

use event::{Event, Payload, SessionLog, Summary, Value};

/// What readers look for in a file's name.
const PREFIX: &str = "events.out.tfevents";
/// The version of the format.
const VERSION: &str = "brain.Event:2";
/// How long points may wait before readers see them.
const DELAY: Duration = Duration::from_secs(5);

/// Writes an event file.
pub struct EventWriter {
    path: PathBuf,
    out: BufWriter<File>,
    flushed: Instant,
}

impl EventWriter {
    /// A new file in `dir`, of points from `first_step` on.
    ///
    /// # Errors
    /// If the file cannot be made.
    pub fn create(dir: &Path, first_step: usize) -> Result<Self> {
        let now = now();
        let path = dir.join(format!("{PREFIX}.{:010}.{:09}.mdetr", now.as_secs(), now.subsec_nanos()));
        let make = || {
            std::fs::create_dir_all(dir)?;
            File::create_new(&path)
        };
        let out = make().with_context(|| format!("cannot make the event file {}", path.display()))?;
        let mut writer = EventWriter { path, out: BufWriter::new(out), flushed: Instant::now() };
        writer.event(0, Payload::FileVersion(VERSION.into()))?;
        writer.event(first_step, Payload::SessionLog(SessionLog { status: event::START }))?;
        writer.flush()?;
        Ok(writer)
    }

    /// The values of a step, under their tags; a slash in a tag groups charts.
    ///
    /// # Errors
    /// If the disk is full.
    pub fn scalars<'a>(&mut self, step: usize, values: impl IntoIterator<Item = (&'a str, f64)>) -> Result<()> {
        let value = |(tag, value): (&str, f64)| Value { tag: tag.into(), simple_value: value as f32 };
        self.event(step, Payload::Summary(Summary { value: values.into_iter().map(value).collect() }))?;
        if self.flushed.elapsed() > DELAY { self.flush() } else { Ok(()) }
    }

    /// Hands all points over to the system, so that readers see them.
    ///
    /// # Errors
    /// If the disk is full.
    pub fn flush(&mut self) -> Result<()> {
        self.flushed = Instant::now();
        self.out.flush().with_context(|| self.failed())
    }

    fn event(&mut self, step: usize, payload: Payload) -> Result<()> {
        let event = Event { wall_time: now().as_secs_f64(), step: step as i64, payload: Some(payload) };
        record::write(&mut self.out, &event.encode_to_vec()).with_context(|| self.failed())
    }

    fn failed(&self) -> String {
        format!("cannot write {}", self.path.display())
    }
}

fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// The event files in `dir`, the older ones first.
///
/// # Errors
/// If the folder cannot be read.
pub fn files(dir: &Path) -> Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(dir).with_context(|| format!("cannot read the folder {}", dir.display()))?;
    let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    let is_events = |path: &PathBuf| path.file_name().is_some_and(|n| n.to_string_lossy().starts_with(PREFIX));
    let mut paths: Vec<PathBuf> = paths.filter(is_events).collect();
    paths.sort_unstable();
    Ok(paths)
}

/// (step, value) by tag, in the order of steps.
pub type Scalars = BTreeMap<String, Vec<(usize, f64)>>;

/// The scalars of all event files in `dir`, the older files first. What a file that was cut ends with is left out.
///
/// # Errors
/// If the folder or a file cannot be read.
pub fn read(dir: &Path) -> Result<Scalars> {
    let mut scalars = Scalars::new();
    for path in files(dir)? {
        let bytes = std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        for event in record::Records(&bytes).map_while(|record| Event::decode(record).ok()) {
            let step = event.step as usize;
            match event.payload {
                Some(Payload::SessionLog(log)) if log.status == event::START => {
                    scalars.values_mut().for_each(|points| points.retain(|point| point.0 < step));
                }
                Some(Payload::Summary(summary)) => {
                    for Value { tag, simple_value } in summary.value {
                        scalars.entry(tag).or_default().push((step, f64::from(simple_value)));
                    }
                }
                _ => {}
            }
        }
    }
    Ok(scalars)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_reads_back_and_a_resumed_run_takes_up_its_step() {
        let dir = tempfile::tempdir().unwrap();
        let mut first = EventWriter::create(dir.path(), 0).unwrap();
        for step in 0..5 {
            first.scalars(step, [("train/loss", step as f64), ("lr/base", 0.5)]).unwrap();
        }
        first.flush().unwrap();
        let mut second = EventWriter::create(dir.path(), 3).unwrap();
        second.scalars(3, [("train/loss", 30.0)]).unwrap();
        second.flush().unwrap();
        let scalars = read(dir.path()).unwrap();
        assert_eq!(scalars["train/loss"], [(0, 0.0), (1, 1.0), (2, 2.0), (3, 30.0)]);
        assert_eq!(scalars["lr/base"].len(), 3);
    }

    #[test]
    fn a_file_that_was_cut_reads_up_to_there() {
        let dir = tempfile::tempdir().unwrap();
        let mut writer = EventWriter::create(dir.path(), 0).unwrap();
        (0..3).for_each(|step| writer.scalars(step, [("a", 1.0)]).unwrap());
        writer.flush().unwrap();
        let path = std::fs::read_dir(dir.path()).unwrap().next().unwrap().unwrap().path();
        let bytes = std::fs::read(&path).unwrap();
        std::fs::write(&path, &bytes[..bytes.len() - 3]).unwrap();
        assert_eq!(read(dir.path()).unwrap()["a"], [(0, 1.0), (1, 1.0)]);
    }
}
