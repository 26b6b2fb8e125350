//! Two-dimensional convolution with a frozen batch norm, a residual and an activation in its epilogue, NHWC:
//!
//! ```text
//! y = act(scale * conv(x, w) + bias + residual)
//! conv(x, w)[n, r, c, o] = sum over kh, kw, i of x[n, r s + kh d - p, c s + kw d - p, i] w[o, kh, kw, i]
//! ```
//!
//! with stride s, padding p and dilation d; x is zero outside. A batch norm that stays fixed while detectors are
//! fine-tuned (He et al., 2016, arXiv 1512.03385, appendix A) is a scale and a bias a channel: the scale is folded into
//! the weight, so the weight's gradient is scale * dw'. With g = dy act'(y), which is also the residual's gradient:
//!
//! ```text
//! dx = conv_transpose(scale g, w)        dw = scale * (windows of x)^T g        dbias = sum of g over pixels
//! ```
//!
//! Saved: x, w (on a GPU, the scaled one, in x's dtype), the scale, and y when ReLU's derivative is told from it.

mod bf16;
pub mod cases;
mod correlate;
mod cpu;
mod cuda;
mod half;
mod pack;
mod products;
mod reference;
mod sizes;
mod weight_gradient;
mod window;
mod winograd;
mod winograd_gradient;
mod winograd_schemes;
mod winograd_transforms;

pub use cuda::KERNELS;

use crate::activation::Activation;
use crate::op::{Cost, Cx, GradSlot, Op, Outputs, Pass, Saved};
use crate::{DType, Device, Tensor, rounding};
use sizes::Sizes;

/// How a filter moves over an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConvGeometry {
    /// Pixels from one window to the next.
    pub stride: usize,
    /// Rows and columns of zeros on each side.
    pub padding: usize,
    /// Pixels from one filter tap to the next.
    pub dilation: usize,
}

impl Default for ConvGeometry {
    /// Stride 1, no padding, no dilation.
    fn default() -> Self {
        ConvGeometry { stride: 1, padding: 0, dilation: 1 }
    }
}

/// Inputs x (B, H, W, I), w (O, KH, KW, I), then those that are there of scale (O), bias (O) and residual
/// (B, OH, OW, O), in this order; output y (B, OH, OW, O) with OH = (H + 2 p - d (KH - 1) - 1) / s + 1. The scale gets
/// no gradient.
#[derive(Clone, Copy, Debug)]
pub struct Conv2d {
    /// How the filter moves.
    pub geometry: ConvGeometry,
    /// Whether a scale is among the inputs.
    pub scale: bool,
    /// Whether a bias is.
    pub bias: bool,
    /// Whether a residual is.
    pub residual: bool,
    /// `None` or `Relu`.
    pub activation: Activation,
}

/// The inputs by name.
#[derive(Clone, Copy)]
struct Inputs<'a> {
    x: &'a Tensor,
    w: &'a Tensor,
    scale: Option<&'a Tensor>,
    bias: Option<&'a Tensor>,
    residual: Option<&'a Tensor>,
}

impl Conv2d {
    #[track_caller]
    fn inputs<'a>(&self, inputs: &[&'a Tensor]) -> Inputs<'a> {
        let expected = 2 + [self.scale, self.bias, self.residual].iter().filter(|&&there| there).count();
        assert_eq!(inputs.len(), expected, "conv2d: {self:?} takes {expected} inputs");
        let mut rest = inputs[2..].iter().copied();
        let mut next = |there: bool| if there { rest.next() } else { None };
        Inputs {
            x: inputs[0],
            w: inputs[1],
            scale: next(self.scale),
            bias: next(self.bias),
            residual: next(self.residual),
        }
    }

    #[track_caller]
    fn sizes(&self, x: &Tensor, w: &Tensor) -> Sizes {
        Sizes::new(x.shape(), w.shape(), self.geometry)
    }
}

impl Op for Conv2d {
    fn name(&self) -> &'static str {
        "conv2d"
    }

    #[track_caller]
    fn forward(&self, cx: &mut Cx, inputs: &[&Tensor]) -> Outputs {
        let inputs = self.inputs(inputs);
        let Inputs { x, w, scale, bias, residual } = inputs;
        let sizes = self.sizes(x, w);
        assert!(
            matches!(self.activation, Activation::None | Activation::Relu),
            "conv2d: activation {:?} is not one of None, Relu",
            self.activation
        );
        for (name, t) in [("scale", scale), ("bias", bias)] {
            let Some(t) = t else { continue };
            assert_eq!(t.shape(), [sizes.o], "conv2d: {name} is {:?}, w is {:?}", t.shape(), w.shape());
        }
        let shape = [sizes.batch, sizes.oh, sizes.ow, sizes.o];
        if let Some(r) = residual {
            assert_eq!(r.shape(), shape, "conv2d: residual is {:?}, y is {shape:?}", r.shape());
        }
        if cx.device == Device::Cpu && rounding::is_half(x.dtype()) {
            return half::forward(self, cx, &inputs, &sizes);
        }
        let mut y = Tensor::empty(&shape, x.dtype(), cx.device);
        let mut folded = None;
        match x.dtype() {
            _ if let Device::Cuda(cuda) = cx.device => {
                let epilogue = cuda::Epilogue { bias, residual, relu: self.activation == Activation::Relu };
                folded = Some(cuda::forward(cuda, &mut y, x, w, scale, epilogue, &sizes));
            }
            DType::F32 => cpu::forward(
                y.as_mut_slice(),
                x.as_slice(),
                &cpu::Filters { w, scale, stay: !cx.saving },
                bias.map(|t| t.as_slice()),
                residual.map(|t| t.as_slice()),
                self.activation,
                &sizes,
            ),
            DType::F64 => reference::forward::<f64>(
                y.as_mut_slice(),
                x.as_slice(),
                w.as_slice(),
                scale.map(|t| t.as_slice()),
                bias.map(|t| t.as_slice()),
                residual.map(|t| t.as_slice()),
                self.activation,
                &sizes,
            ),
            other => panic!("conv2d: dtype {other:?} has no CPU implementation"),
        }
        let mut saved = Saved::tensors([x, folded.as_ref().unwrap_or(w)]);
        saved.tensors.extend(scale.cloned());
        if self.activation == Activation::Relu {
            saved.tensors.push(y.clone());
        }
        Outputs::one(y, saved)
    }

    fn backward(&self, cx: &mut Cx, saved: Saved, grad_outs: &[Option<&Tensor>], grads: &mut [GradSlot]) {
        let Some(dy) = grad_outs[0] else { return };
        if cx.device == Device::Cpu && rounding::is_half(dy.dtype()) {
            return half::backward(self, cx, saved, dy, grads);
        }
        let (x, w) = (&saved.tensors[0], &saved.tensors[1]);
        let scale = self.scale.then(|| &saved.tensors[2]);
        let sizes = self.sizes(x, w);
        let y = (self.activation == Activation::Relu).then(|| saved.tensors.last().expect("y is saved"));
        let [dx, dw, rest @ ..] = grads else { panic!("conv2d: a gradient slot an input") };
        let mut rest = rest.iter_mut().skip(usize::from(self.scale));
        let mut next = |there: bool| if there { rest.next() } else { None };
        let (dbias, dresidual) = (next(self.bias), next(self.residual));
        match x.dtype() {
            _ if let Device::Cuda(cuda) = cx.device => {
                let mut skip = [GradSlot::Skip, GradSlot::Skip];
                let [no_bias, no_residual] = &mut skip;
                let (dbias, dresidual) = (dbias.unwrap_or(no_bias), dresidual.unwrap_or(no_residual));
                cuda::backward(cuda, dx, dw, dbias, dresidual, dy, y, x, w, scale, &sizes);
            }
            DType::F32 => cpu::backward(
                dx,
                dw,
                dbias,
                dresidual,
                dy.as_slice(),
                y.map(|t| t.as_slice()),
                x.as_slice(),
                w.as_slice(),
                scale.map(|t| t.as_slice()),
                &sizes,
            ),
            _ => reference::backward::<f64>(
                dx,
                dw,
                dbias,
                dresidual,
                y.map_or_else(|| dy.clone(), |y| self.activation.backward(cx, dy, y)).as_slice(),
                x.as_slice(),
                w.as_slice(),
                scale.map(|t| t.as_slice()),
                &sizes,
            ),
        }
    }

    fn cost(&self, pass: Pass, inputs: &[&Tensor]) -> Cost {
        let Inputs { x, w, residual, .. } = self.inputs(inputs);
        let sizes = self.sizes(x, w);
        let (y, size) = (sizes.output_pixels() * sizes.o, x.dtype().size());
        let product = 2 * sizes.output_pixels() * w.len();
        let residual = residual.map_or(0, Tensor::len);
        match pass {
            Pass::Forward => Cost::new(product, (x.len() + w.len() + y + residual) * size),
            Pass::Backward => Cost::new(2 * product, (2 * x.len() + 2 * w.len() + 2 * y + residual) * size),
        }
    }
}
