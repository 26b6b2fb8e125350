//! Every op's fast f32 version against its f64 reference: forward, backward, and the three kinds of gradient slot, on
//! every fixed case and on drawn ones, with outputs poisoned beforehand.

use mdetr_kernels::case::{Case, Draw};
use mdetr_kernels::op::{Cx, GradSlot, Op, Outputs};
use mdetr_kernels::philox::Philox;
use mdetr_kernels::registry::OPS;
use mdetr_kernels::tensor::poison_empty_tensors;
use mdetr_kernels::{DType, Device, Tensor};

fn forward(case: &Case, dtype: DType) -> Outputs {
    let inputs = case.make_inputs(dtype);
    let mut cx = Cx::new(Device::Cpu, case.training, true, case.seed, 0);
    case.op.forward(&mut cx, &inputs.iter().collect::<Vec<_>>())
}

/// Gradients of every input; `before` is what the slots hold, `None` for a fresh write. Skips input `skip`.
fn backward(case: &Case, dtype: DType, before: Option<f64>, skip: Option<usize>) -> Vec<Option<Tensor>> {
    let outputs = forward(case, dtype);
    let grad_outs: Vec<Option<Tensor>> = outputs
        .tensors
        .iter()
        .enumerate()
        .map(|(i, y)| {
            let philox = Philox { seed: case.seed, stream: 100 + i as u64 };
            let values: Vec<f64> = (0..y.len()).map(|j| f64::from(philox.uniform(j as u64)) - 0.5).collect();
            let grad = Tensor::from_slice(&values, y.shape(), Device::Cpu).to_dtype(DType::F32).to_dtype(y.dtype());
            y.dtype().is_float().then_some(grad)
        })
        .collect();
    let mut grads: Vec<Option<Tensor>> = case
        .inputs
        .iter()
        .enumerate()
        .map(|(i, input)| {
            let wanted = input.differentiable && Some(i) != skip;
            wanted.then(|| match before {
                None => Tensor::empty(&input.shape, dtype, Device::Cpu),
                Some(v) => {
                    let n = input.shape.iter().product();
                    Tensor::from_slice(&vec![v; n], &input.shape, Device::Cpu).to_dtype(dtype)
                }
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
    case.op.backward(&mut cx, outputs.saved, &grad_outs, &mut slots);
    drop(slots);
    grads
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

fn conforms(case: &Case) {
    let (fast, reference) = (forward(case, DType::F32), forward(case, DType::F64));
    for (i, (f, r)) in fast.tensors.iter().zip(&reference.tensors).enumerate() {
        assert_eq!(f.shape(), r.shape());
        assert_close(&format!("output {i}"), case, case.tolerance, f, &r.to_f64_vec());
    }
    if !case.inputs.iter().any(|i| i.differentiable) {
        return;
    }
    let reference = backward(case, DType::F64, None, None);
    let written = backward(case, DType::F32, None, None);
    let accumulated = backward(case, DType::F32, Some(0.5), None);
    for (i, input) in case.inputs.iter().enumerate() {
        let Some(reference) = &reference[i] else { continue };
        let want = reference.to_f64_vec();
        let what = format!("gradient of {}", input.name);
        assert_close(&what, case, 4.0 * case.tolerance, written[i].as_ref().unwrap(), &want);
        let added: Vec<f64> = want.iter().map(|v| v + 0.5).collect();
        let what = format!("accumulated {what}");
        assert_close(&what, case, 4.0 * case.tolerance, accumulated[i].as_ref().unwrap(), &added);
        // Leaving one gradient out changes no bit of the others.
        for (j, other) in backward(case, DType::F32, None, Some(i)).iter().enumerate() {
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

#[test]
fn fast_versions_conform_to_references() {
    poison_empty_tensors();
    let only = std::env::var("OP").ok();
    for op in OPS.iter().filter(|op| only.as_deref().is_none_or(|name| name == op.name)) {
        for case in (op.cases)().iter().filter(|case| !case.only_for_benches) {
            conforms(case);
        }
        for seed in 0..24u64 {
            let choices: Vec<u32> = (0..24).map(|i| Philox { seed, stream: 0 }.word(i)).collect();
            conforms(&(op.draw)(&mut Draw::new(&choices)));
        }
    }
}
