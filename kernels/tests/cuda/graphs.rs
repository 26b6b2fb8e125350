//! Steps as graphs: when they are captured, what may differ between launches, what is enqueued call by call.

use mdetr_kernels::cuda::Cuda;
use mdetr_kernels::cuda_memory::Alloc;
use mdetr_kernels::{DType, Device, Tensor};

use crate::process;

fn simulated(name: &str, body: impl FnOnce(&'static Cuda)) {
    let report = process::simulated(name, &[], || {
        let cuda = Cuda::open(0, Alloc::Arena).unwrap();
        body(cuda);
        cuda.release();
        cuda.synchronize().unwrap();
    });
    report.iter().for_each(process::Report::assert_clean);
}

/// Puts a zero in the place of the first number.
fn work(cuda: &'static Cuda, numbers: &[i32]) -> Tensor {
    let mut t = Tensor::from_slice(numbers, &[numbers.len()], Device::Cuda(cuda));
    t.window_mut(0..1, &[1]).zero();
    t.copy()
}

fn step(cuda: &'static Cuda, numbers: &[i32]) {
    cuda.begin_step();
    let out = cuda.as_graph(|| work(cuda, numbers)).to_device(Device::Cpu);
    cuda.end_step();
    assert_eq!(out.as_slice::<i32>(), [&[0], &numbers[1..]].concat(), "{}", cuda.graph_usage());
}

/// (steps, graph launches, captures) so far.
fn counts(cuda: &Cuda) -> [usize; 3] {
    let usage = cuda.graph_usage();
    [usage.steps, usage.launched, usage.captured]
}

#[test]
fn equal_steps_are_launches_with_uploads_of_their_own() {
    simulated("graphs::equal_steps_are_launches_with_uploads_of_their_own", |cuda| {
        for i in 0..4 {
            step(cuda, &[7, i, i + 1]);
        }
        assert_eq!(counts(cuda), [4, 3, 1], "the first is enqueued, the second captured");
        step(cuda, &[7; 5]);
        assert_eq!(counts(cuda), [5, 3, 1], "another size");
        step(cuda, &[7, 8, 9]);
        assert_eq!(counts(cuda), [6, 4, 1]);
        let taken = Tensor::zeros(&[3], DType::I32, Device::Cuda(cuda));
        step(cuda, &[7, 8, 9]);
        assert_eq!(counts(cuda), [7, 4, 1], "other addresses");
        drop(taken);
        step(cuda, &[7, 8, 9]);
        assert_eq!(counts(cuda), [8, 5, 1]);
    });
}

#[test]
fn what_reads_a_value_is_enqueued() {
    simulated("graphs::what_reads_a_value_is_enqueued", |cuda| {
        for i in 0..4 {
            cuda.begin_step();
            let read = cuda.as_graph(|| work(cuda, &[7, i]).to_device(Device::Cpu));
            cuda.end_step();
            assert_eq!(read.as_slice::<i32>(), [0, i]);
        }
        assert_eq!(counts(cuda), [4, 0, 0]);
    });
}

/// A step that does something else every third time it is gone through, which is when it is captured.
#[test]
fn a_capture_that_is_not_what_was_rehearsed_is_thrown_away() {
    simulated("graphs::a_capture_that_is_not_what_was_rehearsed_is_thrown_away", |cuda| {
        let mut passes = 0;
        for _ in 0..3 {
            cuda.begin_step();
            let out = cuda.as_graph(|| {
                passes += 1;
                work(cuda, &vec![4; if passes == 4 { 50 } else { 3 }])
            });
            cuda.end_step();
            assert_eq!(out.to_device(Device::Cpu).as_slice::<i32>(), [0, 4, 4]);
        }
        assert_eq!((counts(cuda), passes), ([3, 0, 0], 2 + 3 + 2));
    });
}

/// State that a step makes at its first call is there in every later one.
#[test]
fn what_outlives_a_step_is_made_at_once() {
    simulated("graphs::what_outlives_a_step_is_made_at_once", |cuda| {
        let mut state = None;
        for i in 0..4 {
            cuda.begin_step();
            let make = || cuda.allocating_state(|| Tensor::from_slice(&[5i32, 6], &[2], Device::Cuda(cuda)));
            let out = cuda.as_graph(|| {
                let state: &Tensor = state.get_or_insert_with(make);
                drop(work(cuda, &[7, i]));
                state.copy()
            });
            cuda.end_step();
            assert_eq!(out.to_device(Device::Cpu).as_slice::<i32>(), [5, 6]);
        }
        assert_eq!(counts(cuda), [4, 3, 1]);
    });
}

#[test]
fn the_graphs_that_were_not_used_for_longest_go() {
    simulated("graphs::the_graphs_that_were_not_used_for_longest_go", |cuda| {
        for len in (1..=70).flat_map(|len| [len, len]) {
            step(cuda, &vec![3; len]);
        }
        assert_eq!(counts(cuda), [140, 70, 70]);
        assert_eq!(cuda.graph_usage().kept, 64);
        step(cuda, &[3; 70]);
        assert_eq!(counts(cuda), [141, 71, 70]);
        step(cuda, &[3]);
        assert_eq!(counts(cuda), [142, 71, 70], "it is gone");
        step(cuda, &[3]);
        assert_eq!(counts(cuda), [143, 72, 71], "and comes again");
    });
}
