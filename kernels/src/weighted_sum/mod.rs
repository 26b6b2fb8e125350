//! The total loss of several terms:
//!
//! ```text
//! y = sum over terms i and their elements j of weights[i][j] x_i[j]
//! ```
//!
//! Saved: on a GPU the weights.

pub mod cases;
mod cuda;
mod reference;

pub use cuda::KERNELS;

use crate::op::{Cost, Cx, GradSlot, Op, Outputs, Pass, Saved};
use crate::{DType, Device, Tensor, dispatch_real};

/// Inputs x_i of any shapes; output y ().
#[derive(Clone, Debug)]
pub struct WeightedSum {
    /// One weight an element of each input.
    pub weights: Vec<Vec<f64>>,
}

impl WeightedSum {
    /// All weights in f32, term by term.
    fn weights_on_device(&self, device: Device) -> Tensor {
        let weights: Vec<f32> = self.weights.iter().flatten().map(|&w| w as f32).collect();
        Tensor::from_slice(&weights, &[weights.len()], device)
    }
}

impl Op for WeightedSum {
    fn name(&self) -> &'static str {
        "weighted_sum"
    }

    #[track_caller]
    fn forward(&self, cx: &mut Cx, inputs: &[&Tensor]) -> Outputs {
        let (have, want): (Vec<usize>, Vec<usize>) =
            (inputs.iter().map(|x| x.len()).collect(), self.weights.iter().map(Vec::len).collect());
        assert_eq!(have, want, "weighted_sum: elements of the inputs, and their weights");
        let dtype = inputs.first().map_or(DType::F32, |x| x.dtype());
        let mut y = Tensor::empty(&[], dtype, cx.device);
        if let Device::Cuda(cuda) = cx.device {
            let weights = self.weights_on_device(cx.device);
            cuda::forward(cuda, &mut y, inputs, &weights);
            return Outputs::one(y, Saved::tensors([&weights]));
        }
        dispatch_real!("weighted_sum", dtype, T => {
            let inputs: Vec<&[T]> = inputs.iter().map(|x| x.as_slice()).collect();
            y.as_mut_slice::<T>()[0] = reference::forward(&inputs, &self.weights);
        });
        Outputs::one(y, Saved::default())
    }

    fn backward(&self, cx: &mut Cx, saved: Saved, grad_outs: &[Option<&Tensor>], grads: &mut [GradSlot]) {
        let Some(dy) = grad_outs[0] else { return };
        if let Device::Cuda(cuda) = cx.device {
            let counts: Vec<usize> = self.weights.iter().map(Vec::len).collect();
            return cuda::backward(cuda, grads, dy, &saved.tensors[0], &counts);
        }
        dispatch_real!("weighted_sum", dy.dtype(), T => reference::backward(grads, dy.as_slice::<T>()[0], &self.weights));
    }

    fn cost(&self, _: Pass, inputs: &[&Tensor]) -> Cost {
        let n: usize = inputs.iter().map(|x| x.len()).sum();
        Cost::new(2 * n, n * inputs.first().map_or(0, |x| x.dtype().size()))
    }
}
