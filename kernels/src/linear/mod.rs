//! An affine map of the last axis with an activation in its epilogue:
//!
//! ```text
//! y = act(x W^T + b)        x (..., I), W (O, I) as the published checkpoints store it, b (O)
//! ```
//!
//! Saved: x, W and what the activation's derivative needs (y for ReLU and sigmoid, the pre-activation for GELU).

mod bf16;
pub mod cases;
mod cpu;
mod cuda;
mod gemm;
mod reference;

pub use cuda::KERNELS;

use crate::activation::Activation;
use crate::op::{Cost, Cx, GradSlot, Op, Outputs, Pass, Saved};
use crate::{DType, Device, Tensor, gemm_bf16, rounding};

/// Inputs x (..., I), w (O, I), b (O); output y (..., O).
#[derive(Clone, Copy, Debug)]
pub struct Linear {
    /// Applied to the sum.
    pub activation: Activation,
}

impl Linear {
    /// f16 and bf16 on the CPU: by products of bf16 where it has them, else in f32 between roundings.
    fn forward_half(&self, cx: &mut Cx, inputs: &[&Tensor]) -> Outputs {
        let &[x, w, b] = inputs else { unreachable!("checked before") };
        // Derivatives of the others would see the rounding of what they are told from.
        let keeps_sums = cx.saving && !matches!(self.activation, Activation::None | Activation::Relu);
        let are_pairs = x.last_axis().is_multiple_of(2);
        let are_bf16 = x.dtype() == DType::BF16 && w.dtype() == DType::BF16;
        if !(are_bf16 && are_pairs && gemm_bf16::is_available()) || keeps_sums {
            return rounding::forward_in_f32(self, cx, inputs);
        }
        let y = bf16::forward(cx, x, w, b, self.activation);
        let mut saved = Saved::default();
        if cx.saving {
            saved.tensors.extend([x, w].map(rounding::widened));
            saved.tensors.extend((self.activation != Activation::None).then(|| rounding::widened(&y)));
        }
        Outputs::one(y, saved)
    }
}

impl Op for Linear {
    fn name(&self) -> &'static str {
        "linear"
    }

    #[track_caller]
    fn forward(&self, cx: &mut Cx, inputs: &[&Tensor]) -> Outputs {
        let &[x, w, b] = inputs else { panic!("linear: takes x, w, b") };
        let (o, i) = match *w.shape() {
            [o, i] if i == x.last_axis() => (o, i),
            _ => panic!("linear: w is {:?}, last axis of x {:?} is {}", w.shape(), x.shape(), x.last_axis()),
        };
        assert_eq!(b.shape(), [o], "linear: b is {:?}, w is {:?}", b.shape(), w.shape());
        let mut shape = x.shape().to_vec();
        shape[x.shape().len() - 1] = o;
        if cx.device == Device::Cpu && inputs.iter().any(|t| rounding::is_half(t.dtype())) {
            return self.forward_half(cx, inputs);
        }
        let mut y = Tensor::empty(&shape, x.dtype(), cx.device);
        // GELU's derivative needs its input; the others' can be told from y.
        let mut z =
            (self.activation == Activation::Gelu && cx.saving).then(|| Tensor::empty(&shape, x.dtype(), cx.device));
        match x.dtype() {
            _ if let Device::Cuda(cuda) = cx.device => {
                cuda::forward(cuda, &mut y, z.as_mut(), x, w, b, self.activation);
            }
            DType::F32 => cpu::forward(
                cx,
                y.as_mut_slice(),
                z.as_mut().map(|z| z.as_mut_slice()),
                x.as_slice(),
                w,
                b.as_slice(),
                self.activation,
            ),
            DType::F64 => reference::forward::<f64>(
                y.as_mut_slice(),
                z.as_mut().map(|z| z.as_mut_slice()),
                x.as_slice(),
                w.as_slice(),
                b.as_slice(),
                self.activation,
                i,
            ),
            other => panic!("linear: dtype {other:?} has no CPU implementation"),
        }
        let saved = match self.activation {
            Activation::None => Saved::tensors([x, w]),
            _ => Saved::tensors([x, w, z.as_ref().unwrap_or(&y)]),
        };
        Outputs::one(y, saved)
    }

    fn backward(&self, cx: &mut Cx, saved: Saved, grad_outs: &[Option<&Tensor>], grads: &mut [GradSlot]) {
        let Some(dy) = grad_outs[0] else { return };
        if cx.device == Device::Cpu && rounding::any_is_half(grad_outs, grads) {
            return rounding::backward_in_f32(self, cx, saved, grad_outs, grads);
        }
        let (x, w) = (&saved.tensors[0], &saved.tensors[1]);
        let [dx, dw, db] = grads else { panic!("linear: three gradients") };
        let z = saved.tensors.get(2);
        if let Device::Cuda(cuda) = cx.device {
            return cuda::backward(cuda, [dx, dw, db], dy, x, w, z, self.activation);
        }
        let dz = match z {
            None => dy.clone(),
            Some(z) => self.activation.backward(cx, dy, z),
        };
        match x.dtype() {
            DType::F32 => cpu::backward(dx, dw, db, dz.as_slice(), x.as_slice(), w.as_slice(), x.last_axis()),
            _ => reference::backward::<f64>(dx, dw, db, dz.as_slice(), x.as_slice(), w.as_slice(), x.last_axis()),
        }
    }

    fn cost(&self, pass: Pass, inputs: &[&Tensor]) -> Cost {
        let (x, w) = (inputs[0], inputs[1]);
        let (n, o, i, size) = (x.rows(), w.shape()[0], w.shape()[1], x.dtype().size());
        match pass {
            Pass::Forward => Cost::new(2 * n * o * i, (n * (i + o) + o * i) * size),
            Pass::Backward => Cost::new(4 * n * o * i, (2 * n * (i + o) + 2 * o * i) * size),
        }
    }
}
