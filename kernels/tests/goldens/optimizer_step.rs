use mdetr_kernels::optimizer_step::{Gradient, NonFinite, Rule, StepOptions, Update, step};
use mdetr_kernels::philox::Philox;
use mdetr_kernels::{DType, Device, Tensor};
use serde_json::Value;

use crate::{assert_close, golden_path};

/// A parameter with its optimizer state.
#[derive(Clone)]
struct Parameter {
    value: Tensor,
    copy: Option<Tensor>,
    ema: Tensor,
    m: Tensor,
    v: Option<Tensor>,
    steps: usize,
}

const RULES: [Rule; 2] = [Rule::ADAMW, Rule::SGD];

impl Parameter {
    fn new(values: &[f64], dtype: DType, rule: Rule) -> Self {
        let value = Tensor::from_slice(values, &[values.len()], Device::Cpu).to_dtype(dtype);
        let zeros = || Tensor::zeros(value.shape(), dtype, Device::Cpu);
        let v = rule.has_square().then(zeros);
        Parameter { ema: value.copy(), copy: None, m: zeros(), v, steps: 0, value }
    }

    fn update<'a>(&'a mut self, grad: Option<&'a Tensor>, lr: f64, weight_decay: f64) -> Update<'a> {
        let Parameter { value, copy, ema, m, v, steps } = self;
        *steps += usize::from(grad.is_some());
        let gradient = grad.map(|grad| Gradient { grad, m, v: v.as_mut(), step: *steps, lr, weight_decay });
        Update { value, ema: Some(ema), copy: copy.as_mut(), gradient }
    }
}

fn floats(v: &Value) -> Vec<f64> {
    v.as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect()
}

/// Twelve steps of torch.optim.AdamW after clip_grad_norm_, with a moving average; a step of zero gradients, and one without a
/// gradient of the second parameter.
#[test]
fn adamw_trace() {
    trace("ops/adamw.json", |golden| Rule::AdamW {
        betas: floats(&golden["betas"]).try_into().unwrap(),
        eps: golden["eps"].as_f64().unwrap(),
    });
}

/// The same of torch.optim.SGD.
#[test]
fn sgd_trace() {
    trace("ops/sgd.json", |golden| Rule::Sgd { momentum: golden["momentum"].as_f64().unwrap() });
}

fn trace(file: &str, rule: impl Fn(&Value) -> Rule) {
    let path = golden_path(file);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let golden: Value = serde_json::from_str(&text).unwrap();
    let number = |v: &Value| v.as_f64().unwrap();
    let options = StepOptions {
        rule: rule(&golden),
        max_norm: Some(number(&golden["max_norm"])),
        loss_scale: 1.0,
        ema_decay: number(&golden["ema_decay"]),
    };
    let groups = golden["groups"].as_array().unwrap();
    for dtype in [DType::F64, DType::F32] {
        let mut parameters: Vec<Parameter> = golden["init"]
            .as_array()
            .unwrap()
            .iter()
            .map(|p| Parameter::new(&floats(p), dtype, options.rule))
            .collect();
        let steps = golden["raw_grads"].as_array().unwrap().iter().zip(golden["trace"].as_array().unwrap());
        for (at, (grads, want)) in steps.enumerate() {
            let tensor = |g: &Value| {
                let g = floats(g);
                Tensor::from_slice(&g, &[g.len()], Device::Cpu).to_dtype(dtype)
            };
            let grads: Vec<Option<Tensor>> =
                grads.as_array().unwrap().iter().map(|g| (!g.is_null()).then(|| tensor(g))).collect();
            let mut updates: Vec<Update> = parameters
                .iter_mut()
                .zip(&grads)
                .zip(groups)
                .map(|((p, g), group)| p.update(g.as_ref(), number(&group["lr"]), number(&group["weight_decay"])))
                .collect();
            let norm = step(&mut updates, &options).unwrap();
            let wanted_norm = number(&want["norm_before_clip"]);
            assert!(
                (norm - wanted_norm).abs() <= 1e-6 * wanted_norm,
                "step {at}: norm {norm}, recorded {wanted_norm}"
            );
            for (i, p) in parameters.iter().enumerate() {
                for (what, got, want) in [("value", &p.value, &want["params"][i]), ("ema", &p.ema, &want["ema"][i])] {
                    let want = floats(want);
                    let want = Tensor::from_slice(&want, &[want.len()], Device::Cpu);
                    assert_close(&format!("{dtype:?}, step {at}, {what} {i}"), got, &want, 1e-6);
                }
            }
        }
    }
}

fn normal(n: usize, stream: u64) -> Tensor {
    let values: Vec<f64> = (0..n).map(|i| Philox { seed: 7, stream }.normal(i as u64)).collect();
    Tensor::from_slice(&values, &[n], Device::Cpu).to_dtype(DType::F32)
}

/// The fast version against the f64 reference on sizes around its blocks, with and without clipping.
#[test]
fn fast_version_conforms() {
    for (max_norm, rule) in [None, Some(0.1)].into_iter().flat_map(|norm| RULES.map(|rule| (norm, rule))) {
        let options = StepOptions { rule, max_norm, ..StepOptions::default() };
        for n in [0, 1, 8191, 8192, 20_000] {
            let mut fast = Parameter::new(&normal(n, 1).to_f64_vec(), DType::F32, rule);
            let mut exact = Parameter::new(&normal(n, 1).to_f64_vec(), DType::F64, rule);
            for stream in 2..5 {
                let grad = normal(n, stream);
                let a = step(&mut [fast.update(Some(&grad), 1e-2, 0.1)], &options).unwrap();
                let b = step(&mut [exact.update(Some(&grad.to_dtype(DType::F64)), 1e-2, 0.1)], &options).unwrap();
                assert_eq!(a, b, "{n} elements: norms");
            }
            for (what, a, b) in [("value", &fast.value, &exact.value), ("ema", &fast.ema, &exact.ema)] {
                for (a, b) in a.to_f64_vec().into_iter().zip(b.to_f64_vec()) {
                    assert!((a - b).abs() <= 1e-6 * b.abs().max(1.0), "{n} elements, {options:?}: {what} {a}, {b}");
                }
            }
        }
    }
}

/// A scaled gradient in a half type makes the step of its unscaled value in f32, and the copy follows the master.
#[test]
fn half_gradients_and_copies() {
    for (dtype, loss_scale) in [(DType::F16, 1024.0), (DType::BF16, 1.0)] {
        for n in [0, 1, 8191, 20_000] {
            let [mut plain, mut mixed] =
                [(); 2].map(|()| Parameter::new(&normal(n, 1).to_f64_vec(), DType::F32, Rule::ADAMW));
            mixed.copy = Some(Tensor::zeros(&[n], dtype, Device::Cpu));
            let half = normal(n, 2).to_dtype(dtype);
            let unscaled: Vec<f32> = half.to_f64_vec().iter().map(|g| (g / loss_scale) as f32).collect();
            let grad = Tensor::from_slice(&unscaled, &[n], Device::Cpu);
            let a = step(&mut [plain.update(Some(&grad), 1e-2, 0.1)], &StepOptions::default()).unwrap();
            let options = StepOptions { loss_scale, ..StepOptions::default() };
            let b = step(&mut [mixed.update(Some(&half), 1e-2, 0.1)], &options).unwrap();
            assert_eq!(a, b, "{dtype:?}, {n} elements: norms");
            assert_eq!(plain.value.to_f64_vec(), mixed.value.to_f64_vec(), "{dtype:?}, {n} elements");
            let rounded = mixed.value.to_dtype(dtype).to_f64_vec();
            assert_eq!(mixed.copy.unwrap().to_f64_vec(), rounded, "{dtype:?}, {n} elements: copy");
        }
    }
}

/// A step with a gradient that is not finite touches nothing and names the first parameter to blame.
#[test]
fn non_finite() {
    for bad in [f32::NAN, f32::INFINITY] {
        let mut parameters: Vec<Parameter> =
            (0..3).map(|i| Parameter::new(&normal(5, i).to_f64_vec(), DType::F32, Rule::ADAMW)).collect();
        let before = parameters.clone().into_iter().map(|p| (p.value.to_f64_vec(), p.m.to_f64_vec()));
        let before: Vec<_> = before.collect();
        let mut grads: Vec<Tensor> = (3..6).map(|i| normal(5, i)).collect();
        grads[1].as_mut_slice::<f32>()[2] = bad;
        grads[2].as_mut_slice::<f32>()[0] = bad;
        let mut updates: Vec<Update> =
            parameters.iter_mut().zip(&grads).map(|(p, g)| p.update(Some(g), 0.1, 0.1)).collect();
        assert_eq!(step(&mut updates, &StepOptions::default()), Err(NonFinite { index: 1 }));
        let after: Vec<_> = parameters.iter().map(|p| (p.value.to_f64_vec(), p.m.to_f64_vec())).collect();
        assert_eq!(before, after);
    }
}
