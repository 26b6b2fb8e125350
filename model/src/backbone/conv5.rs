//! A small network for training from nothing: five convolutions to stride 16, each with group norm and ReLU.

use mdetr_autograd::functional as f;
use mdetr_autograd::{ParameterId, Var};
use mdetr_kernels::activation::Activation;
use mdetr_kernels::conv2d::ConvGeometry;
use mdetr_kernels::group_norm::GroupNorm as GroupNormOp;

use super::Conv;
use crate::init::{Builder, Init};

/// Rows and columns of pixels that the first layer reads at once, which makes all others cheap.
pub(super) const PATCH: usize = 4;

/// Width, kernel, stride and padding of each layer.
const LAYERS: [(usize, usize, usize, usize); 5] =
    [(32, PATCH, PATCH, 0), (64, 3, 2, 1), (96, 3, 2, 1), (128, 3, 1, 1), (128, 3, 1, 1)];

/// Channels of the feature map.
pub(super) const CHANNELS: usize = LAYERS[LAYERS.len() - 1].0;

/// Groups of the norms.
const GROUPS: usize = 8;

/// Stride 16, 128 channels.
#[derive(Debug)]
pub struct Conv5 {
    layers: Vec<(Conv, GroupNorm)>,
}

impl Conv5 {
    /// Parameters `conv{i}` and `gn{i}`.
    pub fn new(mut at: Builder) -> Self {
        let mut i = 3;
        let mut layers = Vec::new();
        for (n, (o, kernel, stride, padding)) in LAYERS.into_iter().enumerate() {
            let geometry = ConvGeometry { stride, padding, dilation: 1 };
            let conv =
                Conv::new(at.at(format!("conv{}", n + 1)), i, o, kernel, geometry, Init::he(i * kernel * kernel));
            layers.push((conv, GroupNorm::new(at.at(format!("gn{}", n + 1)), o)));
            i = o;
        }
        Conv5 { layers }
    }

    /// images (B, H, W, 3) -> (B, H/16, W/16, 128).
    pub fn forward<'t>(&self, images: &Var<'t>) -> Var<'t> {
        self.layers.iter().fold(images.clone(), |x, (conv, norm)| norm.forward(&conv.forward(&x)))
    }
}

/// Group norm and ReLU.
#[derive(Debug)]
struct GroupNorm {
    w: ParameterId,
    b: ParameterId,
}

impl GroupNorm {
    fn new(mut at: Builder, c: usize) -> Self {
        GroupNorm {
            w: at.parameter("weight", &[c], Init::Constant(1.0)),
            b: at.parameter("bias", &[c], Init::Constant(0.0)),
        }
    }

    fn forward<'t>(&self, x: &Var<'t>) -> Var<'t> {
        let (w, b) = (x.tape().parameter(self.w), x.tape().parameter(self.b));
        f::group_norm(x, &w, &b, GroupNormOp { groups: GROUPS, eps: 1e-5, activation: Activation::Relu })
    }
}
