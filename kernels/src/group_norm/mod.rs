//! Group normalization (Wu and He, 2018, arXiv 1803.08494), NHWC, with an activation in its epilogue:
//!
//! ```text
//! y = act((x - mean) / sqrt(var + eps) * w + b)
//! ```
//!
//! mean and var (biased, summed around the mean) are of one image's pixels and one group of neighbouring channels.
//! Saved: x, w, b and (mean, 1 / sqrt(var + eps)) per image and group.

pub mod cases;
mod cpu;
mod cuda;
mod reference;
mod statistics;

pub use cuda::KERNELS;

use crate::activation::Activation;
use crate::op::{Cost, Cx, GradSlot, Op, Outputs, Pass, Saved};
use crate::{DType, Device, Tensor};

/// Inputs x (B, ..., C), w (C), b (C); output y as x.
#[derive(Clone, Copy, Debug)]
pub struct GroupNorm {
    /// How many groups the channels form.
    pub groups: usize,
    /// Added to the variance.
    pub eps: f64,
    /// `None` or `Relu`.
    pub activation: Activation,
}

/// x (images, pixels, c) in groups of c / groups channels.
#[derive(Clone, Copy)]
struct Sizes {
    pixels: usize,
    c: usize,
    groups: usize,
}

impl Sizes {
    /// Channels a group has.
    fn group(&self) -> usize {
        self.c / self.groups
    }

    /// Elements of an image.
    fn image(&self) -> usize {
        self.pixels * self.c
    }

    /// Elements that share a mean.
    fn shared(&self) -> usize {
        self.pixels * self.group()
    }
}

impl GroupNorm {
    fn sizes(&self, x: &Tensor) -> Sizes {
        Sizes { pixels: x.shape()[1..].iter().rev().skip(1).product(), c: x.last_axis(), groups: self.groups }
    }
}

impl Op for GroupNorm {
    fn name(&self) -> &'static str {
        "group_norm"
    }

    #[track_caller]
    fn forward(&self, cx: &mut Cx, inputs: &[&Tensor]) -> Outputs {
        let &[x, w, b] = inputs else { panic!("group_norm: takes x, w, b") };
        assert!(x.shape().len() >= 2, "group_norm: x is {:?}, expected (images, ..., channels)", x.shape());
        let c = x.last_axis();
        assert!(
            self.groups > 0 && c % self.groups == 0,
            "group_norm: {} groups do not divide the last axis of x {:?}",
            self.groups,
            x.shape()
        );
        assert!(
            matches!(self.activation, Activation::None | Activation::Relu),
            "group_norm: activation {:?} is not one of None, Relu",
            self.activation
        );
        for (name, t) in [("w", w), ("b", b)] {
            assert_eq!(
                t.shape(),
                [c],
                "group_norm: {name} is {:?}, last axis of x {:?} is {c}",
                t.shape(),
                x.shape()
            );
        }
        let sizes = self.sizes(x);
        let mut y = Tensor::empty(x.shape(), x.dtype(), cx.device);
        let mut statistics = Tensor::empty(&[x.shape()[0], self.groups, 2], x.dtype().statistics(), cx.device); // (mean, rstd)
        match x.dtype() {
            _ if let Device::Cuda(cuda) = cx.device => {
                let relu = self.activation == Activation::Relu;
                cuda::forward(cuda, &mut y, &mut statistics, x, w, b, self.eps as f32, relu, &sizes);
            }
            DType::F32 => cpu::forward(
                y.as_mut_slice(),
                statistics.as_mut_slice(),
                x.as_slice(),
                w.as_slice(),
                b.as_slice(),
                self,
                &sizes,
            ),
            DType::F64 => reference::forward::<f64>(
                y.as_mut_slice(),
                statistics.as_mut_slice(),
                x.as_slice(),
                w.as_slice(),
                b.as_slice(),
                self,
                &sizes,
            ),
            other => panic!("group_norm: dtype {other:?} has no CPU implementation"),
        }
        Outputs::one(y, Saved::tensors([x, w, b, &statistics]))
    }

    fn backward(&self, cx: &mut Cx, saved: Saved, grad_outs: &[Option<&Tensor>], grads: &mut [GradSlot]) {
        let ([x, w, b, statistics], Some(dy)) = (&saved.tensors[..], grad_outs[0]) else { return };
        let [dx, dw, db] = grads else { panic!("group_norm: three gradients") };
        let sizes = self.sizes(x);
        match x.dtype() {
            _ if let Device::Cuda(cuda) = cx.device => {
                let relu = self.activation == Activation::Relu;
                cuda::backward(cuda, dx, dw, db, dy, x, w, b, statistics, relu, &sizes);
            }
            DType::F32 => cpu::backward(
                dx,
                dw,
                db,
                dy.as_slice(),
                x.as_slice(),
                w.as_slice(),
                b.as_slice(),
                statistics.as_slice(),
                self,
                &sizes,
            ),
            _ => reference::backward::<f64>(
                dx,
                dw,
                db,
                dy.as_slice(),
                x.as_slice(),
                w.as_slice(),
                b.as_slice(),
                statistics.as_slice(),
                self,
                &sizes,
            ),
        }
    }

    fn cost(&self, pass: Pass, inputs: &[&Tensor]) -> Cost {
        let (n, size) = (inputs[0].len(), inputs[0].dtype().size());
        match pass {
            // Statistics need all of an image before the first of its outputs.
            Pass::Forward => Cost::new(8 * n, 3 * n * size).saving(inputs[0].shape()[0] * self.groups * 2 * size),
            Pass::Backward => Cost::new(14 * n, 5 * n * size),
        }
    }
}
