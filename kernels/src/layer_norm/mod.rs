//! Layer normalization over the last axis (Ba et al., 2016, arXiv 1607.06450):
//!
//! ```text
//! y = (x - mean) / sqrt(var + eps) * w + b        var is the biased variance, in two passes
//! ```
//!
//! Saved: x, w and per row (mean, 1 / sqrt(var + eps)).

pub mod cases;
mod cuda;
mod reference;

pub use cuda::KERNELS;

use crate::op::{Cost, Cx, GradSlot, Op, Outputs, Pass, Saved};
use crate::{DType, Device, Tensor, row_norm};

/// Inputs x (..., C), w (C), b (C); output y (..., C).
#[derive(Clone, Copy, Debug)]
pub struct LayerNorm {
    /// Added to the variance.
    pub eps: f64,
}

impl Op for LayerNorm {
    fn name(&self) -> &'static str {
        "layer_norm"
    }

    #[track_caller]
    fn forward(&self, cx: &mut Cx, inputs: &[&Tensor]) -> Outputs {
        let &[x, w, b] = inputs else { panic!("layer_norm: takes x, w, b") };
        let c = x.last_axis();
        for (name, t) in [("w", w), ("b", b)] {
            assert_eq!(
                t.shape(),
                [c],
                "layer_norm: {name} is {:?}, last axis of x {:?} is {c}",
                t.shape(),
                x.shape()
            );
        }
        let mut y = Tensor::empty(x.shape(), x.dtype(), cx.device);
        let mut statistics = Tensor::empty(&[x.rows(), 2], x.dtype().statistics(), cx.device); // (mean, rstd) a row
        match x.dtype() {
            _ if let Device::Cuda(cuda) = cx.device => {
                cuda::forward(cuda, &mut y, &mut statistics, x, w, b, self.eps as f32);
            }
            DType::F32 => row_norm::forward(
                y.as_mut_slice(),
                statistics.as_mut_slice(),
                x.as_slice(),
                w.as_slice(),
                b.as_slice(),
                self.eps as f32,
            ),
            DType::F64 => reference::forward::<f64>(
                y.as_mut_slice(),
                statistics.as_mut_slice(),
                x.as_slice(),
                w.as_slice(),
                b.as_slice(),
                self.eps,
            ),
            other => panic!("layer_norm: dtype {other:?} has no CPU implementation"),
        }
        Outputs::one(y, Saved::tensors([x, w, &statistics]))
    }

    fn backward(&self, cx: &mut Cx, saved: Saved, grad_outs: &[Option<&Tensor>], grads: &mut [GradSlot]) {
        let ([x, w, statistics], Some(dy)) = (&saved.tensors[..], grad_outs[0]) else { return };
        let [dx, dw, db] = grads else { panic!("layer_norm: three gradients") };
        match x.dtype() {
            _ if let Device::Cuda(cuda) = cx.device => cuda::backward(cuda, dx, dw, db, dy, x, w, statistics),
            DType::F32 => {
                row_norm::backward(dx, dw, db, dy.as_slice(), x.as_slice(), w.as_slice(), statistics.as_slice());
            }
            _ => reference::backward::<f64>(
                dx,
                dw,
                db,
                dy.as_slice(),
                x.as_slice(),
                w.as_slice(),
                statistics.as_slice(),
            ),
        }
    }

    fn cost(&self, pass: Pass, inputs: &[&Tensor]) -> Cost {
        let (n, size) = (inputs[0].len(), inputs[0].dtype().size());
        match pass {
            Pass::Forward => Cost::new(8 * n, 2 * n * size).saving(inputs[0].rows() * 2 * size),
            Pass::Backward => Cost::new(14 * n, 3 * n * size),
        }
    }
}
