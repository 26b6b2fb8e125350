//! Image features.

mod conv5;
mod resnet;

use std::collections::HashMap;

use mdetr_autograd::functional as f;
use mdetr_autograd::{ParameterId, Parameters, Tape, Var};
use mdetr_kernels::activation::Activation;
use mdetr_kernels::conv2d::ConvGeometry;
use mdetr_kernels::{Device, Tensor};

pub use conv5::Conv5;
pub use resnet::ResNet;

use crate::config::ModelConfig;
use crate::init::{Builder, Init};

/// A network from pixels to a feature map.
#[derive(Debug)]
pub enum Backbone {
    /// ResNet with frozen batch norm.
    ResNet(ResNet),
    /// Five convolutions with group norm.
    Conv5(Conv5),
}

impl Backbone {
    /// The backbone that `config` names, its parameters below `at`.
    pub fn new(at: Builder, config: &ModelConfig) -> Self {
        match config.backbone.as_str() {
            "conv5" => Backbone::Conv5(Conv5::new(at)),
            name => Backbone::ResNet(ResNet::new(at, name, config.dilation)),
        }
    }

    /// Channels of the feature map of the backbone called `name`.
    pub fn channels_of(name: &str) -> usize {
        match name {
            "conv5" => conv5::CHANNELS,
            name => resnet::channels_of(name),
        }
    }

    /// Pixels that a side of an image must have for the backbone called `name`.
    pub fn least_side_of(name: &str) -> usize {
        match name {
            "conv5" => conv5::PATCH,
            _ => 1,
        }
    }

    /// images (B, H, W, 3) -> (B, H / stride, W / stride, C).
    pub fn forward<'t>(&self, images: &Var<'t>) -> Var<'t> {
        match self {
            Backbone::ResNet(r) => r.forward(images),
            Backbone::Conv5(c) => c.forward(images),
        }
    }

    /// Parts of parameter names that training leaves alone, as published: a ResNet's stem and first stage.
    pub fn is_frozen(&self, name: &str) -> bool {
        matches!(self, Backbone::ResNet(_))
            && !["layer2", "layer3", "layer4"].iter().any(|stage| name.contains(stage))
    }
}

/// A filter and, when it is not followed by a norm, its bias.
#[derive(Debug)]
pub struct Conv {
    w: ParameterId, // (O, KH, KW, I)
    b: Option<ParameterId>,
    geometry: ConvGeometry,
}

impl Conv {
    /// Without a bias: a norm follows.
    pub fn new(mut at: Builder, i: usize, o: usize, kernel: usize, geometry: ConvGeometry, init: Init) -> Self {
        Conv { w: at.filter("weight", &[o, kernel, kernel, i], init), b: None, geometry }
    }

    /// A 1x1 convolution with a bias, both uniform within 1 / sqrt(I) at the start.
    pub fn pointwise(mut at: Builder, i: usize, o: usize) -> Self {
        let init = Init::fan_in(i);
        Conv {
            w: at.filter("weight", &[o, 1, 1, i], init),
            b: Some(at.parameter("bias", &[o], init)),
            geometry: ConvGeometry { stride: 1, padding: 0, dilation: 1 },
        }
    }

    /// x (B, H, W, I) -> (B, H', W', O).
    #[track_caller]
    pub fn forward<'t>(&self, x: &Var<'t>) -> Var<'t> {
        let tape = x.tape();
        let bias = self.b.map(|b| tape.parameter(b));
        let epilogue =
            f::ConvEpilogue { scale: None, bias: bias.as_ref(), residual: None, activation: Activation::None };
        f::conv2d(x, &tape.parameter(self.w), epilogue, self.geometry)
    }
}

/// A convolution whose frozen batch norm, residual and ReLU are its epilogue.
#[derive(Debug)]
pub struct ConvBn {
    conv: Conv,
    bn: FrozenBatchNorm,
}

impl ConvBn {
    /// The convolution's and the norm's parameters lie below two names.
    pub fn new(at: &mut Builder, names: [&str; 2], io: [usize; 2], kernel: usize, geometry: ConvGeometry) -> Self {
        let [i, o] = io;
        let init = Init::he(o * kernel * kernel); // fan-out, as torchvision's
        ConvBn {
            conv: Conv::new(at.at(names[0]), i, o, kernel, geometry, init),
            bn: FrozenBatchNorm::new(at.at(names[1]), o),
        }
    }

    /// act(bn(conv(x)) + residual).
    #[track_caller]
    pub fn forward<'t>(
        &self,
        x: &Var<'t>,
        norms: &FoldedNorms<'t>,
        residual: Option<&Var<'t>>,
        activation: Activation,
    ) -> Var<'t> {
        let tape = x.tape();
        let [scale, bias] = norms.of(&self.bn);
        let epilogue = f::ConvEpilogue { scale: Some(&scale), bias: Some(&bias), residual, activation };
        f::conv2d(x, &tape.parameter(self.conv.w), epilogue, self.conv.geometry)
    }
}

/// Batch normalization with fixed statistics: a scale and a bias per channel.
#[derive(Debug)]
pub struct FrozenBatchNorm {
    weight: ParameterId,
    bias: ParameterId,
    running_mean: ParameterId,
    running_var: ParameterId,
}

impl FrozenBatchNorm {
    /// The identity.
    pub fn new(mut at: Builder, c: usize) -> Self {
        FrozenBatchNorm {
            weight: at.buffer("weight", &[c], 1.0),
            bias: at.buffer("bias", &[c], 0.0),
            running_mean: at.buffer("running_mean", &[c], 0.0),
            running_var: at.buffer("running_var", &[c], 1.0),
        }
    }

    /// scale = weight / sqrt(var + 1e-5), bias = bias - mean * scale, both (C), one behind the other.
    fn scale_and_bias(&self, parameters: &Parameters) -> Vec<f64> {
        let get = |id: ParameterId| parameters[id].value.to_f64_vec();
        let (weight, bias) = (get(self.weight), get(self.bias));
        let (mean, var) = (get(self.running_mean), get(self.running_var));
        let scale: Vec<f64> = weight.iter().zip(&var).map(|(w, v)| w / (v + 1e-5).sqrt()).collect();
        let bias = bias.iter().zip(&mean).zip(&scale).map(|((b, m), s)| b - m * s);
        scale.iter().copied().chain(bias).collect()
    }
}

/// Scales and biases of a network's frozen norms, made on the host, where their statistics are, and sent as one tensor.
pub struct FoldedNorms<'t> {
    tape: &'t Tape<'t>,
    packed: Tensor,
    /// Where each norm's scale begins, and its channels, by its weight.
    places: HashMap<ParameterId, (usize, usize)>,
}

impl<'t> FoldedNorms<'t> {
    /// Of these norms, with the tape's parameters.
    pub fn new<'a>(tape: &'t Tape<'t>, norms: impl Iterator<Item = &'a FrozenBatchNorm>) -> Self {
        let (mut values, mut places) = (Vec::new(), HashMap::new());
        for norm in norms {
            let folded = norm.scale_and_bias(tape.parameters());
            places.insert(norm.weight, (values.len(), folded.len() / 2));
            values.extend(folded);
        }
        let packed = Tensor::from_slice(&values, &[values.len()], Device::Cpu).to_dtype(tape.master_dtype());
        FoldedNorms { tape, packed: packed.to_device(tape.device()), places }
    }

    /// Scale and bias of one, (C) each.
    fn of(&self, norm: &FrozenBatchNorm) -> [Var<'t>; 2] {
        let (first, c) = self.places[&norm.weight];
        [first, first + c].map(|start| self.tape.constant(self.packed.slice(start..start + c)))
    }
}
