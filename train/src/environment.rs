//! What a run ran on: a line of `environment.jsonl` a start, so that a resumed run tells all of them.

use std::io::Write;
use std::path::Path;
use std::time::SystemTime;

use anyhow::{Context, Result};
use mdetr_kernels::{Device, simd};
use serde::{Deserialize, Serialize};

/// The file in a run's folder.
pub const FILE: &str = "environment.jsonl";

/// A start of a program.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Environment {
    /// When, in UTC (RFC 3339).
    pub started: String,
    /// Of this program.
    pub version: String,
    /// What was typed.
    pub command: Vec<String>,
    /// The folder in which it was typed.
    pub folder: String,
    /// The operating system and the instruction set.
    pub platform: String,
    /// The processor's name for itself.
    pub processor: String,
    /// Which of its vector instructions are used; empty where none was written down.
    #[serde(default)]
    pub simd: String,
    /// Threads that the program may use at once.
    pub threads: usize,
    /// Where it computes: `cpu`, or the name of the GPU.
    pub device: String,
}

impl Environment {
    /// Of the running program, which computes on `device`.
    pub fn current(device: Device) -> Self {
        let lossy = |arg: std::ffi::OsString| arg.to_string_lossy().into_owned();
        Environment {
            started: humantime::format_rfc3339_seconds(SystemTime::now()).to_string(),
            version: env!("CARGO_PKG_VERSION").into(),
            command: std::env::args_os().map(lossy).collect(),
            folder: std::env::current_dir().map(|dir| lossy(dir.into_os_string())).unwrap_or_default(),
            platform: format!("{} {}", std::env::consts::OS, std::env::consts::ARCH),
            processor: processor().unwrap_or_else(|| "unknown".into()),
            simd: simd::level().name().into(),
            threads: std::thread::available_parallelism().map_or(1, usize::from),
            device: device.cuda().map_or("cpu".into(), |cuda| cuda.name().to_string()),
        }
    }

    /// Adds a line to the file in the folder of a run.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn append(&self, run: &Path) -> Result<()> {
        let path = run.join(FILE);
        let write = || {
            let mut file = std::fs::OpenOptions::new().append(true).create(true).open(&path)?;
            writeln!(file, "{}", serde_json::to_string(self)?)
        };
        write().with_context(|| format!("cannot write {}", path.display()))
    }
}

/// What Linux calls the processor.
fn processor() -> Option<String> {
    let text = std::fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = text.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().to_string())
}
