//! Batches whose shapes are a bucket's: what lies behind their tokens and targets.

use mdetr_kernels::cuda::Cuda;
use mdetr_kernels::cuda_memory::Alloc;
use mdetr_kernels::{Device, Precision};

use super::micro::{Trained, bucket, train};

const STEPS: u64 = 3;

fn on(device: Device, precision: Precision, tail: f32) -> Trained {
    let trained = train(device, precision, (0..STEPS).map(|step| bucket(step, tail)).collect());
    if let Device::Cuda(cuda) = device {
        cuda.release();
        cuda.synchronize().unwrap();
    }
    trained
}

/// Nobody reads it: NaN there changes no bit, and the losses are those of the CPU.
fn tails_are_not_read(ordinal: usize, precision: Precision, allowed: f64) {
    let each = Device::Cuda(Cuda::open(ordinal, Alloc::Each).unwrap());
    let (zeros, poisoned) = (on(each, precision, 0.0), on(each, precision, f32::NAN));
    assert!(zeros.state == poisoned.state, "{precision:?}: other bits");
    assert!(zeros.state.iter().flatten().all(|v| v.is_finite()));
    let cpu = on(Device::Cpu, precision, f32::NAN);
    for (step, (got, want)) in zeros.reports.unwrap().iter().zip(cpu.reports.unwrap()).enumerate() {
        let (got, want) = (got.losses[0].1, want.losses[0].1);
        assert!((got - want).abs() <= allowed * want, "{precision:?}: step {step}: loss {got}, on the CPU {want}");
    }
}

#[test]
fn tails_are_not_read_in_f32() {
    super::on_gpu("buckets::tails_are_not_read_in_f32", |gpu| tails_are_not_read(gpu, Precision::F32, 1e-4));
}

#[test]
fn tails_are_not_read_in_f16() {
    super::on_gpu("buckets::tails_are_not_read_in_f16", |gpu| tails_are_not_read(gpu, Precision::F16, 3e-2));
}
