//! Training on a GPU, on the simulator: the same numbers as on the CPU under the same rounding, the same bits again, and a
//! host that waits for nothing. With `MDETR_GPU` set to a number, on that GPU instead.

mod agreement;
mod buckets;
#[path = "../common/goldens.rs"]
mod goldens;
mod graphs;
mod micro;
mod program;
mod steps;

#[path = "../../kernels/simulator/tests/common/process.rs"]
#[allow(dead_code, reason = "the simulator's own tests use more of it")]
mod process;

use process::Report;

/// Set to a GPU's number to run on it.
const GPU: &str = "MDETR_GPU";

/// Runs the body of the test `name` on the simulator; nothing must be found. `None` where the body ran.
fn simulated(name: &str, body: impl FnOnce()) -> Option<Report> {
    if process::any_nvrtc().is_none() {
        eprintln!("{name}: left out, NVRTC is not there; scripts/fetch-nvrtc brings it");
        return None;
    }
    let report = process::simulated(name, &[("MDETR_CACHE", concat!(env!("CARGO_TARGET_TMPDIR"), "/kernels"))], body);
    if let Some(report) = &report {
        report.assert_clean();
        print!("{}", report.stdout);
    }
    report
}

/// Whether this is a real GPU.
fn is_real() -> bool {
    std::env::var_os(GPU).is_some()
}

/// The same, on a real GPU where one is named.
fn on_gpu(name: &str, body: impl FnOnce(usize)) {
    match std::env::var(GPU) {
        Ok(ordinal) => body(ordinal.parse().expect("MDETR_GPU is a GPU's number")),
        Err(_) => drop(simulated(name, || body(0))),
    }
}
