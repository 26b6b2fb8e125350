//! Times ops on their registered cases: `cargo bench -p mdetr-kernels --bench ops -- conv2d group_norm`. A word keeps
//! the cases whose `op/case` contains it (`conv2d/layer3`); no word keeps all.
//!
//! Prints the best time of forward, then of backward with the gradients of all inputs, with the rates that the op's cost
//! model implies; on a CPU in a line of its own that of forward without a backward to come. `--device cuda` runs on the first
//! GPU, `--dtype f16` or `bf16` computes in halves. On a GPU every variant of every role gets a line of its own, and the last
//! column is the part of the time in which the GPU, by its data sheet, could do the arithmetic or the traffic. There cases of
//! less than a megabyte need a word: they time the launch. What fits into the L2 cache comes from it, as it would between the
//! ops of a step.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use mdetr_kernels::case::Case;
use mdetr_kernels::cuda::Cuda;
use mdetr_kernels::cuda_memory::Alloc;
use mdetr_kernels::op::{Cost, Cx, GradSlot, Pass, Saved};
use mdetr_kernels::registry::{Entry, OPS};
use mdetr_kernels::{DType, Device, Tensor};

/// How long to repeat a measurement.
const TIME: Duration = Duration::from_millis(500);

/// How long a GPU is kept busy between two waits.
const ROUND: Duration = Duration::from_millis(20);

/// Memory traffic of a call below which a GPU is not asked about it.
const SMALL: f64 = 1e6;

struct Options {
    device: Device,
    dtype: DType,
    words: Vec<String>,
}

fn main() -> Result<()> {
    let options = Options::parse(std::env::args().skip(1))?;
    if let Some(cuda) = options.device.cuda() {
        println!("{}, {:?}", cuda.name(), options.dtype);
    }
    let rates = format!("{:>9} {:>7} {:>5}", "GFLOP/s", "GB/s", "% max");
    println!("{:<56} {:>10} {rates}   {:>10} {rates}", "", "forward ms", "backward");
    OPS.iter().try_for_each(|op| options.bench_op(op))
}

impl Options {
    fn parse(mut args: impl Iterator<Item = String>) -> Result<Self> {
        let mut options = Options { device: Device::Cpu, dtype: DType::F32, words: Vec::new() };
        while let Some(arg) = args.next() {
            match arg.as_str() {
                "--bench" => {} // from cargo
                "--device" => {
                    options.device = match args.next().as_deref() {
                        Some("cpu") => Device::Cpu,
                        Some("cuda") => Device::Cuda(Cuda::open(0, Alloc::Arena)?),
                        _ => bail!("--device: expected cpu or cuda"),
                    }
                }
                "--dtype" => {
                    options.dtype = match args.next().as_deref() {
                        Some("f32") => DType::F32,
                        Some("f16") => DType::F16,
                        Some("bf16") => DType::BF16,
                        _ => bail!("--dtype: expected f32, f16 or bf16"),
                    }
                }
                _ if arg.starts_with('-') => bail!("{arg}: expected --device, --dtype or a part of op/case"),
                _ => options.words.push(arg),
            }
        }
        Ok(options)
    }

    fn bench_op(&self, op: &Entry) -> Result<()> {
        for case in (op.cases)() {
            let name = format!("{}/{}", op.name, case.name);
            let is_chosen = self.words.is_empty() || self.words.iter().any(|word| name.contains(word));
            if !is_chosen || self.dtype != DType::F32 && !case.in_half {
                continue;
            }
            let inputs = case.make_inputs(self.dtype);
            let bytes = case.op.cost(Pass::Forward, &inputs.iter().collect::<Vec<_>>()).bytes;
            if self.device != Device::Cpu && self.words.is_empty() && bytes < SMALL {
                continue;
            }
            self.bench(&name, &case)?;
            let Some(cuda) = self.device.cuda() else { continue };
            for (role, variant) in op.other_variants() {
                cuda.choose(role, Some(variant));
                self.bench(&format!("    {role} {variant}"), &case)?;
                cuda.choose(role, None);
            }
            cuda.release();
        }
        Ok(())
    }

    fn bench(&self, name: &str, case: &Case) -> Result<()> {
        let inputs: Vec<Tensor> = case.make_inputs(self.dtype).iter().map(|t| t.to_device(self.device)).collect();
        let inputs: Vec<&Tensor> = inputs.iter().collect();
        let cx = || Cx::new(self.device, case.training, true, case.seed, 0);
        let forward = best(self.device, || drop(case.op.forward(&mut cx(), &inputs)));
        print!("{name:<56} {}", self.rates(case.op.cost(Pass::Forward, &inputs), forward));

        let outputs = case.op.forward(&mut cx(), &inputs);
        let grad_outs = outputs.tensors.iter().map(|y| y.dtype().is_float().then(|| y.copy()));
        let grad_outs: Vec<Option<Tensor>> = grad_outs.collect();
        let grad_outs: Vec<Option<&Tensor>> = grad_outs.iter().map(Option::as_ref).collect();
        let grads = case.inputs.iter().zip(&inputs);
        let mut grads: Vec<Option<Tensor>> = grads
            .map(|(input, x)| input.differentiable.then(|| Tensor::zeros(x.shape(), x.dtype(), self.device)))
            .collect();
        let backward = best(self.device, || {
            let slots = grads.iter_mut().map(Option::as_mut);
            let mut slots: Vec<GradSlot> =
                slots.map(|g| g.map_or(GradSlot::Skip, |g| GradSlot::Write(g.view_mut()))).collect();
            let saved = Saved { tensors: outputs.saved.tensors.clone(), philox: outputs.saved.philox };
            case.op.backward(&mut cx(), saved, &grad_outs, &mut slots);
        });
        println!("   {}", self.rates(case.op.cost(Pass::Backward, &inputs), backward));
        if self.device == Device::Cpu {
            let cx = || Cx::new(self.device, case.training, false, case.seed, 0);
            let forward = best(self.device, || drop(case.op.forward(&mut cx(), &inputs)));
            println!("{:<56} {}", "    in inference", self.rates(case.op.cost(Pass::Forward, &inputs), forward));
        }
        self.device.cuda().map_or(Ok(()), Cuda::check).with_context(|| name.to_string())
    }

    fn rates(&self, cost: Cost, seconds: f64) -> String {
        let giga = |v: f64| v / seconds / 1e9;
        let least = self.device.cuda().and_then(|cuda| least_seconds(&cuda.name(), self.dtype, cost));
        let part = least.map_or("-".into(), |least| format!("{:.0}", 100.0 * least / seconds));
        format!("{:>10.4} {:>9.1} {:>7.1} {part:>5}", seconds * 1e3, giga(cost.flops), giga(cost.bytes))
    }
}

/// The best time of a call, in seconds; on a GPU of one among many, as it works on them without waiting for the host.
fn best(device: Device, mut f: impl FnMut()) -> f64 {
    let wait = || device.cuda().map(Cuda::synchronize);
    let mut time = |calls: u32| {
        let start = Instant::now();
        (0..calls).for_each(|_| f());
        wait();
        start.elapsed().as_secs_f64() / f64::from(calls)
    };
    let start = Instant::now();
    let mut best = time(1); // compiles kernels, too
    while start.elapsed() < TIME {
        let calls = device.cuda().map_or(1.0, |_| (ROUND.as_secs_f64() / best).clamp(1.0, 1000.0));
        best = best.min(time(calls as u32));
    }
    best
}

/// What a GPU needs at least, by NVIDIA's data sheets: bytes a second of memory, operations a second of tensor cores on
/// halves (dense) and of f32 outside of them. `None` for one that is not listed.
fn least_seconds(name: &str, dtype: DType, cost: Cost) -> Option<f64> {
    const PEAKS: [(&str, f64, f64, f64); 8] = [
        ("A100-SXM4-80GB", 2.04e12, 312e12, 19.5e12),
        ("A100 80GB PCIe", 1.94e12, 312e12, 19.5e12),
        ("A100", 1.56e12, 312e12, 19.5e12),
        ("H100 PCIe", 2.0e12, 756e12, 51e12),
        ("H100 NVL", 3.9e12, 835e12, 60e12),
        ("H100", 3.35e12, 989e12, 67e12),
        ("H200", 4.8e12, 989e12, 67e12),
        ("B200", 8.0e12, 2250e12, 75e12),
    ];
    let (_, memory, half, single) = PEAKS.into_iter().find(|(part, ..)| name.contains(part))?;
    let arithmetic = if dtype == DType::F32 { single } else { half };
    Some((cost.bytes / memory).max(cost.flops / arithmetic))
}
