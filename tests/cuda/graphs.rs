//! Training steps as graphs: the same bits, and nothing but a launch.

use mdetr_kernels::cuda::Cuda;
use mdetr_kernels::cuda_memory::Alloc;
use mdetr_kernels::graphs::GraphUsage;
use mdetr_kernels::{Device, Precision};
use mdetr_train::schedule::Rates;
use serde_json::Value;

use super::micro::{How, RATES, Trained, bucket, train_as};

/// After the kernels are compiled and memory is there, each of the two places of batches has its graph.
const CAPTURED_AFTER: u64 = 6;

fn run(ordinal: usize, precision: Precision, graphs: bool, steps: u64) -> (Trained, GraphUsage) {
    let cuda = Cuda::open(ordinal, Alloc::Arena).unwrap();
    let batches = (0..steps).map(|step| bucket(step, 0.0)).collect();
    let rates = |step| Rates { base: RATES.base / (1 + step) as f64, ..RATES };
    let how = How { graphs, rates, ..How::default() };
    let trained = train_as(how, Device::Cuda(cuda), precision, batches);
    let usage = cuda.graph_usage();
    cuda.release();
    cuda.synchronize().unwrap();
    (trained, usage)
}

/// Batches, dropout, learning rates and the loss scale change from step to step, and so do the graphs' results.
fn change_no_bit(ordinal: usize, precision: Precision) {
    let steps = CAPTURED_AFTER + 2;
    let (plain, none) = run(ordinal, precision, false, steps);
    let (replayed, usage) = run(ordinal, precision, true, steps);
    println!("{precision:?}: {usage}");
    assert_eq!(none, GraphUsage::default());
    assert!(usage.launched >= 2 && usage.kept == 2, "{usage}");
    let losses = |trained: Trained| -> Vec<_> {
        trained.reports.unwrap().into_iter().map(|report| (report.losses, report.grad_norm)).collect()
    };
    assert!(replayed.state == plain.state, "{precision:?}: other bits of weights or averages");
    assert_eq!(losses(replayed), losses(plain), "{precision:?}");
}

#[test]
fn change_no_bit_in_f32() {
    super::on_gpu("graphs::change_no_bit_in_f32", |gpu| change_no_bit(gpu, Precision::F32));
}

#[test]
fn change_no_bit_in_f16() {
    super::on_gpu("graphs::change_no_bit_in_f16", |gpu| change_no_bit(gpu, Precision::F16));
}

/// The driver's calls by name, those that made the host wait, and allocations.
fn calls(name: &str, steps: u64) -> Option<[Value; 3]> {
    if super::is_real() {
        return None;
    }
    let report = super::simulated(name, || drop(run(0, Precision::F16, true, steps)))?;
    Some(["driver_calls", "blocking_calls", "allocations"].map(|key| report.json[key].clone()))
}

#[test]
fn of_a_short_run() {
    calls("graphs::of_a_short_run", CAPTURED_AFTER);
}

/// Once captured, a step is a launch, the batch and the record on their way there, and the status on its way back.
#[test]
fn a_step_is_a_launch() {
    let Some([calls, blocking, allocations]) = calls("graphs::a_step_is_a_launch", CAPTURED_AFTER + 2) else {
        return;
    };
    let Some([fewer_calls, fewer_blocking, fewer_allocations]) =
        self::calls("graphs::of_a_short_run", CAPTURED_AFTER)
    else {
        return;
    };
    let more = |part: &str| -> u64 {
        let count = |calls: &Value, name: &str| calls[name].as_u64().unwrap_or(0);
        let names = calls.as_object().unwrap().keys().filter(|name| name.contains(part));
        names.map(|name| count(&calls, name) - count(&fewer_calls, name)).sum()
    };
    for (part, count) in [
        ("GraphLaunch", 2),
        ("HtoD", 4),
        ("DtoH", 2),
        ("DtoD", 0),
        ("Memset", 0),
        ("LaunchKernel", 0),
        ("Capture", 0),
        ("Alloc", 0),
        ("Free", 0),
    ] {
        assert_eq!(more(part), count, "{part} in two steps more: {calls}, {fewer_calls}");
    }
    assert_eq!((blocking, allocations), (fewer_blocking, fewer_allocations));
}
