//! What is wrong with a data file, collected so that one reading shows more than the first mistake.

use anyhow::{Result, bail};
use std::fmt::{Display, Write};
use std::path::{Path, PathBuf};

/// How many problems an error lists before it only counts.
const SHOWN: usize = 10;

/// The problems of one file.
#[derive(Debug)]
pub struct Problems {
    path: PathBuf,
    shown: Vec<String>,
    count: usize,
}

impl Problems {
    /// No problems yet of the file at `path`.
    pub fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), shown: Vec::new(), count: 0 }
    }

    /// Notes that `item` ("image 12") is wrong for `reason`, which says what was expected.
    pub fn add(&mut self, item: impl Display, reason: impl Display) {
        self.count += 1;
        if self.shown.len() < SHOWN {
            self.shown.push(format!("{item}: {reason}"));
        }
    }

    /// An error that names the file and lists the first problems, if there were any.
    pub fn into_result(self) -> Result<()> {
        if self.count == 0 {
            return Ok(());
        }
        let mut text = format!("{}: {} problem(s)", self.path.display(), self.count);
        for problem in &self.shown {
            write!(text, "\n  {problem}")?;
        }
        if self.count > self.shown.len() {
            write!(text, "\n  and {} more", self.count - self.shown.len())?;
        }
        bail!(text)
    }
}
