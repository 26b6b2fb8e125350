//! Training steps: their losses, their bits, and what the host does meanwhile.

use mdetr_kernels::cuda::Cuda;
use mdetr_kernels::cuda_memory::Alloc;
use mdetr_kernels::{Device, Precision, Tensor};
use mdetr_train::collate::Collated;
use serde_json::Value;

use super::micro::{How, Trained, batch, train, train_as};

fn batches(steps: u64) -> Vec<Collated> {
    (0..steps).map(batch).collect()
}

fn on(cuda: &'static Cuda, precision: Precision, batches: Vec<Collated>) -> Trained {
    let trained = train(Device::Cuda(cuda), precision, batches);
    cuda.release();
    cuda.synchronize().unwrap();
    trained
}

/// Steps like the CPU's, and the same bits with every kind of memory and again. Each device finds its own assignment: where a
/// near tie falls the other way, as half types make it, a loss differs by several percent.
fn repeat(ordinal: usize, precision: Precision, allowed: f64) {
    let each = on(Cuda::open(ordinal, Alloc::Each).unwrap(), precision, batches(3));
    let arena = Cuda::open(ordinal, Alloc::Arena).unwrap();
    for _ in 0..2 {
        assert!(on(arena, precision, batches(3)).state == each.state, "{precision:?}: other bits");
    }
    let cpu = train(Device::Cpu, precision, batches(3));
    for (step, (got, want)) in each.reports.unwrap().iter().zip(&cpu.reports.unwrap()).enumerate() {
        let (got, want) = (got.losses[0].1, want.losses[0].1);
        println!("{precision:?}: step {step}: loss {got}, on the CPU {want}");
        assert!((got - want).abs() <= allowed * want, "{precision:?}: step {step}: loss {got}, on the CPU {want}");
    }
}

#[test]
fn repeat_in_f32() {
    super::on_gpu("steps::repeat_in_f32", |gpu| repeat(gpu, Precision::F32, 1e-4));
}

#[test]
fn repeat_in_f16() {
    super::on_gpu("steps::repeat_in_f16", |gpu| repeat(gpu, Precision::F16, 3e-2));
}

#[test]
fn repeat_in_bf16() {
    super::on_gpu("steps::repeat_in_bf16", |gpu| repeat(gpu, Precision::BF16, 1e-1));
}

/// Two steps, a checkpoint, and two more by a new model are four steps, bit by bit. In
/// f16, where the first steps are skipped or not as the loss scale says.
#[test]
fn go_on_from_a_checkpoint() {
    super::on_gpu("steps::go_on_from_a_checkpoint", |gpu| {
        let (dir, precision) = (tempfile::tempdir().unwrap(), Precision::F16);
        let saved = dir.path().join("checkpoint");
        let cuda = Cuda::open(gpu, Alloc::Arena).unwrap();
        let device = Device::Cuda(cuda);
        let whole = on(cuda, precision, batches(4));
        let until = How { to: Some(&saved), ..How::default() };
        train_as(until, device, precision, batches(2)).reports.unwrap();
        let rest = train_as(How { from: Some(&saved), ..How::default() }, device, precision, batches(4).split_off(2));
        cuda.release();
        let losses =
            |trained: &Trained| trained.reports.as_ref().unwrap().iter().map(|r| r.losses[0].1).collect::<Vec<_>>();
        assert_eq!(losses(&whole)[2..], losses(&rest)[..]);
        assert!(rest.state == whole.state, "other weights or averages");
    });
}

/// The driver's calls by name, those that made the host wait, and allocations, of a run of so many steps; nothing on a real
/// GPU, where nobody counts.
fn calls(name: &str, steps: u64) -> Option<[Value; 3]> {
    if super::is_real() {
        return None;
    }
    let report =
        super::simulated(name, || drop(on(Cuda::open(0, Alloc::Arena).unwrap(), Precision::F16, batches(steps))))?;
    Some(["driver_calls", "blocking_calls", "allocations"].map(|key| report.json[key].clone()))
}

#[test]
fn of_a_short_run() {
    calls("steps::of_a_short_run", 4);
}

/// A longer run differs from a shorter one by whole steps: each copies one record back, allocates nothing, waits for nothing.
#[test]
fn a_step_waits_for_nothing() {
    let Some([calls, blocking, allocations]) = calls("steps::a_step_waits_for_nothing", 6) else { return };
    let Some([fewer_calls, fewer_blocking, fewer_allocations]) = self::calls("steps::of_a_short_run", 4) else {
        return;
    };
    let more = |name: &str| {
        let count = |calls: &Value| calls[name].as_u64().unwrap_or(0);
        count(&calls) - count(&fewer_calls)
    };
    assert!(more("cuLaunchKernel") > 2 * 50, "{calls}");
    let copies_back: u64 =
        calls.as_object().unwrap().keys().filter(|name| name.contains("DtoH")).map(|name| more(name)).sum();
    assert_eq!(copies_back, 2, "one a step: {calls}");
    let allocating = |name: &&String| name.contains("Alloc");
    let allocated: u64 = calls.as_object().unwrap().keys().filter(allocating).map(|name| more(name)).sum();
    assert_eq!((allocated, &allocations), (0, &fewer_allocations), "{calls}");
    assert_eq!(blocking, fewer_blocking);
}

/// A pixel that is no number ends the run at its step, by name, though later steps were under way; none of them, nor the bad
/// one, has touched a weight.
fn stops(ordinal: usize, precision: Precision) {
    let cuda = Cuda::open(ordinal, Alloc::Each).unwrap();
    let mut bad = batches(5);
    let images = &bad[1].batch.images;
    let mut pixels = images.as_slice::<f32>().to_vec();
    pixels[700] = f32::NAN;
    bad[1].batch.images = Tensor::from_slice(&pixels, images.shape(), Device::Cpu);
    let trained = on(cuda, precision, bad);
    let error = format!("{:#}", trained.reports.unwrap_err());
    assert!(error.contains("step 1") && error.contains("loss_ce is NaN"), "{error}");
    assert!(trained.state.iter().flatten().all(|v| v.is_finite()));
}

#[test]
fn stop_at_a_bad_one_in_f32() {
    super::on_gpu("steps::stop_at_a_bad_one_in_f32", |gpu| stops(gpu, Precision::F32));
}

#[test]
fn stop_at_a_bad_one_in_f16() {
    super::on_gpu("steps::stop_at_a_bad_one_in_f16", |gpu| stops(gpu, Precision::F16));
}
