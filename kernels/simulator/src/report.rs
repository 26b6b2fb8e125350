//! The report: at exit to a file, and to the program while it runs.

use std::collections::BTreeMap;
use std::ffi::{CStr, CString, c_char};
use std::path::PathBuf;
use std::ptr::null_mut;

use serde::Serialize;

use crate::driver::{self, Allocations, Books, Launches};
use crate::findings::Finding;
use crate::options::options;

#[derive(Serialize)]
struct Report<'a> {
    launches: &'a BTreeMap<String, Launches>,
    thread_instructions: u64,
    driver_calls: &'a BTreeMap<&'static str, u64>,
    allocations: Allocations,
    blocking_calls: &'a BTreeMap<&'static str, u64>,
    findings: &'a [Finding],
}

impl<'a> From<&'a Books> for Report<'a> {
    fn from(books: &'a Books) -> Self {
        Self {
            launches: &books.launches,
            thread_instructions: books.launches.values().map(|launches| launches.thread_instructions).sum(),
            driver_calls: &books.calls,
            allocations: books.allocations,
            blocking_calls: &books.blocking,
            findings: &books.findings,
        }
    }
}

/// Until [`mdetr_sim_allow_blocking`], a call that waits for the device is a finding that names `region`.
///
/// # Safety
/// `region` is a string.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mdetr_sim_forbid_blocking(region: *const c_char) {
    // SAFETY: a string, by contract.
    let region = unsafe { CStr::from_ptr(region) }.to_string_lossy().into_owned();
    if let Some(mut driver) = driver::lock() {
        driver.books.forbidden = Some(region);
    }
}

/// Ends the region that [`mdetr_sim_forbid_blocking`] began.
#[unsafe(no_mangle)]
pub extern "C" fn mdetr_sim_allow_blocking() {
    if let Some(mut driver) = driver::lock() {
        driver.books.forbidden = None;
    }
}

/// The report so far, as JSON, without leaks; null inside of a call. To be freed by [`mdetr_sim_free_report`].
#[unsafe(no_mangle)]
pub extern "C" fn mdetr_sim_report() -> *mut c_char {
    let json = driver::lock().and_then(|driver| serde_json::to_string(&Report::from(&driver.books)).ok());
    json.and_then(|json| CString::new(json).ok()).map_or(null_mut(), CString::into_raw)
}

/// Frees a report.
///
/// # Safety
/// Null, or from [`mdetr_sim_report`] and not freed before.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mdetr_sim_free_report(report: *mut c_char) {
    if !report.is_null() {
        // SAFETY: it came from `CString::into_raw`.
        drop(unsafe { CString::from_raw(report) });
    }
}

/// Runs when the process ends or unloads the library.
// SAFETY: the section holds pointers to C functions without arguments, and this is one.
#[used]
#[unsafe(link_section = ".fini_array")]
static AT_EXIT: extern "C" fn() = at_exit;

extern "C" fn at_exit() {
    let _ = std::panic::catch_unwind(|| {
        let Some(mut driver) = driver::lock() else { return };
        if driver.books.calls.is_empty() {
            // The library was only looked for.
            return;
        }
        for leak in driver.books.leaks() {
            driver.books.found(leak);
        }
        if let Some(path) = &options().report
            && let Err(error) =
                write(&driver.books, path.to_string_lossy().replace("%p", &std::process::id().to_string()))
        {
            eprintln!("simulator: {}: {error}", path.display());
        }
        if !driver.books.findings.is_empty() {
            eprintln!("simulator: {} different findings in all", driver.books.findings.len());
        }
    });
}

/// Writes a report under a temporary name first, so that nobody sees half of one.
fn write(books: &Books, path: String) -> std::io::Result<()> {
    let unfinished = PathBuf::from(format!("{path}.{}.tmp", std::process::id()));
    std::fs::write(&unfinished, serde_json::to_vec_pretty(&Report::from(books))?)?;
    std::fs::rename(unfinished, path)
}
