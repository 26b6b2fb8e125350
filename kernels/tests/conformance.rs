//! Every op's fast version against its f64 reference, in f32 and, where the model does, in the half types: forward, with and
//! without a backward to come, backward, and the three kinds of gradient slot, on every fixed case and on drawn ones, with
//! outputs poisoned beforehand.

use mdetr_kernels::case::{Case, Draw};
use mdetr_kernels::op::{Cx, GradSlot, Op, Outputs};
use mdetr_kernels::philox::Philox;
use mdetr_kernels::registry::OPS;
use mdetr_kernels::tensor::poison_empty_tensors;
use mdetr_kernels::{DType, Device, Tensor, rounding};

/// Ops that run in a half type, and their inputs that stay f32 then.
const IN_HALF: [(&str, &[&str]); 12] = [
    ("add", &[]),
    ("attention", &[]),
    ("cast", &[]),
    ("conv2d", &["w", "scale", "bias"]),
    ("dropout", &[]),
    ("gather_rows", &[]),
    ("group_norm", &["w", "b"]),
    ("layer_norm", &["w", "b"]),
    ("linear", &["b"]),
    ("max_pool", &[]),
    ("mean_rows", &[]),
    ("residual_norm", &["w", "b"]),
];

/// The types that a case runs in. A reference sees the values that the fast version sees, in f64.
#[derive(Clone, Copy)]
struct Run {
    /// Of activations, f32 or a half type.
    dtype: DType,
    reference: bool,
    /// Whether a backward will come.
    saving: bool,
}

impl Run {
    fn of_input(self, case: &Case, name: &str) -> DType {
        let in_f32 = IN_HALF.iter().any(|(op, names)| *op == case.op.name() && names.contains(&name));
        if in_f32 { DType::F32 } else { self.dtype }
    }

    fn rounded(self, x: &Tensor, dtype: DType) -> Tensor {
        let rounded = x.to_dtype(dtype);
        if self.reference { rounded.to_dtype(DType::F64) } else { rounded }
    }

    fn inputs(self, case: &Case) -> Vec<Tensor> {
        let made = case.inputs.iter().zip(case.make_inputs(DType::F32));
        made.map(|(input, x)| if input.index { x } else { self.rounded(&x, self.of_input(case, input.name)) })
            .collect()
    }
}

fn forward(case: &Case, run: Run) -> Outputs {
    let inputs = run.inputs(case);
    let mut cx = Cx::new(Device::Cpu, case.training, run.saving, case.seed, 0);
    rounding::forward(&*case.op, &mut cx, &inputs.iter().collect::<Vec<_>>())
}

/// Gradients of every input; `before` is what the slots hold, `None` for a fresh write. Skips input `skip`.
fn backward(case: &Case, run: Run, before: Option<f64>, skip: Option<usize>) -> Vec<Option<Tensor>> {
    let outputs = forward(case, run);
    let grad_outs: Vec<Option<Tensor>> = outputs
        .tensors
        .iter()
        .enumerate()
        .map(|(i, y)| {
            let philox = Philox { seed: case.seed, stream: 100 + i as u64 };
            let values: Vec<f64> = (0..y.len()).map(|j| f64::from(philox.uniform(j as u64)) - 0.5).collect();
            let grad = Tensor::from_slice(&values, y.shape(), Device::Cpu).to_dtype(DType::F32);
            let is_used = y.dtype().is_float() && case.unused_output != Some(i);
            is_used.then(|| grad.to_dtype(run.dtype).to_dtype(y.dtype()))
        })
        .collect();
    let mut grads: Vec<Option<Tensor>> = case
        .inputs
        .iter()
        .zip(run.inputs(case))
        .enumerate()
        .map(|(i, (input, x))| {
            let wanted = input.differentiable && Some(i) != skip;
            wanted.then(|| match before {
                None => Tensor::empty(&input.shape, x.dtype(), Device::Cpu),
                Some(v) => Tensor::from_slice(&vec![v; x.len()], &input.shape, Device::Cpu).to_dtype(x.dtype()),
            })
        })
        .collect();
    let mut slots: Vec<GradSlot> = grads
        .iter_mut()
        .map(|g| match (g, before) {
            (None, _) => GradSlot::Skip,
            (Some(g), None) => GradSlot::Write(g.view_mut()),
            (Some(g), Some(_)) => GradSlot::Accumulate(g.view_mut()),
        })
        .collect();
    let mut cx = Cx::new(Device::Cpu, case.training, true, case.seed, 0);
    let grad_outs: Vec<Option<&Tensor>> = grad_outs.iter().map(Option::as_ref).collect();
    rounding::backward(&*case.op, &mut cx, outputs.saved, &grad_outs, &mut slots);
    drop(slots);
    grads
}

/// What a case allows beside the rounding of its f32 arithmetic: rounding the result to a half type errs by half a unit in
/// its last place. conv2d's products of weight and scale are rounded as well, and sums of them may cancel.
fn half_tolerance(case: &Case, dtype: DType) -> f64 {
    let unit = match dtype {
        DType::F16 => 2f64.powi(-11),
        DType::BF16 => 2f64.powi(-8),
        _ => 0.0,
    };
    if case.op.name() == "conv2d" { 16.0 * unit } else { 1.01 * unit }
}

#[track_caller]
fn assert_close(what: &str, case: &Case, tolerance: f64, got: &Tensor, want: &[f64]) {
    let got = got.to_f64_vec();
    assert_eq!(got.len(), want.len());
    // A gradient that cancels to less than a hundredth is compared with the terms that cancelled.
    let scale = want.iter().fold(1e-2f64, |m, v| m.max(v.abs()));
    let worst = got.iter().zip(want).map(|(g, w)| if g == w { 0.0 } else { (g - w).abs() }).fold(0.0, f64::max);
    let finite = got.iter().all(|v| v.is_finite());
    assert!(
        worst <= tolerance * scale && finite,
        "{} ({}): {what} is off by {worst:.2e} of {scale:.2e}, allowed {tolerance:.0e} relative\n{case:?}",
        case.op.name(),
        case.name
    );
}

fn conforms(case: &Case, dtype: DType) {
    let fast = Run { dtype, reference: false, saving: true };
    let exact = Run { reference: true, ..fast };
    let allowed = half_tolerance(case, dtype);
    let reference = forward(case, exact);
    for (run, what) in [(fast, "output"), (Run { saving: false, ..fast }, "output in inference")] {
        let outputs = forward(case, run);
        assert_eq!(outputs.tensors.len(), reference.tensors.len(), "{}: {what}s", case.op.name());
        for (i, (f, r)) in outputs.tensors.iter().zip(&reference.tensors).enumerate() {
            assert_eq!(f.shape(), r.shape());
            if case.op.name() != "cast" {
                assert!(!f.dtype().is_float() || f.dtype() == dtype, "{}: {what} {i} is {f:?}", case.op.name());
            }
            assert_close(&format!("{dtype:?} {what} {i}"), case, case.tolerance + allowed, f, &r.to_f64_vec());
        }
    }
    if !case.inputs.iter().any(|i| i.differentiable) {
        return;
    }
    let reference = backward(case, exact, None, None);
    let written = backward(case, fast, None, None);
    let accumulated = backward(case, fast, Some(0.5), None);
    for (i, input) in case.inputs.iter().enumerate() {
        let Some(reference) = &reference[i] else { continue };
        let want = reference.to_f64_vec();
        let what = format!("{dtype:?} gradient of {}", input.name);
        let tolerance = 4.0 * case.tolerance + allowed;
        assert_close(&what, case, tolerance, written[i].as_ref().unwrap(), &want);
        let added: Vec<f64> = want.iter().map(|v| v + 0.5).collect();
        let what = format!("accumulated {what}");
        assert_close(&what, case, tolerance, accumulated[i].as_ref().unwrap(), &added);
        // Leaving one gradient out changes no bit of the others.
        for (j, other) in backward(case, fast, None, Some(i)).iter().enumerate() {
            if let (Some(a), Some(b)) = (other, &written[j]) {
                assert_eq!(
                    a.to_f64_vec(),
                    b.to_f64_vec(),
                    "{} ({}): skipping {}",
                    case.op.name(),
                    case.name,
                    input.name
                );
            }
        }
    }
}

fn all_conform(dtype: DType, is_meant: impl Fn(&Case) -> bool) {
    poison_empty_tensors();
    let only = std::env::var("OP").ok();
    for op in OPS.iter().filter(|op| only.as_deref().is_none_or(|name| name == op.name)) {
        let drawn = (0..24u64).map(|seed| {
            let choices: Vec<u32> = (0..24).map(|i| Philox { seed, stream: 0 }.word(i)).collect();
            (op.draw)(&mut Draw::new(&choices))
        });
        let cases = (op.cases)().into_iter().chain(drawn);
        cases.filter(|case| !case.only_for_benches && is_meant(case)).for_each(|case| conforms(&case, dtype));
    }
}

#[test]
fn fast_versions_conform_to_references() {
    all_conform(DType::F32, |_| true);
}

#[test]
fn half_types_round_results_once() {
    for dtype in [DType::F16, DType::BF16] {
        // Rounding knows nothing of sizes but blocks.
        let is_small = |case: &Case| case.inputs.iter().all(|i| i.shape.iter().product::<usize>() <= 1 << 15);
        all_conform(dtype, |case| IN_HALF.iter().any(|(op, _)| *op == case.op.name()) && is_small(case));
    }
}
