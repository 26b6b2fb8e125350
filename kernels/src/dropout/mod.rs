//! Inverted dropout (Srivastava et al., JMLR 2014):
//!
//! ```text
//! y[i] = x[i] * m[i]        m[i] = 0 with probability p, else 1 / (1 - p)
//! ```
//!
//! The mask is a function of (Philox stream, flat index i): backward computes it again. Outside of training, and when
//! p is 0, y is x itself. Nothing is saved but the stream.

pub mod cases;
mod cuda;
mod reference;

pub use cuda::KERNELS;

use crate::op::{Cost, Cx, GradSlot, Op, Outputs, Pass, Saved};
use crate::{DType, Device, Tensor, masked, rounding};

/// Input x of any shape; output y of the same shape.
#[derive(Clone, Copy, Debug)]
pub struct Dropout {
    /// The probability of a zero, in [0, 1).
    pub p: f32,
}

impl Op for Dropout {
    fn name(&self) -> &'static str {
        "dropout"
    }

    #[track_caller]
    fn forward(&self, cx: &mut Cx, inputs: &[&Tensor]) -> Outputs {
        let &[x] = inputs else { panic!("dropout: takes x") };
        assert!((0.0..1.0).contains(&self.p), "dropout: p is {}, which is not in [0, 1)", self.p);
        if !cx.training || self.p == 0.0 {
            return Outputs::one(x.clone(), Saved::default());
        }
        if cx.device == Device::Cpu && rounding::is_half(x.dtype()) {
            return rounding::forward_in_f32(self, cx, inputs);
        }
        let philox = cx.next_philox();
        let mut y = Tensor::empty(x.shape(), x.dtype(), cx.device);
        match x.dtype() {
            _ if let Device::Cuda(cuda) = cx.device => {
                cuda::forward(cuda, &mut y, x, cx.philox_arg(Some(philox)), self.p);
            }
            DType::F32 => masked::store(Some((y.as_mut_slice(), false)), x.as_slice(), Some(philox), self.p),
            DType::F64 => reference::forward::<f64>(y.as_mut_slice(), x.as_slice(), philox, self.p),
            other => panic!("dropout: dtype {other:?} has no CPU implementation"),
        }
        Outputs::one(y, Saved { tensors: Vec::new(), philox: Some(philox) })
    }

    fn backward(&self, cx: &mut Cx, saved: Saved, grad_outs: &[Option<&Tensor>], grads: &mut [GradSlot]) {
        let Some(dy) = grad_outs[0] else { return };
        if cx.device == Device::Cpu && rounding::any_is_half(grad_outs, grads) {
            return rounding::backward_in_f32(self, cx, saved, grad_outs, grads);
        }
        let [dx] = grads else { panic!("dropout: one gradient") };
        match dy.dtype() {
            _ if let Device::Cuda(cuda) = cx.device => {
                let p = saved.philox.map_or(0.0, |_| self.p);
                cuda::backward(cuda, dx, dy, cx.philox_arg(saved.philox), p);
            }
            DType::F32 => masked::store(dx.target(), dy.as_slice(), saved.philox, self.p),
            _ => reference::backward::<f64>(dx, dy.as_slice(), saved.philox, self.p),
        }
    }

    fn cost(&self, _: Pass, inputs: &[&Tensor]) -> Cost {
        let (n, size) = (inputs[0].len(), inputs[0].dtype().size());
        Cost::new(n, 2 * n * size)
    }
}
