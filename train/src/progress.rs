//! How far long work has come: a bar on a terminal, a line now and then elsewhere. On stderr.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

/// Between lines where there is no terminal.
const INTERVAL: Duration = Duration::from_secs(15);

/// The progress of a number of steps.
pub struct Progress {
    title: String,
    bar: Option<ProgressBar>,
    done: usize,
    total: usize,
    start: Instant,
    last_line: Instant,
}

impl Progress {
    /// Of `total` steps.
    pub fn new(title: &str, total: usize) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::new(total as u64);
            let style = ProgressStyle::with_template("{prefix} {wide_bar} {pos}/{len} {elapsed} ETA {eta}  {msg}");
            bar.set_style(style.expect("a valid template"));
            bar.set_prefix(title.to_string());
            bar
        });
        let now = Instant::now();
        Progress { title: title.into(), bar, done: 0, total, start: now, last_line: now }
    }

    /// One step more; `values` are shown beside it.
    pub fn step(&mut self, values: &[(&str, String)]) {
        self.at(self.done + 1, values);
    }

    /// `done` steps in all.
    pub fn at(&mut self, done: usize, values: &[(&str, String)]) {
        self.done = done;
        let show = || values.iter().map(|(k, v)| format!("{k} {v}")).collect::<Vec<_>>().join("  ");
        if let Some(bar) = &self.bar {
            bar.set_message(show());
            bar.set_position(done as u64);
        } else if self.last_line.elapsed() >= INTERVAL {
            self.last_line = Instant::now();
            let left = self.start.elapsed().as_secs_f64() / done.max(1) as f64 * (self.total - done) as f64;
            eprintln!("{} {done}/{}  ETA {:.0} s  {}", self.title, self.total, left, show());
        }
    }

    /// Removes the bar.
    pub fn finish(self) {
        if let Some(bar) = self.bar {
            bar.finish_and_clear();
        }
    }
}
