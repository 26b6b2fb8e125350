//! The published model's inference and training step on this machine, to be read beside `benches/pytorch/bench.py`, which
//! runs the same shapes. Prints a JSON object on stdout; progress and a table by op on stderr.
//!
//!     cargo bench --bench step -- inference
//!     cargo bench --bench step -- step --profile

use std::time::Instant;

use mdetr_autograd::Tape;
use mdetr_autograd::profile::Profile;
use mdetr_kernels::case::{Input, Values};
use mdetr_kernels::tensor::host_memory;
use mdetr_kernels::{DType, Device, Precision, Tensor};
use mdetr_model::batch::Text;
use mdetr_model::criterion::Criterion;
use mdetr_model::mdetr::TOKEN_COLUMNS;
use mdetr_model::{Batch, CriterionConfig, Mdetr, ModelConfig, Targets, recipe};
use mdetr_train::optimizer::Optimizer;
use mdetr_train::schedule::Rates;

/// Tokens of each caption.
const TOKENS: usize = 22;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    let has = |word: &str| args.iter().any(|a| a == word);
    let repeats = args.iter().find_map(|a| a.strip_prefix("--repeats=")?.parse().ok()).unwrap_or(7);
    if has("inference") || !has("step") {
        inference(repeats, has("--profile"));
    }
    if has("step") || !has("inference") {
        training_step(repeats, has("--profile"));
    }
}

fn model() -> Mdetr {
    let mut model = Mdetr::new(&ModelConfig::default(), 0).expect("the published configuration");
    recipe::fill(&mut model.parameters);
    model
}

fn batch(images: usize, height: usize, width: usize) -> Batch {
    let make = |input: Input, dtype| input.tensor(dtype, 1);
    let shape = [images, height, width, 3];
    Batch {
        images: make(Input::constant("images", &shape, Values::Normal(1.0)), DType::F32),
        image_sizes: vec![[height, width]; images],
        text: Text {
            ids: make(Input::index("ids", &[images, TOKENS], Values::Index(3, 50000)), DType::I32),
            counts: vec![TOKENS; images],
        },
    }
}

/// Five and three boxes, two tokens each.
fn targets(images: usize) -> Targets {
    let counts: Vec<usize> = (0..images).map(|b| if b == 0 { 5 } else { 3 }).collect();
    let total: usize = counts.iter().sum();
    let boxes: Vec<f32> = (0..total).flat_map(|i| [0.3 + 0.05 * i as f32, 0.5, 0.2, 0.1 + 0.05 * i as f32]).collect();
    let map = |columns: usize| {
        let mut map = vec![0.0f32; total * columns];
        (0..total).for_each(|i| map[i * columns + 2 * i + 1..i * columns + 2 * i + 3].fill(1.0));
        Tensor::from_slice(&map, &[total, columns], Device::Cpu)
    };
    let image: Vec<i32> = counts.iter().enumerate().flat_map(|(b, &n)| vec![b as i32; n]).collect();
    Targets {
        boxes: Tensor::from_slice(&boxes, &[total, 4], Device::Cpu),
        positive_map: map(TOKEN_COLUMNS),
        align_map: map(TOKENS),
        image_of_target: Tensor::from_slice(&image, &[total], Device::Cpu),
        counts,
    }
}

fn inference(repeats: usize, profiling: bool) {
    let model = model();
    let batch = batch(1, 800, 1066);
    let mut profile = Profile::default();
    let times = measure(repeats, || {
        let tape = Tape::inference(&model.parameters, Device::Cpu, Precision::F32);
        let tape = if profiling { tape.with_profile() } else { tape };
        let outputs = model.forward(&tape, &batch);
        assert!(outputs.last_boxes().as_slice::<f32>().iter().all(|v| v.is_finite()));
        if let Some(p) = tape.take_profile() {
            profile.merge(&p);
        }
    });
    report("inference resnet101 800x1066 batch 1 f32", &times, profiling.then_some(&profile));
}

fn training_step(repeats: usize, profiling: bool) {
    let mut model = model();
    let (batch, targets) = (batch(2, 480, 640), targets(2));
    let criterion = Criterion::new(&CriterionConfig::default());
    let mut optimizer = Optimizer::new(&model.parameters, 1e-4, 0.1, Some(0.9998));
    let rates = Rates { base: 1e-4, backbone: 1e-5, text_encoder: 5e-5 };
    let mut profile = Profile::default();
    let mut draws = 0;
    let times = measure(repeats, || {
        let tape = Tape::training(&model.parameters, Device::Cpu, Precision::F32, 0, draws);
        let tape = if profiling { tape.with_profile() } else { tape };
        let losses = criterion.forward(&model.forward(&tape, &batch), &targets);
        let gradients = tape.backward(&losses.total);
        draws = tape.draws();
        drop(losses);
        if let Some(p) = tape.take_profile() {
            profile.merge(&p);
        }
        drop(tape);
        optimizer.step(&mut model.parameters, &gradients, rates).expect("finite gradients");
    });
    report("step resnet101 480x640 batch 2 f32", &times, profiling.then_some(&profile));
}

/// Milliseconds of each run after one that is not counted.
fn measure(repeats: usize, mut run: impl FnMut()) -> Vec<f64> {
    run();
    (0..repeats)
        .map(|_| {
            let start = Instant::now();
            run();
            start.elapsed().as_secs_f64() * 1e3
        })
        .collect()
}

fn report(what: &str, times: &[f64], profile: Option<&Profile>) {
    let mut sorted = times.to_vec();
    sorted.sort_by(f64::total_cmp);
    if let Some(profile) = profile {
        eprintln!("{what}, sums over {} runs:\n{}", times.len() + 1, profile.table());
    }
    let (_, peak) = host_memory();
    println!(
        "{}",
        serde_json::json!({
            "what": what,
            "median_ms": sorted[sorted.len() / 2],
            "min_ms": sorted[0],
            "times_ms": times,
            "threads": std::env::var("RAYON_NUM_THREADS").unwrap_or_else(|_| "all".into()),
            "peak_tensor_mb": peak as f64 / 1e6,
        })
    );
}
