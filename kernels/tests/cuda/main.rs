//! Kernels for GPUs, on the simulator: under all of its checks, with one driver allocation a tensor. With `MDETR_GPU` set
//! to a number, on that GPU instead.

mod assignment;
mod conformance;
mod cublas_lt;
mod graphs;
mod library_record;
#[path = "../common/matcher.rs"]
mod matcher;
mod memory;
mod optimizer_step;
mod position_sine;
#[path = "../../simulator/tests/common/process.rs"]
#[allow(dead_code, reason = "the simulator's own tests use more of it")]
mod process;
#[path = "../common/goldens.rs"]
mod recorded;
mod set_loss;

use mdetr_kernels::cuda::Cuda;
use mdetr_kernels::cuda_memory::Alloc;

/// Set to a GPU's number to run on it.
const GPU: &str = "MDETR_GPU";

/// Where all tests keep what they compile.
const CACHE: (&str, &str) = ("MDETR_CACHE", concat!(env!("CARGO_TARGET_TMPDIR"), "/kernels"));

/// Runs the body of the test `name` on a device of its own; nothing must be found, and nothing be left. Returns the
/// simulator's report, if it ran there.
fn on_gpu(name: &str, body: impl FnOnce(&'static Cuda)) -> Option<process::Report> {
    if let Some(ordinal) = std::env::var_os(GPU) {
        let ordinal = ordinal.to_str().and_then(|n| n.parse().ok()).expect("MDETR_GPU is a GPU's number");
        let cuda = Cuda::open(ordinal, Alloc::Each).unwrap();
        body(cuda);
        cuda.synchronize().unwrap();
        return None;
    }
    if process::any_nvrtc().is_none() {
        eprintln!("{name}: left out, NVRTC is not there; scripts/fetch-nvrtc brings it");
        return None;
    }
    let report = process::simulated(name, &[CACHE], || {
        let cuda = Cuda::open(0, Alloc::Each).unwrap();
        body(cuda);
        cuda.synchronize().unwrap();
    });
    report.iter().for_each(process::Report::assert_clean);
    report
}

/// Whether this is real hardware, which is fast.
fn is_real() -> bool {
    std::env::var_os(GPU).is_some()
}
