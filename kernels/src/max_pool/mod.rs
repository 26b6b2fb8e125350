//! Max pooling, NHWC: the largest value of each window, a channel at a time; what lies outside the image never wins.
//!
//! ```text
//! y[n, r, c, :] = max over kh, kw of x[n, r s + kh - p, c s + kw - p, :]
//! dx: dy goes to the first place of the maximum, row by row
//! ```
//!
//! Saved: the places, as pixel numbers within an image.

pub mod cases;
mod cpu;
mod cuda;
mod reference;

pub use cuda::KERNELS;

use half::bf16;

use crate::op::{Cost, Cx, GradSlot, Op, Outputs, Pass, Saved};
use crate::{DType, Device, Tensor, rounding};

/// Input x (B, H, W, C); output y (B, OH, OW, C) with OH = (H + 2 p - k) / s + 1.
#[derive(Clone, Copy, Debug)]
pub struct MaxPool {
    /// Rows and columns of a window.
    pub kernel: usize,
    /// Pixels from one window to the next.
    pub stride: usize,
    /// How far windows reach beyond the image, at most half a window.
    pub padding: usize,
}

/// x (batch, h, w, c), y (batch, oh, ow, c).
#[derive(Clone, Copy)]
struct Sizes {
    batch: usize,
    h: usize,
    w: usize,
    c: usize,
    oh: usize,
    ow: usize,
    pool: MaxPool,
}

impl MaxPool {
    #[track_caller]
    fn sizes(&self, x: &[usize]) -> Sizes {
        let &[batch, h, w, c] = x else { panic!("max_pool: x is {x:?}, expected four axes") };
        let MaxPool { kernel, stride, padding } = *self;
        assert!(2 * padding <= kernel, "max_pool: a padding of {padding} is more than half a window of {kernel}");
        let out = |size: usize| {
            assert!(size + 2 * padding >= kernel, "max_pool: a window of {kernel} does not fit x {x:?}");
            (size + 2 * padding - kernel) / stride + 1
        };
        Sizes { batch, h, w, c, oh: out(h), ow: out(w), pool: *self }
    }
}

impl Sizes {
    /// The part of the window at output row (or column) `at` that lies within `size` rows (or columns) of x.
    fn window(&self, at: usize, size: usize) -> std::ops::Range<usize> {
        let start = at * self.pool.stride;
        start.saturating_sub(self.pool.padding)..size.min(start + self.pool.kernel - self.pool.padding)
    }
}

impl Op for MaxPool {
    fn name(&self) -> &'static str {
        "max_pool"
    }

    #[track_caller]
    fn forward(&self, cx: &mut Cx, inputs: &[&Tensor]) -> Outputs {
        let &[x] = inputs else { panic!("max_pool: takes x") };
        if cx.device == Device::Cpu && x.dtype() == DType::F16 {
            return rounding::forward_in_f32(self, cx, inputs);
        }
        let sizes = self.sizes(x.shape());
        let shape = [sizes.batch, sizes.oh, sizes.ow, sizes.c];
        let mut y = Tensor::empty(&shape, x.dtype(), cx.device);
        let mut places = Tensor::empty(&shape, DType::I32, cx.device);
        match x.dtype() {
            _ if let Device::Cuda(cuda) = cx.device => cuda::forward(cuda, &mut y, &mut places, x, &sizes),
            DType::F32 => cpu::forward::<f32>(y.as_mut_slice(), places.as_mut_slice(), x.as_slice(), &sizes),
            DType::BF16 => cpu::forward::<bf16>(y.as_mut_slice(), places.as_mut_slice(), x.as_slice(), &sizes),
            DType::F64 => reference::forward::<f64>(y.as_mut_slice(), places.as_mut_slice(), x.as_slice(), &sizes),
            other => panic!("max_pool: dtype {other:?} has no CPU implementation"),
        }
        Outputs::one(y, Saved::tensors([&places]))
    }

    fn backward(&self, cx: &mut Cx, saved: Saved, grad_outs: &[Option<&Tensor>], grads: &mut [GradSlot]) {
        if cx.device == Device::Cpu && rounding::any_is_half(grad_outs, grads) {
            return rounding::backward_in_f32(self, cx, saved, grad_outs, grads);
        }
        let ([places], Some(dy), [dx]) = (&saved.tensors[..], grad_outs[0], grads) else { return };
        let shape = match dx {
            GradSlot::Skip => return,
            GradSlot::Write(t) | GradSlot::Accumulate(t) => t.shape().to_vec(),
        };
        let sizes = self.sizes(&shape);
        match dy.dtype() {
            _ if let Device::Cuda(cuda) = cx.device => cuda::backward(cuda, dx, dy, places, &sizes),
            DType::F32 => cpu::backward(dx, dy.as_slice(), places.as_slice(), &sizes),
            _ => reference::backward::<f64>(dx, dy.as_slice(), places.as_slice(), &sizes),
        }
    }

    fn cost(&self, pass: Pass, inputs: &[&Tensor]) -> Cost {
        let (x, size) = (inputs[0], inputs[0].dtype().size());
        let sizes = self.sizes(x.shape());
        let y = sizes.batch * sizes.oh * sizes.ow * sizes.c;
        match pass {
            Pass::Forward => Cost::new(y * self.kernel * self.kernel, (x.len() + y) * size + 4 * y).saving(4 * y),
            Pass::Backward => Cost::new(y, (x.len() + y) * size + 4 * y),
        }
    }
}
