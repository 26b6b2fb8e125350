//! Every op's kernels against its f64 reference: forward, backward, the three kinds of gradient slot, in every dtype and
//! variant, on every fixed case and on drawn ones.

use mdetr_kernels::case::{Case, Draw};
use mdetr_kernels::cuda::Cuda;
use mdetr_kernels::op::{Cx, GradSlot, Op, Outputs, Pass};
use mdetr_kernels::philox::Philox;
use mdetr_kernels::registry::{Entry, OPS};
use mdetr_kernels::{DType, Device, Tensor};
use serde_json::Value;

/// Arithmetic of a case's forward pass beyond which the simulator would take long.
const SIMULATED_FLOPS: f64 = 6e6;

/// Drawn cases a dtype.
const DRAWS: u64 = 6;

/// Half a unit in the last place of 1: what rounding to the type errs by, relatively.
pub fn rounding(dtype: DType) -> f64 {
    match dtype {
        DType::F16 => 2f64.powi(-11),
        DType::BF16 => 2f64.powi(-8),
        _ => 0.0, // in the case's own tolerance
    }
}

/// An f32 case's tolerance, and four roundings of the type: of the output, and of what the op rounds in between.
pub fn tolerance(case: &Case, dtype: DType) -> f64 {
    case.tolerance + 4.0 * rounding(dtype)
}

pub struct Run<'a> {
    case: &'a Case,
    device: Device,
    inputs: Vec<Tensor>,
}

impl<'a> Run<'a> {
    /// On the device, with the inputs as `dtype`.
    pub fn fast(case: &'a Case, device: Device, dtype: DType) -> Self {
        let inputs = case.make_inputs(dtype).iter().map(|t| t.to_device(device)).collect();
        Run { case, device, inputs }
    }

    /// In f64, with the same numbers.
    fn reference(case: &'a Case, dtype: DType) -> Self {
        let double = |t: &Tensor| if t.dtype().is_float() { t.to_dtype(DType::F64) } else { t.clone() };
        Run { case, device: Device::Cpu, inputs: case.make_inputs(dtype).iter().map(double).collect() }
    }

    fn cx(&self) -> Cx {
        Cx::new(self.device, self.case.training, true, self.case.seed, 0)
    }

    pub fn forward(&self) -> Outputs {
        self.case.op.forward(&mut self.cx(), &self.inputs.iter().collect::<Vec<_>>())
    }

    /// The gradient that an output gets, rounded as the fast version's output is.
    fn grad_out(&self, i: usize, y: &Tensor, rounded: DType) -> Option<Tensor> {
        let philox = Philox { seed: self.case.seed, stream: 100 + i as u64 };
        let values: Vec<f64> = (0..y.len()).map(|j| f64::from(philox.uniform(j as u64)) - 0.5).collect();
        let grad = Tensor::from_slice(&values, y.shape(), Device::Cpu).to_dtype(DType::F32).to_dtype(rounded);
        let is_used = y.dtype().is_float() && self.case.unused_output != Some(i);
        is_used.then(|| grad.to_dtype(y.dtype()).to_device(self.device))
    }

    /// Gradients of the inputs that are `needed`; `before` is what the slots hold, `None` for a fresh write.
    pub fn backward(
        &self,
        rounded: &[DType],
        before: Option<f64>,
        needed: impl Fn(usize) -> bool,
    ) -> Vec<Option<Tensor>> {
        let outputs = self.forward();
        let grad_outs: Vec<Option<Tensor>> =
            outputs.tensors.iter().enumerate().map(|(i, y)| self.grad_out(i, y, rounded[i])).collect();
        let mut grads: Vec<Option<Tensor>> = (self.case.inputs.iter().zip(&self.inputs).enumerate())
            .map(|(i, (input, t))| (input.differentiable && needed(i)).then(|| self.slot(t, before)))
            .collect();
        let mut slots: Vec<GradSlot> = grads
            .iter_mut()
            .map(|g| match (g, before) {
                (None, _) => GradSlot::Skip,
                (Some(g), None) => GradSlot::Write(g.view_mut()),
                (Some(g), Some(_)) => GradSlot::Accumulate(g.view_mut()),
            })
            .collect();
        let grad_outs: Vec<Option<&Tensor>> = grad_outs.iter().map(Option::as_ref).collect();
        self.case.op.backward(&mut self.cx(), outputs.saved, &grad_outs, &mut slots);
        drop(slots);
        grads
    }

    fn slot(&self, t: &Tensor, before: Option<f64>) -> Tensor {
        let Some(value) = before else { return Tensor::empty(t.shape(), t.dtype(), self.device) };
        let values = Tensor::from_slice(&vec![value; t.len()], t.shape(), Device::Cpu);
        values.to_dtype(t.dtype()).to_device(self.device)
    }
}

#[track_caller]
fn assert_close(what: &str, case: &Case, dtype: DType, tolerance: f64, got: &Tensor, want: &[f64]) {
    let got = got.to_f64_vec();
    assert_eq!(got.len(), want.len());
    // A gradient that cancels to less than a hundredth is compared with the terms that cancelled.
    let scale = want.iter().fold(1e-2f64, |m, v| m.max(v.abs()));
    let worst = got.iter().zip(want).map(|(g, w)| if g == w { 0.0 } else { (g - w).abs() }).fold(0.0, f64::max);
    let finite = got.iter().zip(want).all(|(g, w)| g.is_finite() || g == w);
    assert!(
        worst <= tolerance * scale && finite,
        "{} ({}) in {dtype:?}: {what} is off by {worst:.2e} of {scale:.2e}, allowed {tolerance:.0e} relative\n{case:?}",
        case.op.name(),
        case.name
    );
}

fn conforms(case: &Case, cuda: &'static Cuda, dtype: DType) {
    let (fast, reference) = (Run::fast(case, Device::Cuda(cuda), dtype), Run::reference(case, dtype));
    let (y, want) = (fast.forward().tensors, reference.forward().tensors);
    cuda.check().unwrap_or_else(|e| panic!("{} ({}) in {dtype:?}: {e:#}", case.op.name(), case.name));
    assert_eq!(y.len(), want.len());
    for (i, (y, want)) in y.iter().zip(&want).enumerate() {
        assert_eq!(y.shape(), want.shape());
        assert_close(&format!("output {i}"), case, dtype, tolerance(case, dtype), y, &want.to_f64_vec());
    }
    if !case.inputs.iter().any(|i| i.differentiable) {
        return;
    }
    let rounded: Vec<DType> = y.iter().map(Tensor::dtype).collect();
    let want = reference.backward(&rounded, None, |_| true);
    let written = fast.backward(&rounded, None, |_| true);
    let accumulated = fast.backward(&rounded, Some(0.5), |_| true);
    cuda.check().unwrap_or_else(|e| panic!("{} ({}) in {dtype:?}: {e:#}", case.op.name(), case.name));
    for (i, input) in case.inputs.iter().enumerate() {
        let Some(want) = &want[i] else { continue };
        let (want, tolerance) = (want.to_f64_vec(), 4.0 * tolerance(case, dtype));
        let what = format!("gradient of {}", input.name);
        assert_close(&what, case, dtype, tolerance, written[i].as_ref().unwrap(), &want);
        let added: Vec<f64> = want.iter().map(|v| v + 0.5).collect();
        let what = format!("accumulated {what}");
        assert_close(&what, case, dtype, tolerance, accumulated[i].as_ref().unwrap(), &added);
        // Leaving one gradient out, or all others, changes no bit of what is left.
        let (others, alone) = (fast.backward(&rounded, None, |j| j != i), fast.backward(&rounded, None, |j| j == i));
        for (what, some) in [("without", others), ("only", alone)] {
            for (some, all) in some.iter().zip(&written) {
                let (Some(some), Some(all)) = (some, all) else { continue };
                let what = || format!("{} ({}) in {dtype:?}: {what} {}", case.op.name(), case.name, input.name);
                assert_eq!(some.to_f64_vec(), all.to_f64_vec(), "{}", what());
            }
        }
    }
}

/// The same values, one element behind where an allocation begins: no vector load can read them.
fn unaligned(t: &Tensor) -> Tensor {
    let mut values = vec![0.0; t.len() + 1];
    values[1..].copy_from_slice(&t.to_f64_vec());
    let shifted = Tensor::from_slice(&values, &[values.len()], Device::Cpu).to_dtype(t.dtype()).to_device(t.device());
    shifted.slice(1..values.len()).reshape(t.shape())
}

/// Slices begin anywhere: where operands lie changes no result but by rounding.
fn works_unaligned(case: &Case, cuda: &'static Cuda, dtype: DType) {
    let fast = Run::fast(case, Device::Cuda(cuda), dtype);
    let inputs = fast.inputs.iter().map(unaligned).collect();
    let shifted = Run { inputs, ..Run::fast(case, Device::Cuda(cuda), dtype) };
    let (want, got) = (fast.forward().tensors, shifted.forward().tensors);
    for (want, got) in want.iter().zip(&got) {
        assert_close("unaligned output", case, dtype, tolerance(case, dtype), got, &want.to_f64_vec());
    }
    let rounded: Vec<DType> = want.iter().map(Tensor::dtype).collect();
    let all = |_| true;
    let grads = fast.backward(&rounded, None, all).into_iter().zip(shifted.backward(&rounded, None, all));
    for (want, got) in grads.filter_map(|(want, got)| want.zip(got)) {
        assert_close("unaligned gradient", case, dtype, 4.0 * tolerance(case, dtype), &got, &want.to_f64_vec());
    }
    cuda.check().unwrap_or_else(|e| panic!("{} ({}) in {dtype:?}: {e:#}", case.op.name(), case.name));
}

/// The slope of the kernels' own forward along a direction, against the reference's gradients.
fn slope_agrees(case: &Case, cuda: &'static Cuda) {
    const STEP: f64 = 1e-2;
    let (device, reference) = (Device::Cuda(cuda), Run::reference(case, DType::F32));
    let outputs = reference.forward().tensors;
    if Run::fast(case, device, DType::F32).forward().tensors.iter().any(|y| rounding(y.dtype()) > 0.0) {
        return; // a staircase has no slope
    }
    let exact: Vec<DType> = outputs.iter().map(|_| DType::F64).collect();
    let grads = reference.backward(&exact, None, |_| true);
    for (i, grad) in grads.iter().enumerate() {
        let Some(grad) = grad.as_ref().map(Tensor::to_f64_vec).filter(|g| !g.is_empty()) else { continue };
        // Along the gradient itself, where the slope is largest and an error shows.
        let length = grad.iter().map(|g| g * g).sum::<f64>().sqrt();
        if length < 1e-3 {
            continue;
        }
        let objective = |step: f64| -> f64 {
            let mut run = Run::fast(case, device, DType::F32);
            let values = reference.inputs[i].to_f64_vec();
            let moved: Vec<f64> = values.iter().zip(&grad).map(|(v, g)| v + step * g / length).collect();
            let moved = Tensor::from_slice(&moved, reference.inputs[i].shape(), Device::Cpu);
            run.inputs[i] = moved.to_dtype(DType::F32).to_device(device);
            let terms = run.forward().tensors.into_iter().enumerate().filter_map(|(j, y)| {
                let weights = reference.grad_out(j, &outputs[j], DType::F64)?.to_f64_vec();
                Some(y.to_f64_vec().iter().zip(weights).map(|(y, w)| y * w).sum::<f64>())
            });
            terms.sum()
        };
        let slope = (objective(STEP) - objective(-STEP)) / (2.0 * STEP);
        assert!(
            (slope - length).abs() <= 2e-2 * length + 1e-3,
            "{} ({}): the slope along the gradient of {} is {slope:.5}, its length {length:.5}\n{case:?}",
            case.op.name(),
            case.name,
            case.inputs[i].name
        );
    }
}

fn drawn(op: &Entry, seed: u64) -> Case {
    let choices: Vec<u32> = (0..24).map(|i| Philox { seed, stream: 0 }.word(i)).collect();
    (op.draw)(&mut Draw::new(&choices))
}

pub fn is_quick(case: &Case) -> bool {
    let inputs = case.make_inputs(DType::F32);
    case.op.cost(Pass::Forward, &inputs.iter().collect::<Vec<_>>()).flops <= SIMULATED_FLOPS
}

fn dtypes(case: &Case) -> &'static [DType] {
    if case.in_half { &[DType::F32, DType::F16, DType::BF16] } else { &[DType::F32] }
}

fn op_conforms(name: &str, cuda: &'static Cuda) {
    let op = OPS.iter().find(|op| op.name == name).expect("a registered op");
    let mut cases: Vec<Case> =
        (op.cases)().into_iter().filter(|c| !c.only_for_benches && (super::is_real() || is_quick(c))).collect();
    cases.extend((0..DRAWS).map(|seed| drawn(op, seed)));
    let all = |cuda| cases.iter().for_each(|case| dtypes(case).iter().for_each(|&dtype| conforms(case, cuda, dtype)));
    all(cuda);
    for (role, variant) in op.other_variants() {
        cuda.choose(role, Some(variant));
        all(cuda);
        cuda.choose(role, None);
    }
    cases.iter().for_each(|case| dtypes(case).iter().for_each(|&dtype| works_unaligned(case, cuda, dtype)));
    (0..DRAWS).for_each(|seed| slope_agrees(&drawn(op, seed), cuda));
}

/// A variant that a launch passes over in silence is not tested.
#[track_caller]
fn assert_all_launched(name: &str, launches: &Value) {
    let op = OPS.iter().find(|op| op.name == name).expect("a registered op");
    for declared in op.kernels.iter().flat_map(|source| source.declarations()).filter(|d| !d.is_library()) {
        assert!(launches[declared.kernel()]["count"].as_u64() > Some(0), "no case launched {}", declared.kernel());
    }
}

macro_rules! tests {
    ($($op:ident),*) => {
        $(
            #[test]
            fn $op() {
                let name = concat!("conformance::", stringify!($op));
                if let Some(report) = super::on_gpu(name, |cuda| op_conforms(stringify!($op), cuda)) {
                    assert_all_launched(stringify!($op), &report.json["launches"]);
                }
            }
        )*
    };
}

mdetr_kernels::for_each_op!(tests);
