//! What the environment asks of the simulator.

use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::Duration;

/// How approximate instructions (`ex2.approx`, `rcp.approx`, ...) are computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Approximation {
    /// Correctly rounded.
    Exact,
    /// Off by the error that the PTX manual allows, up or down by a hash of the operand.
    Worst,
}

/// Everything that the environment can set.
#[derive(Clone, Debug)]
pub struct Options {
    /// `MDETR_SIM_SEED`: permutes the schedule of lanes, warps and blocks. 0 runs the lowest program counter first.
    pub seed: u64,
    /// `MDETR_SIM_BOUNDS=0`: allocations reach to the driver's granularity, and unwritten memory may be read.
    pub bounds: bool,
    /// `MDETR_SIM_RACES=0`: no race detection.
    pub races: bool,
    /// `MDETR_SIM_APPROX=worst`.
    pub approximation: Approximation,
    /// `MDETR_SIM_CC=80|90|100`: the compute capability that the device claims.
    pub compute_capability: u32,
    /// `MDETR_SIM_MEMORY`: bytes of memory that the device claims.
    pub memory: u64,
    /// `MDETR_SIM_REPORT=FILE`: where the report goes at exit; `%p` becomes the process id.
    pub report: Option<PathBuf>,
    /// `MDETR_SIM_LIMIT`: instructions that a warp may run in one launch before it counts as endless.
    pub limit: u64,
    /// `MDETR_SIM_PATIENCE`: seconds that a process of an NCCL communicator waits for another.
    pub patience: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            seed: 0,
            bounds: true,
            races: true,
            approximation: Approximation::Exact,
            compute_capability: 90,
            memory: 32 << 30,
            report: None,
            limit: 100_000_000,
            patience: Duration::from_secs(300),
        }
    }
}

/// The process's options, read from the environment once.
pub fn options() -> &'static Options {
    static OPTIONS: OnceLock<Options> = OnceLock::new();
    OPTIONS.get_or_init(|| {
        Options::from_environment(|name| std::env::var(name).ok()).unwrap_or_else(|message| {
            eprintln!("simulator: {message}");
            std::process::exit(2)
        })
    })
}

impl Options {
    /// Options as `variable` gives them by name.
    ///
    /// # Errors
    /// Names the variable and what it takes.
    pub fn from_environment(variable: impl Fn(&str) -> Option<String>) -> Result<Self, String> {
        let number = |name: &str, default: u64| match variable(name) {
            None => Ok(default),
            Some(text) => text.parse().map_err(|_| format!("{name} is {text:?}, expected a whole number")),
        };
        let switch = |name: &str| match variable(name).as_deref() {
            None | Some("1") => Ok(true),
            Some("0") => Ok(false),
            Some(text) => Err(format!("{name} is {text:?}, expected 0 or 1")),
        };
        let default = Self::default();
        let compute_capability = number("MDETR_SIM_CC", default.compute_capability.into())?;
        if ![80, 90, 100].contains(&compute_capability) {
            return Err(format!("MDETR_SIM_CC is {compute_capability}, expected 80, 90 or 100"));
        }
        Ok(Self {
            seed: number("MDETR_SIM_SEED", default.seed)?,
            bounds: switch("MDETR_SIM_BOUNDS")?,
            races: switch("MDETR_SIM_RACES")?,
            approximation: match variable("MDETR_SIM_APPROX").as_deref() {
                None | Some("exact") => Approximation::Exact,
                Some("worst") => Approximation::Worst,
                Some(text) => return Err(format!("MDETR_SIM_APPROX is {text:?}, expected exact or worst")),
            },
            compute_capability: compute_capability as u32,
            memory: number("MDETR_SIM_MEMORY", default.memory)?,
            report: variable("MDETR_SIM_REPORT").map(PathBuf::from),
            limit: number("MDETR_SIM_LIMIT", default.limit)?,
            patience: Duration::from_secs(number("MDETR_SIM_PATIENCE", default.patience.as_secs())?),
        })
    }
}
