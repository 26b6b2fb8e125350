//! Times ops on their registered cases: `cargo bench -p mdetr-kernels --bench ops -- conv2d group_norm`. A word keeps
//! the cases whose `op/case` contains it (`conv2d/layer3`); no word keeps all.
//!
//! Prints the best of half a second's runs of forward, then of backward with the gradients of all inputs, with the rates
//! that the op's cost model implies.

use std::time::{Duration, Instant};

use mdetr_kernels::case::Case;
use mdetr_kernels::op::{Cx, GradSlot, Outputs, Pass};
use mdetr_kernels::registry::OPS;
use mdetr_kernels::{DType, Device, Tensor};

/// How long to repeat a measurement.
const TIME: Duration = Duration::from_millis(500);

fn main() {
    let words: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with('-')).collect();
    println!(
        "{:<48} {:>10} {:>9} {:>7}   {:>10} {:>9} {:>7}",
        "", "forward ms", "GFLOP/s", "GB/s", "backward", "GFLOP/s", "GB/s"
    );
    for op in OPS {
        for case in (op.cases)() {
            let name = format!("{}/{}", op.name, case.name);
            if words.is_empty() || words.iter().any(|w| name.contains(w)) {
                bench(&name, &case);
            }
        }
    }
}

fn bench(name: &str, case: &Case) {
    let inputs = case.make_inputs(DType::F32);
    let inputs: Vec<&Tensor> = inputs.iter().collect();
    let mut cx = Cx::new(Device::Cpu, case.training, true, case.seed, 0);
    let (forward, outputs) = best(|| (), |()| case.op.forward(&mut cx, &inputs));
    print!("{name:<48} {}", rates(case, Pass::Forward, &inputs, forward));
    let grad_outs: Vec<Option<Tensor>> =
        outputs.tensors.iter().map(|y| y.dtype().is_float().then(|| y.copy())).collect();
    let grad_outs: Vec<Option<&Tensor>> = grad_outs.iter().map(Option::as_ref).collect();
    let mut grads: Vec<Option<Tensor>> = case
        .inputs
        .iter()
        .map(|input| input.differentiable.then(|| Tensor::zeros(&input.shape, DType::F32, Device::Cpu)))
        .collect();
    let mut cx = Cx::new(Device::Cpu, case.training, true, case.seed, 0);
    let (backward, ()) = best(
        || case.op.forward(&mut Cx::new(Device::Cpu, case.training, true, case.seed, 0), &inputs),
        |Outputs { saved, .. }| {
            let mut slots: Vec<GradSlot> = grads
                .iter_mut()
                .map(|g| g.as_mut().map_or(GradSlot::Skip, |g| GradSlot::Write(g.view_mut())))
                .collect();
            case.op.backward(&mut cx, saved, &grad_outs, &mut slots);
        },
    );
    println!("   {}", rates(case, Pass::Backward, &inputs, backward));
}

/// The best time of `f`, in seconds, and its last result.
fn best<I, O>(mut prepare: impl FnMut() -> I, mut f: impl FnMut(I) -> O) -> (f64, O) {
    let start = Instant::now();
    let mut best = f64::INFINITY;
    loop {
        let input = prepare();
        let call = Instant::now();
        let output = std::hint::black_box(f(input));
        best = best.min(call.elapsed().as_secs_f64());
        if start.elapsed() > TIME {
            return (best, output);
        }
    }
}

fn rates(case: &Case, pass: Pass, inputs: &[&Tensor], seconds: f64) -> String {
    let cost = case.op.cost(pass, inputs);
    let giga = |v: f64| v / seconds / 1e9;
    format!("{:>10.3} {:>9.1} {:>7.1}", seconds * 1e3, giga(cost.flops), giga(cost.bytes))
}
