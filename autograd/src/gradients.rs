//! What a backward pass leaves.

use std::collections::HashMap;

use mdetr_kernels::Tensor;

use crate::parameter::ParameterId;
use crate::var::Var;

/// The gradients that a backward pass left: one for each parameter that took part.
#[derive(Debug, Default)]
pub struct Gradients {
    pub(crate) parameters: HashMap<ParameterId, Tensor>,
    pub(crate) leaves: HashMap<usize, Tensor>,
}

impl Gradients {
    /// The gradient of a parameter; `None` when the loss does not depend on it.
    pub fn parameter(&self, id: ParameterId) -> Option<&Tensor> {
        self.parameters.get(&id)
    }

    /// The gradient of a leaf made by [`Tape::leaf`](crate::Tape::leaf).
    pub fn leaf(&self, var: &Var) -> Option<&Tensor> {
        self.leaves.get(&var.id)
    }

    /// Gradients with their parameters, in the order of the parameters.
    pub fn iter(&self) -> impl Iterator<Item = (ParameterId, &Tensor)> {
        let mut ids: Vec<_> = self.parameters.keys().copied().collect();
        ids.sort();
        ids.into_iter().map(|id| (id, &self.parameters[&id]))
    }
}

#[cfg(test)]
mod tests {
    use mdetr_kernels::activation::Activation;
    use mdetr_kernels::{Device, Precision, Tensor};

    use crate::functional as f;
    use crate::{Gradients, Layout, Parameter, Parameters, Tape};

    const NAMES: [&str; 3] = ["w", "b", "only_in_the_first"];

    fn parameters() -> Parameters {
        let mut parameters = Parameters::default();
        for (name, shape) in NAMES.into_iter().zip([&[1, 1][..], &[1], &[1]]) {
            parameters.push(Parameter {
                name: name.into(),
                value: Tensor::from_slice(&[0.5f32], shape, Device::Cpu),
                copy: None,
                in_compute_dtype: false,
                layout: Layout::AsIs,
                is_buffer: false,
                requires_grad: true,
            });
        }
        parameters
    }

    /// Of w x + b, and of another parameter if `first`, added to `earlier`.
    fn gradients(parameters: &Parameters, x: f32, first: bool, earlier: Gradients) -> Gradients {
        let tape = Tape::evaluating_with_gradients(parameters, Device::Cpu, Precision::F32);
        let [w, b, other] = NAMES.map(|name| tape.parameter(parameters.find(name).unwrap()));
        let y = f::linear(&tape.constant(Tensor::from_slice(&[x], &[1, 1], Device::Cpu)), &w, &b, Activation::None);
        let loss = match first {
            true => f::weighted_sum(&[(&y, 1.0), (&other, 7.0)]),
            false => f::weighted_sum(&[(&y, 1.0)]),
        };
        tape.backward_onto(&loss, Tensor::scalar(2.0f32, Device::Cpu), earlier)
    }

    #[test]
    fn a_later_tape_adds_to_what_an_earlier_one_left() {
        let parameters = parameters();
        let first = gradients(&parameters, 3.0, true, Gradients::default());
        let sum = gradients(&parameters, 5.0, false, first);
        let values: Vec<f64> = sum.iter().map(|(_, g)| g.item()).collect();
        assert_eq!(values, [2.0 * 8.0, 2.0 * 2.0, 14.0]);
    }
}
