//! Why a library does not do what it was asked.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use cudarc::driver::sys::CUresult;

/// Why a call is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The arguments contradict each other or the documentation.
    Invalid(String),
    /// The documentation has no such combination, or the stand-in does not model it (then the reason says so).
    Unsupported(String),
    /// The call was sound; doing it failed.
    Failed(CUresult),
}

/// A library's status.
pub trait Status: Sized {
    /// Done.
    const SUCCESS: Self;

    /// What the library answers.
    fn refused(refusal: &Refusal) -> Self;
}

/// `Ok` if the arguments are `sound`; else they are invalid for `reason`.
///
/// # Errors
/// See above.
pub fn valid(sound: bool, reason: impl FnOnce() -> String) -> Result<(), Refusal> {
    if sound { Ok(()) } else { Err(Refusal::Invalid(reason())) }
}

/// `Ok` if the library has such a combination; else it is unsupported for `reason`.
///
/// # Errors
/// See above.
pub fn supported(known: bool, reason: impl FnOnce() -> String) -> Result<(), Refusal> {
    if known { Ok(()) } else { Err(Refusal::Unsupported(reason())) }
}

/// The status of `result`. The reason for a refusal goes to stderr, each only once.
pub fn answer<S: Status>(function: &'static str, result: Result<(), Refusal>) -> S {
    static SAID: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
    let Err(refusal) = result else { return S::SUCCESS };
    let line = match &refusal {
        Refusal::Invalid(reason) | Refusal::Unsupported(reason) => format!("simulator: {function}: {reason}"),
        Refusal::Failed(error) => format!("simulator: {function}: {error:?}"),
    };
    let mut said = SAID.lock().unwrap_or_else(PoisonError::into_inner);
    if !said.contains(&line) {
        eprintln!("{line}");
        said.insert(line);
    }
    S::refused(&refusal)
}
