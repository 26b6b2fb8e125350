//! Memory, uploads and downloads of a device.

use mdetr_kernels::cuda::Cuda;
use mdetr_kernels::cuda_memory::Alloc;
use mdetr_kernels::{DType, Device, Tensor};

use crate::process::{self, Report};

fn numbers(n: usize, first: i32) -> Vec<i32> {
    (first..).take(n).collect()
}

/// Uploads inside of steps, two batches on their way, results read two steps later: exact, in order, and nobody waits.
fn steps(cuda: &'static Cuda) {
    let device = Device::Cuda(cuda);
    let batch = |step: i32| {
        let shapes = [100 + 10 * (step as usize % 2), 3];
        shapes.map(|n| Tensor::from_slice(&numbers(n, step), &[n], Device::Cpu))
    };
    let mut prefetched = cuda.prefetch(&batch(0)).unwrap();
    let mut results = std::collections::VecDeque::new();
    for step in 0..8 {
        cuda.begin_step();
        let next = cuda.prefetch(&batch(step + 1)).unwrap();
        let received = cuda.receive(&prefetched);
        let small = Tensor::from_slice(&[step as f32], &[1], device);
        let mut y = Tensor::zeros(&[2], DType::F32, device);
        y.zero();
        let copies = received.iter().map(Tensor::copy).collect::<Vec<_>>();
        cuda.consumed(std::mem::replace(&mut prefetched, next));
        results.push_back((step, cuda.read_back(&small).unwrap(), copies));
        cuda.end_step();
        if results.len() > 2 {
            let (step, read, copies) = results.pop_front().unwrap();
            assert_eq!(cuda.wait_for(read).unwrap(), [step as f32]);
            if step == 3 {
                assert_eq!(copies[0].to_device(Device::Cpu).as_slice::<i32>(), numbers(110, 3));
            }
        }
    }
}

fn run(name: &str, alloc: Alloc) -> Option<Report> {
    process::simulated(name, &[], || {
        let cuda = Cuda::open(0, alloc).unwrap();
        steps(cuda);
        cuda.synchronize().unwrap();
    })
}

#[test]
fn each_tensor_has_its_allocation() {
    let Some(report) = run("memory::each_tensor_has_its_allocation", Alloc::Each) else { return };
    assert!(report.success, "{}{}", report.stdout, report.stderr);
}

#[test]
fn an_arena_allocates_in_the_first_steps_only() {
    let Some(report) = run("memory::an_arena_allocates_in_the_first_steps_only", Alloc::Arena) else { return };
    assert!(report.success, "{}{}", report.stdout, report.stderr);
    assert!(report.json["allocations"]["count"].as_u64().unwrap() <= 2, "{}", report.json["allocations"]);
}

/// The device has 100 MB: chunks that lie unused make room, and when even that is not enough, one line says what was wanted.
#[test]
fn an_arena_gives_back_what_it_keeps_before_memory_runs_out() {
    const NAME: &str = "memory::an_arena_gives_back_what_it_keeps_before_memory_runs_out";
    let report = process::simulated(NAME, &[("MDETR_SIM_MEMORY", "100000000")], || {
        let cuda = Cuda::open(0, Alloc::Arena).unwrap();
        let bytes = |n: usize| Tensor::zeros(&[n / 4], DType::I32, Device::Cuda(cuda));
        let kept = bytes(1 << 20);
        drop([bytes(30_000_000), bytes(40_000_000)]);
        drop(bytes(90_000_000));
        cuda.check().unwrap();
        assert!(cuda.usage().reserved <= 100_000_000);
        drop(bytes(99_500_000));
        let error = cuda.check().unwrap_err().to_string();
        assert!(error.contains("allocating 99500000 bytes") && error.contains("OUT_OF_MEMORY"), "{error}");
        assert_eq!(kept.to_device(Device::Cpu).len(), 1 << 18);
    });
    report.iter().for_each(|report| assert!(report.success, "{}{}", report.stdout, report.stderr));
}

#[test]
fn a_missing_driver_is_one_line() {
    if Cuda::is_driver_present() {
        return; // nothing is missing
    }
    let error = Cuda::open(0, Alloc::Each).unwrap_err().to_string();
    assert!(error.starts_with("no CUDA driver:") && error.lines().count() == 1, "{error}");
}
