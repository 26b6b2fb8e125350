//! A sum in which the second term is repeated over the leading axes of the first:
//!
//! ```text
//! y[i] = a[i] + b[i mod |b|]        the shape of b is the trailing shape of a
//! ```
//!
//! db sums over the repetitions. Nothing is saved.

pub mod cases;
mod cpu;
mod cuda;
mod reference;

pub use cuda::KERNELS;

use crate::op::{Cost, Cx, GradSlot, Op, Outputs, Pass, Saved};
use crate::{DType, Device, Tensor};

/// Inputs a (..., S) and b (S), S any shape; output y (..., S).
#[derive(Clone, Copy, Debug)]
pub struct Add;

impl Op for Add {
    fn name(&self) -> &'static str {
        "add"
    }

    #[track_caller]
    fn forward(&self, cx: &mut Cx, inputs: &[&Tensor]) -> Outputs {
        let &[a, b] = inputs else { panic!("add: takes a, b") };
        assert!(
            a.shape().ends_with(b.shape()),
            "add: b is {:?}, which is not the trailing shape of a {:?}",
            b.shape(),
            a.shape()
        );
        let mut y = Tensor::empty(a.shape(), a.dtype(), cx.device);
        match a.dtype() {
            _ if let Device::Cuda(cuda) = cx.device => cuda::forward(cuda, &mut y, a, b),
            DType::F32 => cpu::forward(y.as_mut_slice(), a.as_slice(), b.as_slice()),
            DType::F64 => reference::forward::<f64>(y.as_mut_slice(), a.as_slice(), b.as_slice()),
            other => panic!("add: dtype {other:?} has no CPU implementation"),
        }
        Outputs::one(y, Saved::default())
    }

    fn backward(&self, cx: &mut Cx, _: Saved, grad_outs: &[Option<&Tensor>], grads: &mut [GradSlot]) {
        let Some(dy) = grad_outs[0] else { return };
        let [da, db] = grads else { panic!("add: two gradients") };
        match dy.dtype() {
            _ if let Device::Cuda(cuda) = cx.device => cuda::backward(cuda, da, db, dy),
            DType::F32 => cpu::backward(da, db, dy.as_slice()),
            _ => reference::backward::<f64>(da, db, dy.as_slice()),
        }
    }

    fn cost(&self, pass: Pass, inputs: &[&Tensor]) -> Cost {
        let (a, b, size) = (inputs[0].len(), inputs[1].len(), inputs[0].dtype().size());
        match pass {
            Pass::Forward => Cost::new(a, (2 * a + b) * size),
            Pass::Backward => Cost::new(a - b.min(a), (2 * a + b) * size),
        }
    }
}
