//! Scaling of the last axis to unit length:
//!
//! ```text
//! y = x / max(||x||, 1e-12)
//! ```
//!
//! Saved: y and per row ||x||.

pub mod cases;
mod cuda;
mod reference;

pub use cuda::KERNELS;

use crate::op::{Cost, Cx, GradSlot, Op, Outputs, Pass, Saved};
use crate::{Device, Tensor, dispatch_real};

/// Input x (..., C); output y (..., C).
#[derive(Clone, Copy, Debug)]
pub struct L2Normalize;

impl Op for L2Normalize {
    fn name(&self) -> &'static str {
        "l2_normalize"
    }

    #[track_caller]
    fn forward(&self, cx: &mut Cx, inputs: &[&Tensor]) -> Outputs {
        let &[x] = inputs else { panic!("l2_normalize: takes x") };
        let mut y = Tensor::empty(x.shape(), x.dtype(), cx.device);
        let mut norms = Tensor::empty(&[x.rows()], x.dtype().statistics(), cx.device);
        if let Device::Cuda(cuda) = cx.device {
            cuda::forward(cuda, &mut y, &mut norms, x);
        } else {
            dispatch_real!("l2_normalize", x.dtype(), T => {
                reference::forward::<T>(y.as_mut_slice(), norms.as_mut_slice(), x.as_slice(), x.last_axis());
            });
        }
        let saved = Saved::tensors([&y, &norms]);
        Outputs::one(y, saved)
    }

    fn backward(&self, cx: &mut Cx, saved: Saved, grad_outs: &[Option<&Tensor>], grads: &mut [GradSlot]) {
        let ([y, norms], Some(dy)) = (&saved.tensors[..], grad_outs[0]) else { return };
        let [dx] = grads else { panic!("l2_normalize: one gradient") };
        if let Device::Cuda(cuda) = cx.device {
            return cuda::backward(cuda, dx, dy, y, norms);
        }
        dispatch_real!("l2_normalize", dy.dtype(), T => {
            reference::backward::<T>(dx, dy.as_slice(), y.as_slice(), norms.as_slice(), dy.last_axis());
        });
    }

    fn cost(&self, pass: Pass, inputs: &[&Tensor]) -> Cost {
        let (n, size) = (inputs[0].len(), inputs[0].dtype().size());
        match pass {
            Pass::Forward => Cost::new(3 * n, 2 * n * size).saving(inputs[0].rows() * size),
            Pass::Backward => Cost::new(5 * n, 3 * n * size),
        }
    }
}
