//! Steps of the optimizer on a GPU against the CPU's.

use mdetr_kernels::cuda::Cuda;
use mdetr_kernels::optimizer_step::{
    self, DeviceGradient, DeviceState, DeviceUpdate, Gradient, Rule, STATUS_LEN, StepOptions, Update,
};
use mdetr_kernels::philox::Philox;
use mdetr_kernels::{DType, Device, Tensor};

/// A parameter on both devices.
struct Parameter {
    host: [Tensor; 4], // value, m, v, ema
    device: [Tensor; 4],
    copy: Option<Tensor>,
    grad_dtype: DType,
    updates: usize,
}

const RATES: [f32; 3] = [1e-2, 1e-3, 5e-3];
const WEIGHT_DECAY: f64 = 1e-2;

fn normal(n: usize, stream: u64, factor: f64) -> Tensor {
    let values: Vec<f64> = (0..n).map(|i| factor * Philox { seed: 3, stream }.normal(i as u64)).collect();
    Tensor::from_slice(&values, &[n], Device::Cpu).to_dtype(DType::F32)
}

/// On the device; those whose length is odd one element behind where an allocation begins.
fn on_device(t: &Tensor, cuda: &'static Cuda) -> Tensor {
    let (n, shift) = (t.len(), t.len() % 2);
    let values = [vec![0.0; shift], t.to_f64_vec()].concat();
    let shifted = Tensor::from_slice(&values, &[n + shift], Device::Cpu).to_dtype(t.dtype());
    shifted.to_device(Device::Cuda(cuda)).slice(shift..n + shift)
}

fn parameter(n: usize, stream: u64, grad_dtype: DType, cuda: &'static Cuda) -> Parameter {
    let value = normal(n, stream, 1.0);
    let zeros = || Tensor::zeros(&[n], DType::F32, Device::Cpu);
    let host = [value.copy(), zeros(), zeros(), value.copy()];
    let device = [0, 1, 2, 3].map(|i| on_device(&host[i], cuda));
    let copy = (grad_dtype != DType::F32).then(|| on_device(&value.to_dtype(grad_dtype), cuda));
    Parameter { host, device, copy, grad_dtype, updates: 0 }
}

/// A step on both; `grads` are unscaled, `None` for no gradient. Returns (norm, status).
fn step(
    parameters: &mut [Parameter],
    grads: &[Option<Tensor>],
    state: &mut DeviceState,
    scale: f64,
    rule: Rule,
    cuda: &'static Cuda,
) -> (Option<f64>, Vec<f32>) {
    let device = Device::Cuda(cuda);
    let scaled: Vec<Option<Tensor>> = parameters
        .iter()
        .zip(grads)
        .map(|(p, g)| {
            let values: Vec<f64> = g.as_ref()?.to_f64_vec().iter().map(|v| v * scale).collect();
            Some(on_device(&Tensor::from_slice(&values, &[values.len()], Device::Cpu).to_dtype(p.grad_dtype), cuda))
        })
        .collect();
    let options = StepOptions { rule, ..StepOptions::default() };
    let mut status = Tensor::zeros(&[STATUS_LEN], DType::F32, device);
    let mut updates: Vec<DeviceUpdate> = parameters
        .iter_mut()
        .zip(&scaled)
        .enumerate()
        .map(|(i, (p, grad))| {
            let [value, m, v, ema] = &mut p.device;
            let gradient = grad.as_ref().map(|grad| DeviceGradient { grad, m, v: rule.has_square().then_some(v) });
            DeviceUpdate { value, copy: p.copy.as_mut(), ema: Some(ema), gradient, group: i % 3 }
        })
        .collect();
    let rates = Tensor::from_slice(&RATES, &[3], device);
    let slot = &mut status.view_mut();
    optimizer_step::step_on_device(cuda, slot, &mut updates, state, &rates, WEIGHT_DECAY, &options);
    drop(updates);

    // The host's gradient is what the device's is, unscaled.
    let seen: Vec<Option<Tensor>> = scaled
        .iter()
        .map(|g| {
            let values: Vec<f64> = g.as_ref()?.to_f64_vec().iter().map(|v| v / scale).collect();
            Some(Tensor::from_slice(&values, &[values.len()], Device::Cpu).to_dtype(DType::F32))
        })
        .collect();
    let mut updates: Vec<Update> = parameters
        .iter_mut()
        .zip(&seen)
        .enumerate()
        .map(|(i, (p, grad))| {
            let [value, m, v, ema] = &mut p.host;
            let (step, lr) = (p.updates + 1, f64::from(RATES[i % 3]));
            let v = rule.has_square().then_some(v);
            let gradient = grad.as_ref().map(|grad| Gradient { grad, m, v, step, lr, weight_decay: WEIGHT_DECAY });
            Update { value, ema: Some(ema), copy: None, gradient }
        })
        .collect();
    let norm = optimizer_step::step(&mut updates, &options).ok();
    drop(updates);
    if norm.is_some() {
        parameters.iter_mut().zip(grads).for_each(|(p, g)| p.updates += usize::from(g.is_some()));
    }
    (norm, status.to_device(Device::Cpu).as_slice::<f32>().to_vec())
}

#[track_caller]
fn assert_same(parameters: &[Parameter]) {
    for (i, p) in parameters.iter().enumerate() {
        for (name, (host, device)) in ["value", "m", "v", "ema"].iter().zip(p.host.iter().zip(&p.device)) {
            let (want, got) = (host.to_f64_vec(), device.to_f64_vec());
            let scale = want.iter().fold(1e-12f64, |m, v| m.max(v.abs()));
            let worst = want.iter().zip(&got).map(|(w, g)| (w - g).abs()).fold(0.0, f64::max);
            assert!(worst <= 2e-6 * scale, "{name} of parameter {i} is off by {worst:.2e} of {scale:.2e}");
        }
        if let Some(copy) = &p.copy {
            let want = p.device[0].to_device(Device::Cpu).to_dtype(copy.dtype());
            assert_eq!(copy.to_f64_vec(), want.to_f64_vec(), "copy of parameter {i}");
        }
    }
}

#[test]
fn steps() {
    super::on_gpu("optimizer_step::steps", |cuda| {
        [Rule::ADAMW, Rule::SGD].iter().for_each(|&rule| steps_by(rule, cuda))
    });
}

fn steps_by(rule: Rule, cuda: &'static Cuda) {
    let sizes = [(1, DType::F32), (4096, DType::F16), (4999, DType::BF16), (300, DType::F32), (7, DType::F16)];
    let mut parameters: Vec<Parameter> =
        sizes.iter().enumerate().map(|(i, &(n, dtype))| parameter(n, i as u64, dtype, cuda)).collect();
    let mut state = DeviceState::new(cuda, parameters.len(), Some(1024.0), 3);
    let grads = |s: u64| -> Vec<Option<Tensor>> {
        let grad = |i: usize| normal(sizes[i].0, 100 * (s + 1) + i as u64, 1e-3 * (s + 1) as f64);
        (0..sizes.len()).map(|i| (i != 3 || s == 1).then(|| grad(i))).collect()
    };
    for s in 0..2 {
        let (norm, status) = step(&mut parameters, &grads(s), &mut state, 1024.0, rule, cuda);
        assert!((f64::from(status[0]) / norm.unwrap() - 1.0).abs() < 1e-5, "{status:?}");
        assert_eq!(status[1..], [1024.0, -1.0]);
        assert_same(&parameters);
    }
    // One infinity: nothing is touched, its parameter is named, the scale halves.
    let mut bad = grads(2);
    let mut values = bad[2].as_ref().unwrap().to_f64_vec();
    values[4500] = f64::INFINITY;
    bad[2] = Some(Tensor::from_slice(&values, &[4999], Device::Cpu).to_dtype(DType::F32));
    let before: Vec<Vec<f64>> = parameters.iter().flat_map(|p| p.device.iter().map(Tensor::to_f64_vec)).collect();
    let (norm, status) = step(&mut parameters, &bad, &mut state, 1024.0, rule, cuda);
    let after: Vec<Vec<f64>> = parameters.iter().flat_map(|p| p.device.iter().map(Tensor::to_f64_vec)).collect();
    assert!(norm.is_none() && before == after);
    assert_eq!(status[1..], [1024.0, 2.0]);
    // Three good steps at half the scale double it.
    for s in 3..6 {
        let (_, status) = step(&mut parameters, &grads(s), &mut state, 512.0, rule, cuda);
        assert_eq!(status[1], 512.0);
    }
    assert_same(&parameters);
    assert_eq!(state.loss_scale().item(), 1024.0);
    assert_eq!(state.steps(), [5, 5, 5, 1, 5]);
}
