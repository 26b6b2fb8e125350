//! Another float type:
//!
//! ```text
//! y = x as `to`, to nearest, ties to even
//! ```
//!
//! The gradient takes the way back: dx = dy in the type of x. An f64 x stays f64: the reference path is not rounded.
//! Nothing is saved.

pub mod cases;
mod cuda;

pub use cuda::KERNELS;

use crate::op::{Cost, Cx, GradSlot, Op, Outputs, Pass, Saved};
use crate::{DType, Device, Tensor, rounding};

/// Input x of any shape and float type; output y of the same shape.
#[derive(Clone, Copy, Debug)]
pub struct Cast {
    /// The type of y.
    pub to: DType,
}

impl Op for Cast {
    fn name(&self) -> &'static str {
        "cast"
    }

    #[track_caller]
    fn forward(&self, cx: &mut Cx, inputs: &[&Tensor]) -> Outputs {
        let &[x] = inputs else { panic!("cast: takes x") };
        let y = match cx.device {
            _ if x.dtype() == DType::F64 || x.dtype() == self.to => x.clone(),
            Device::Cpu => x.to_dtype(self.to),
            Device::Cuda(cuda) => {
                let mut y = Tensor::empty(x.shape(), self.to, cx.device);
                cuda::forward(cuda, &mut y, x);
                y
            }
        };
        Outputs::one(y, Saved::default())
    }

    fn backward(&self, cx: &mut Cx, _: Saved, grad_outs: &[Option<&Tensor>], grads: &mut [GradSlot]) {
        let Some(dy) = grad_outs[0] else { return };
        let [dx] = grads else { panic!("cast: one gradient") };
        match cx.device {
            Device::Cpu => rounding::store(dx, dy),
            Device::Cuda(cuda) => cuda::backward(cuda, dx, dy),
        }
    }

    fn cost(&self, _: Pass, inputs: &[&Tensor]) -> Cost {
        let &[x] = inputs else { panic!("cast: takes x") };
        Cost::new(0, x.len() * (x.dtype().size() + self.to.size()))
    }
}
