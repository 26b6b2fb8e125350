//! The published model's inference and training step on this machine, to be read beside `benches/pytorch/bench.py`, which
//! runs the same shapes. Prints a JSON object on stdout; tables by op on stderr.
//!
//!     cargo bench --bench step -- inference
//!     cargo bench --bench step -- inference --precision bf16
//!     cargo bench --bench step -- step --profile
//!     cargo bench --bench step -- --device cuda --precision bf16
//!     cargo bench --bench step -- --device cuda --precision bf16 --graphs
//!
//! A step is timed as training runs it (`Trainer::train`): on a GPU batches are uploaded and numbers read while it works,
//! so that only the average of many steps means something. With `--profile` some steps more are run in which the host waits
//! for every op; what the optimizer does is not among them.

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Result, bail, ensure};
use clap::{Parser, ValueEnum};
use mdetr_autograd::Tape;
use mdetr_autograd::profile::Profile;
use mdetr_kernels::case::{Input, Values};
use mdetr_kernels::cuda::Cuda;
use mdetr_kernels::cuda_memory::Alloc;
use mdetr_kernels::tensor::host_memory;
use mdetr_kernels::{DType, Device, Precision, Tensor, simd, threads};
use mdetr_model::batch::{Packing, Text};
use mdetr_model::criterion::Criterion;
use mdetr_model::mdetr::TOKEN_COLUMNS;
use mdetr_model::pretrain::Phrases;
use mdetr_model::{Batch, CriterionConfig, Mdetr, ModelConfig, Targets, recipe};
use mdetr_train::collate::Collated;
use mdetr_train::dump::read_configs;
use mdetr_train::engine::{StepReport, Trainer};
use mdetr_train::optimizer::{Optimizer, OptimizerOptions};
use mdetr_train::schedule::Rates;
use serde_json::{Value, json};

/// Boxes of every other image, from the first on, and of those between.
const BOXES: [usize; 2] = [5, 3];

/// Tokens from the first that names a box to the last, and the one before.
const NAMING_TOKENS: usize = 1 + 2 * BOXES[0];

/// Steps with `--profile`.
const PROFILED: usize = 3;

/// Milliseconds of a step of the published model in half types on an H100 by its data sheet: 827 GFLOP an image, every
/// activation written once, batch norm, ReLU and residuals fused.
const H100_ROOFLINE_MS: f64 = 13.3;

/// For 800 x 1066 and 32 tokens.
const ROOFLINE_SHAPE: Shape = Shape { images: 8, height: 800, width: 1066, tokens: 32 };

#[derive(Parser)]
#[command(about = "Times the published model's inference or training step")]
struct Args {
    /// What to time [default: both; on a GPU the step].
    what: Option<What>,
    /// Where the step computes: cpu, cuda, or cuda:N.
    #[arg(long, default_value = "cpu")]
    device: String,
    /// What it computes in: fp32, tf32, fp16 or bf16.
    #[arg(long, default_value = "fp32", value_parser = precision)]
    precision: Precision,
    /// Images of a step [default: 2; on a GPU 8].
    #[arg(long)]
    batch: Option<NonZeroUsize>,
    /// Of the step's images [default: 480; on a GPU 800].
    #[arg(long)]
    height: Option<NonZeroUsize>,
    /// Of the step's images [default: 640; on a GPU 1066].
    #[arg(long)]
    width: Option<NonZeroUsize>,
    /// Tokens of each caption [default: 22; on a GPU 32].
    #[arg(long)]
    text: Option<NonZeroUsize>,
    /// A model's configuration for the step instead of the published one.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Runs that are timed [default: 7; on a GPU 30].
    #[arg(long)]
    repeats: Option<NonZeroUsize>,
    /// Launch the steps as CUDA graphs.
    #[arg(long)]
    graphs: bool,
    /// Print the time of every op.
    #[arg(long)]
    profile: bool,
    /// From cargo.
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum What {
    Inference,
    Step,
}

#[derive(Clone, Copy, PartialEq)]
struct Shape {
    images: usize,
    height: usize,
    width: usize,
    tokens: usize,
}

const INFERENCE: Shape = Shape { images: 1, height: 800, width: 1066, tokens: 22 };
const STEP: Shape = Shape { images: 2, height: 480, width: 640, tokens: 22 };

fn precision(name: &str) -> Result<Precision> {
    Ok(match name {
        "fp32" => Precision::F32,
        "tf32" => Precision::TF32,
        "fp16" => Precision::F16,
        "bf16" => Precision::BF16,
        _ => bail!("expected fp32, tf32, fp16 or bf16"),
    })
}

fn name_of(precision: Precision) -> String {
    format!("{precision:?}").to_lowercase()
}

fn main() -> Result<()> {
    threads::join();
    let args = Args::parse();
    let device = mdetr_train::device::open(&args.device, Alloc::Arena)?;
    ensure!(device == Device::Cpu || args.what != Some(What::Inference), "inference is timed on the CPU only");
    if device == Device::Cpu && args.what != Some(What::Step) {
        inference(args.precision, given(args.repeats, 7), args.profile);
    }
    if args.what != Some(What::Inference) {
        training_step(&args, device)?;
    }
    device.cuda().into_iter().for_each(Cuda::release);
    Ok(())
}

fn given(option: Option<NonZeroUsize>, default: usize) -> usize {
    option.map_or(default, NonZeroUsize::get)
}

fn model(config: &ModelConfig) -> Result<Mdetr> {
    let mut model = Mdetr::new(config, 0)?;
    recipe::fill(&mut model.parameters);
    Ok(model)
}

/// Captions of token ids below `vocabulary`.
fn batch(shape: Shape, vocabulary: usize) -> Batch {
    let Shape { images, height, width, tokens } = shape;
    let make = |input: Input, dtype| input.tensor(dtype, 1);
    let ids = Values::Index(3, vocabulary.min(50000) as i32);
    Batch {
        images: make(Input::constant("images", &[images, height, width, 3], Values::Normal(1.0)), DType::F32),
        image_sizes: vec![[height, width]; images],
        text: Text {
            ids: make(Input::index("ids", &[images, tokens], ids), DType::I32),
            counts: vec![tokens; images],
        },
        packing: Packing::Exact,
    }
}

/// Two tokens a box.
fn targets(shape: Shape) -> Targets {
    let counts: Vec<usize> = (0..shape.images).map(|image| BOXES[image % 2]).collect();
    let of_image: Vec<(usize, usize)> =
        counts.iter().enumerate().flat_map(|(image, &n)| (0..n).map(move |i| (image, i))).collect();
    let total = of_image.len();
    let boxes: Vec<f32> =
        of_image.iter().flat_map(|&(_, i)| [0.3 + 0.05 * i as f32, 0.5, 0.2, 0.1 + 0.05 * i as f32]).collect();
    let map = |columns: usize| {
        let mut map = vec![0.0f32; total * columns];
        for (row, (_, i)) in map.chunks_mut(columns).zip(&of_image) {
            row[2 * i + 1..2 * i + 3].fill(1.0);
        }
        Tensor::from_slice(&map, &[total, columns], Device::Cpu)
    };
    let image: Vec<i32> = of_image.iter().map(|&(image, _)| image as i32).collect();
    Targets {
        boxes: Tensor::from_slice(&boxes, &[total, 4], Device::Cpu),
        positive_map: map(TOKEN_COLUMNS),
        align_map: map(shape.tokens),
        tokens: shape.tokens,
        image_of_target: Tensor::from_slice(&image, &[total], Device::Cpu),
        counts,
    }
}

fn inference(precision: Precision, repeats: usize, profiling: bool) {
    let mut model = model(&ModelConfig::default()).expect("the published configuration");
    model.parameters.set_precision(precision);
    let batch = batch(INFERENCE, model.config.text().vocab_size);
    let mut profile = Profile::default();
    let mut run = || {
        let tape = Tape::inference(&model.parameters, Device::Cpu, precision);
        let tape = if profiling { tape.with_profile() } else { tape };
        let outputs = model.forward(&tape, &batch);
        assert!(outputs.last_boxes().as_slice::<f32>().iter().all(|v| v.is_finite()));
        if let Some(p) = tape.take_profile() {
            profile.merge(&p);
        }
    };
    run();
    let times = (0..repeats).map(|_| {
        let start = Instant::now();
        run();
        start.elapsed().as_secs_f64() * 1e3
    });
    let times: Vec<f64> = times.collect();
    let what = format!("inference resnet101 800x1066 batch 1 {}", name_of(precision));
    if profiling {
        eprintln!("{what}, sums over {} runs:\n{}", times.len() + 1, profile.table());
    }
    println!("{}", report(&what, &times, Device::Cpu));
}

impl Args {
    fn shape(&self, default: Shape) -> Shape {
        Shape {
            images: given(self.batch, default.images),
            height: given(self.height, default.height),
            width: given(self.width, default.width),
            tokens: given(self.text, default.tokens),
        }
    }

    /// The part of the roofline that a step reaches, in percent, where one is known.
    fn percent_of_roofline(&self, gpu: &str, shape: Shape, ms: f64) -> Option<f64> {
        let is_half = matches!(self.precision, Precision::F16 | Precision::BF16);
        let is_known = self.config.is_none() && shape == ROOFLINE_SHAPE && is_half && gpu.contains("H100");
        is_known.then_some(100.0 * H100_ROOFLINE_MS / ms)
    }
}

fn training_step(args: &Args, device: Device) -> Result<()> {
    // In ten steps a GPU falls as far behind as it will, and f16's scale settles.
    let (shape, untimed, repeats) = match device {
        Device::Cpu => (args.shape(STEP), 1, given(args.repeats, 7)),
        Device::Cuda(_) => (args.shape(ROOFLINE_SHAPE), 10, given(args.repeats, 30)),
    };
    let (config, criterion) = match &args.config {
        None => (ModelConfig::default(), CriterionConfig::default()),
        Some(path) => configs(path)?,
    };
    let (mut model, criterion, precision) = (model(&config)?, Criterion::new(&criterion), args.precision);
    let tokens = NAMING_TOKENS..=model.config.max_tokens();
    ensure!(tokens.contains(&shape.tokens), "--text {}: expected {tokens:?} tokens", shape.tokens);
    let batch = Collated {
        batch: batch(shape, model.config.text().vocab_size),
        targets: targets(shape),
        phrases: Phrases { tokens: Vec::new(), image: Vec::new(), candidates: Vec::new() },
        records: Vec::new(),
        share: 1.0,
    };
    model.parameters.set_precision(precision);
    model.parameters.to_device(device);
    device.cuda().into_iter().for_each(|cuda| cuda.allow_tf32(precision == Precision::TF32));
    let options = OptimizerOptions { ema_decay: Some(0.9998), ..Default::default() };
    let optimizer = Optimizer::new(&model.parameters, precision, options);
    let mut trainer = Trainer { graphs: args.graphs, ..Trainer::new(&mut model, optimizer, precision) };

    let (times, reports) = measure(&mut trainer, &criterion, &batch, untimed, repeats)?;
    let dtype = name_of(precision);
    let Shape { images, height, width, tokens } = shape;
    let graphs = if args.graphs { " as graphs" } else { "" };
    let what = format!("step {} {height}x{width} batch {images} {dtype}{graphs}", config.backbone);
    let mut report = report(&what, &times, device);
    if let Some(cuda) = device.cuda() {
        let mean = times.iter().sum::<f64>() / times.len() as f64;
        report["tokens"] = tokens.into();
        report["images_per_s"] = (1e3 * images as f64 / mean).into();
        report["percent_of_roofline"] = args.percent_of_roofline(&cuda.name(), shape, mean).into();
        if args.graphs {
            report["graph_launches"] = cuda.graph_usage().launched.into();
        }
        report["skipped_steps"] = reports[untimed..].iter().filter(|r| r.grad_norm.is_none()).count().into();
    }
    println!("{report}");
    if args.profile {
        trainer.profile = Some(Profile::default());
        trainer.train(&criterion, (0..PROFILED).map(|_| Ok(batch.clone())), |_| RATES)?;
        let table = trainer.profile.unwrap_or_default().table();
        eprintln!("{what}, sums over {PROFILED} steps:\n{table}");
    }
    Ok(())
}

fn configs(path: &Path) -> Result<(ModelConfig, CriterionConfig)> {
    let (_, model, criterion) = read_configs(path)?;
    let vocabulary = model.text().vocab_size;
    ensure!(vocabulary > 3, "{}: {vocabulary} words: a caption needs more", path.display());
    Ok((model, criterion))
}

const RATES: Rates = Rates { base: 1e-4, backbone: 1e-5, text_encoder: 5e-5 };

/// Milliseconds of each step after the `untimed` ones: between two requests for a batch, of which the engine makes one
/// before every step. Also what all steps reported.
fn measure(
    trainer: &mut Trainer,
    criterion: &Criterion,
    batch: &Collated,
    untimed: usize,
    repeats: usize,
) -> Result<(Vec<f64>, Vec<StepReport>)> {
    // The engine asks for a batch one step ahead, and the last step ends with nothing to ask for.
    let steps = untimed + repeats + 1;
    let mut requests = Vec::new();
    let batches = std::iter::from_fn(|| {
        requests.push(Instant::now());
        (requests.len() <= steps).then(|| Ok(batch.clone()))
    });
    let reports = trainer.train(criterion, batches, |_| RATES)?;
    let times = requests[1 + untimed..].windows(2).map(|w| (w[1] - w[0]).as_secs_f64() * 1e3);
    let times: Vec<f64> = times.collect();
    assert_eq!(times.len(), repeats, "the engine asks for a batch a step");
    Ok((times, reports))
}

/// Times and memory.
fn report(what: &str, times: &[f64], device: Device) -> Value {
    let mut sorted = times.to_vec();
    sorted.sort_by(f64::total_cmp);
    let mut report = json!({
        "what": what,
        "median_ms": sorted[sorted.len() / 2],
        "min_ms": sorted[0],
        "times_ms": times,
    });
    match device {
        Device::Cpu => {
            let (_, peak) = host_memory();
            report["simd"] = simd::level().name().into();
            report["threads"] = std::env::var("RAYON_NUM_THREADS").unwrap_or_else(|_| "all".into()).into();
            report["peak_tensor_mb"] = (peak as f64 / 1e6).into();
        }
        Device::Cuda(cuda) => {
            let usage = cuda.usage();
            let [state, step, reserved] =
                [usage.state, usage.step_peak, usage.reserved].map(|bytes| bytes as f64 / 1e6);
            report["device"] = cuda.name().into();
            report["state_mb"] = state.into();
            report["step_peak_mb"] = step.into();
            report["reserved_mb"] = reserved.into();
        }
    }
    report
}
