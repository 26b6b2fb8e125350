//! Numerical gradient checks: the tape's gradients in f64 against central differences.

use mdetr_kernels::case::{Case, Input, Values};
use mdetr_kernels::op::{Cx, Op};
use mdetr_kernels::{DType, Device, Precision, Tensor};

use crate::parameter::Parameters;
use crate::tape::Tape;

/// The step of the central differences: truncation errs by about step^2, rounding by about 1e-16 / step.
const STEP: f64 = 1e-5;

/// The largest relative error allowed.
pub const TOLERANCE: f64 = 1e-6;

/// Checks every differentiable input of a case. `Err` says which input disagrees and by how much.
pub fn check(case: &Case) -> Result<(), String> {
    let inputs = case.make_inputs(DType::F64);
    let outputs = forward(case, &inputs);
    let cotangents: Vec<Tensor> = outputs.iter().enumerate().map(|(i, y)| cotangent(y, i, case.seed)).collect();
    let analytic = analytic_gradients(case, &inputs, &cotangents);
    for (i, gradient) in analytic.into_iter().enumerate() {
        if !case.inputs[i].differentiable || inputs[i].is_empty() {
            continue;
        }
        let numeric = numeric_gradient(case, &inputs, i, &cotangents);
        let gradient = gradient.map_or_else(|| vec![0.0; numeric.len()], |g| g.to_f64_vec());
        let error = relative_error(&gradient, &numeric);
        if error > TOLERANCE {
            return Err(format!(
                "{} ({}): gradient of {} {:?} is off by {error:.2e} relative\n analytic {gradient:.8?}\n numeric  {numeric:.8?}\n{case:?}",
                case.op.name(),
                case.name,
                case.inputs[i].name,
                inputs[i].shape(),
            ));
        }
    }
    Ok(())
}

/// ||a - b|| / max(||a||, ||b||), with a floor that keeps gradients that are zero up to rounding out of the quotient.
fn relative_error(a: &[f64], b: &[f64]) -> f64 {
    let norm = |v: &mut dyn Iterator<Item = f64>| v.map(|x| x * x).sum::<f64>().sqrt();
    let scale = norm(&mut a.iter().copied()).max(norm(&mut b.iter().copied())).max(1e-3);
    norm(&mut a.iter().zip(b).map(|(a, b)| a - b)) / scale
}

fn forward(case: &Case, inputs: &[Tensor]) -> Vec<Tensor> {
    // A context of its own for every call: dropout draws the same mask each time.
    let mut cx = Cx::new(Device::Cpu, case.training, true, case.seed, 0);
    case.op.forward(&mut cx, &inputs.iter().collect::<Vec<_>>()).tensors
}

/// A fixed random gradient for an output.
fn cotangent(y: &Tensor, index: usize, seed: u64) -> Tensor {
    let input = Input::constant("cotangent", y.shape(), Values::Normal(1.0));
    input.tensor(DType::F64, seed.wrapping_add(1000 + index as u64))
}

fn analytic_gradients(case: &Case, inputs: &[Tensor], cotangents: &[Tensor]) -> Vec<Option<Tensor>> {
    let parameters = Parameters::default();
    let tape = match case.training {
        true => Tape::training(&parameters, Device::Cpu, Precision::F32, case.seed, 0),
        false => Tape::evaluating_with_gradients(&parameters, Device::Cpu, Precision::F32),
    };
    let vars: Vec<_> = inputs
        .iter()
        .zip(&case.inputs)
        .map(|(t, input)| if input.differentiable { tape.leaf(t.clone()) } else { tape.constant(t.clone()) })
        .collect();
    let outputs = tape.apply(case.op.clone(), &vars.iter().collect::<Vec<_>>());
    let seeds =
        outputs.iter().zip(cotangents).filter(|(y, _)| y.requires_grad()).map(|(y, c)| (y, c.clone())).collect();
    let gradients = tape.backward_from(seeds, |_, _| {});
    vars.iter().map(|v| gradients.leaf(v).cloned()).collect()
}

fn numeric_gradient(case: &Case, inputs: &[Tensor], index: usize, cotangents: &[Tensor]) -> Vec<f64> {
    let values = inputs[index].to_f64_vec();
    let objective = |values: &[f64]| -> f64 {
        let mut moved = inputs.to_vec();
        moved[index] = Tensor::from_slice(values, inputs[index].shape(), Device::Cpu);
        forward(case, &moved)
            .iter()
            .zip(cotangents)
            .filter(|(y, _)| y.dtype().is_float())
            .map(|(y, c)| y.to_f64_vec().iter().zip(c.to_f64_vec()).map(|(y, c)| y * c).sum::<f64>())
            .sum()
    };
    (0..values.len())
        .map(|i| {
            let mut moved = values.clone();
            moved[i] = values[i] + STEP;
            let up = objective(&moved);
            moved[i] = values[i] - STEP;
            (up - objective(&moved)) / (2.0 * STEP)
        })
        .collect()
}
