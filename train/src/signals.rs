//! Requests to stop. A run that listens saves at the end of its step; a second Ctrl-C does not wait for that.

use std::sync::atomic::{AtomicI32, Ordering};

use anyhow::{Context, Result};
use signal_hook::consts::{SIGINT, SIGTERM, SIGUSR1};
use signal_hook::iterator::Signals;
use signal_hook::low_level::{exit, signal_name};

/// What asked this process to stop; 0 for nothing.
static REQUEST: AtomicI32 = AtomicI32::new(0);

/// Why a run ended early.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stopped {
    signal: i32,
}

impl Stopped {
    /// What a shell would report if the signal had ended the process: 128 and its number. Not 0, since what waits for the
    /// run's end should not go on.
    pub fn exit_status(&self) -> u8 {
        exit_status(self.signal) as u8
    }
}

impl std::fmt::Display for Stopped {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "stopped by {}", name(self.signal))
    }
}

impl std::error::Error for Stopped {}

/// From here on SIGTERM, SIGUSR1 and Ctrl-C are requests, which [`check`] hears.
pub fn listen() -> Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGUSR1]).context("cannot listen to signals")?;
    std::thread::spawn(move || {
        for signal in signals.forever() {
            let earlier = REQUEST.swap(signal, Ordering::Relaxed);
            if signal == SIGINT && earlier != 0 {
                exit(exit_status(SIGINT));
            }
            eprintln!("{}: stopping after this step; Ctrl-C stops at once", name(signal));
        }
    });
    Ok(())
}

/// Whether somebody asked to stop.
pub fn is_requested() -> bool {
    REQUEST.load(Ordering::Relaxed) != 0
}

/// An error if somebody asked to stop.
pub fn check() -> Result<(), Stopped> {
    match REQUEST.load(Ordering::Relaxed) {
        0 => Ok(()),
        signal => Err(Stopped { signal }),
    }
}

fn exit_status(signal: i32) -> i32 {
    128 + signal
}

fn name(signal: i32) -> &'static str {
    signal_name(signal).unwrap_or("a signal")
}
