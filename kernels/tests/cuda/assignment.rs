//! The matcher's kernels against recorded problems and against the CPU's, whose indices they have to find.

use mdetr_kernels::assignment::{MatchCost, assign, linear_sum_assignments};
use mdetr_kernels::case::{Input, Values};
use mdetr_kernels::cuda::Cuda;
use mdetr_kernels::{DType, Device, Tensor};

use crate::{matcher, on_gpu};

const VARIANTS: [&str; 2] = ["registers", "naive"];

fn in_all_variants(cuda: &'static Cuda, role: &str, check: impl Fn(Device)) {
    for variant in VARIANTS {
        cuda.choose(role, Some(variant));
        check(Device::Cuda(cuda));
        cuda.check().unwrap();
    }
    cuda.choose(role, None);
}

#[test]
fn published_matcher() {
    on_gpu("assignment::published_matcher", |cuda| {
        in_all_variants(cuda, "assignment", |device| matcher::agrees(device, DType::F32));
    });
}

#[test]
fn scipy() {
    on_gpu("assignment::scipy", |cuda| {
        in_all_variants(cuda, "linear_sum_assignment", matcher::linear_sum_agrees);
    });
}

/// Few different costs, so that the rule for equal ones decides; more columns than fit in registers; no costs.
#[test]
fn ties() {
    on_gpu("assignment::ties", |cuda| {
        for (rows, columns, values) in [
            (1, 1, 1),
            (7, 7, 1),
            (20, 100, 3),
            (128, 128, 6),
            (100, 30, 4),
            (5, 129, 2),
            (40, 300, 8),
            (140, 3, 3),
            (0, 3, 1),
            (3, 0, 1),
        ] {
            let cost =
                Input::index("cost", &[2, rows, columns], Values::Index(-values, values)).tensor(DType::F32, 1);
            let cost = cost.to_dtype(DType::F64);
            let want = linear_sum_assignments(&cost);
            in_all_variants(cuda, "linear_sum_assignment", |device| {
                let got = linear_sum_assignments(&cost.to_device(device)).to_device(Device::Cpu);
                assert_eq!(got.as_slice::<i32>(), want.as_slice::<i32>(), "{rows} x {columns} of {values}");
            });
        }
    });
}

/// A problem's sizes and what is written over its logits.
struct Problem<'a> {
    layers: usize,
    targets_of_image: &'a [usize],
    queries: usize,
    k: usize,
    /// (element of the logits, value).
    odd_logits: &'a [(usize, f32)],
}

fn agrees_with_cpu(cuda: &'static Cuda, problem: &Problem) {
    let &Problem { layers, targets_of_image, queries, k, odd_logits } = problem;
    let (images, there) = (targets_of_image.len(), targets_of_image.iter().sum::<usize>());
    // Behind the targets rows that pad them, which nothing reads.
    let total = there + if images > 0 { 3 } else { 0 };
    let make = |shape: &[usize], values, seed| Input::new("", shape, values).tensor(DType::F32, seed);
    let mut logits = make(&[layers, images, queries, k], Values::Normal(2.0), 1);
    odd_logits.iter().for_each(|&(at, value)| logits.as_mut_slice::<f32>()[at] = value);
    let boxes = make(&[layers, images, queries, 4], Values::Uniform(0.1, 0.9), 2);
    let mut targets = make(&[total, 4], Values::Uniform(0.1, 0.9), 3);
    targets.as_mut_slice::<f32>()[there * 4..].fill(f32::NAN);
    // A few columns a target, some of them weighted.
    let mut map = make(&[total, k], Values::Uniform(-7.0, 1.0), 4);
    map.as_mut_slice::<f32>().iter_mut().for_each(|m| *m = m.max(0.0));
    map.as_mut_slice::<f32>()[there * k..].fill(f32::NAN);
    let mut image_of_target: Vec<i32> =
        targets_of_image.iter().enumerate().flat_map(|(image, &n)| vec![image as i32; n]).collect();
    image_of_target.resize(total, images as i32);
    let image_of_target = Tensor::from_slice(&image_of_target, &[total], Device::Cpu);
    let weights = MatchCost { class: 1.0, bbox: 5.0, giou: 2.0 };
    let on = |device: Device| {
        let [logits, boxes, map, targets, image_of_target] =
            [&logits, &boxes, &map, &targets, &image_of_target].map(|t| t.to_device(device));
        assign(&logits, &boxes, &map, &targets, &image_of_target, weights).to_device(Device::Cpu)
    };
    let want = on(Device::Cpu);
    in_all_variants(cuda, "assignment", |device| {
        let what = || format!("{layers} layers, targets {targets_of_image:?}, {queries} queries, {k} columns");
        assert_eq!(on(device).as_slice::<i32>(), want.as_slice::<i32>(), "{}", what());
    });
}

#[test]
fn sizes() {
    on_gpu("assignment::sizes", |cuda| {
        let of =
            |layers, targets_of_image, queries, k| Problem { layers, targets_of_image, queries, k, odd_logits: &[] };
        agrees_with_cpu(cuda, &of(2, &[12, 0, 3], 100, 256));
        agrees_with_cpu(cuda, &of(1, &[4, 1, 9], 1, 37));
        agrees_with_cpu(cuda, &of(2, &[9, 5, 4], 5, 33));
        agrees_with_cpu(cuda, &of(1, &[7, 2], 150, 8)); // more columns than in registers
        agrees_with_cpu(cuda, &of(1, &[140], 6, 8)); // likewise, of targets
        agrees_with_cpu(cuda, &of(1, &[2, 100], 110, 4)); // more costs than in shared memory
        agrees_with_cpu(cuda, &of(2, &[0, 0], 6, 5));
        agrees_with_cpu(cuda, &of(2, &[], 6, 5));
        agrees_with_cpu(cuda, &of(1, &[3, 2], 0, 5));
    });
}

/// What is not a number costs nothing, as published; the search ends all the same.
#[test]
fn not_a_number() {
    on_gpu("assignment::not_a_number", |cuda| {
        let some = [(0, f32::NAN), (20 * 16 + 3, f32::INFINITY), (40 * 16, f32::NEG_INFINITY)];
        let all: Vec<(usize, f32)> = (0..60 * 16).map(|at| (at, f32::NAN)).collect();
        for odd_logits in [&some[..], &all] {
            let targets_of_image = &[6, 25, 20][..];
            agrees_with_cpu(cuda, &Problem { layers: 1, targets_of_image, queries: 20, k: 16, odd_logits });
        }
    });
}
