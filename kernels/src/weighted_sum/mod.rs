//! The total loss of several terms:
//!
//! ```text
//! y = sum over terms i and their elements j of weights[i][j] x_i[j]
//! ```

pub mod cases;
mod reference;

use crate::op::{Cost, Cx, GradSlot, Op, Outputs, Pass, Saved};
use crate::{DType, Tensor, dispatch_real};

/// Kernels for GPUs: none yet.
pub const KERNELS: &[crate::kernel_source::KernelSource] = &[];

/// Inputs x_i of any shapes; output y ().
#[derive(Clone, Debug)]
pub struct WeightedSum {
    /// One weight an element of each input.
    pub weights: Vec<Vec<f64>>,
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
        dispatch_real!("weighted_sum", dtype, T => {
            let inputs: Vec<&[T]> = inputs.iter().map(|x| x.as_slice()).collect();
            y.as_mut_slice::<T>()[0] = reference::forward(&inputs, &self.weights);
        });
        Outputs::one(y, Saved::default())
    }

    fn backward(&self, _: &mut Cx, _: Saved, grad_outs: &[Option<&Tensor>], grads: &mut [GradSlot]) {
        let Some(dy) = grad_outs[0] else { return };
        dispatch_real!("weighted_sum", dy.dtype(), T => reference::backward(grads, dy.as_slice::<T>()[0], &self.weights));
    }

    fn cost(&self, _: Pass, inputs: &[&Tensor]) -> Cost {
        let n: usize = inputs.iter().map(|x| x.len()).sum();
        Cost::new(2 * n, n * inputs.first().map_or(0, |x| x.dtype().size()))
    }
}
