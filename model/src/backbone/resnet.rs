//! ResNet (He et al., 2016, arXiv 1512.03385) with the stride in the 3x3 convolution, as torchvision's; names below
//! `backbone.0.body` are its.

use mdetr_autograd::Var;
use mdetr_autograd::functional as f;
use mdetr_kernels::activation::Activation;
use mdetr_kernels::conv2d::ConvGeometry;
use mdetr_kernels::max_pool::MaxPool;

use super::{ConvBn, FoldedNorms};
use crate::init::Builder;

/// A ResNet without its classifier; stride 32, or 16 when the last stage is dilated.
#[derive(Debug)]
pub struct ResNet {
    stem: ConvBn,
    blocks: Vec<Block>,
}

/// Convolutions with a shortcut.
#[derive(Debug)]
struct Block {
    /// Two 3x3 (basic), or 1x1, 3x3, 1x1 (bottleneck).
    convs: Vec<ConvBn>,
    /// A projection when the shape changes.
    downsample: Option<ConvBn>,
}

fn geometry(stride: usize, padding: usize, dilation: usize) -> ConvGeometry {
    ConvGeometry { stride, padding, dilation }
}

/// Blocks of each stage, and whether they are bottlenecks.
fn plan(name: &str) -> ([usize; 4], bool) {
    match name {
        "resnet18" => ([2, 2, 2, 2], false),
        "resnet34" => ([3, 4, 6, 3], false),
        "resnet50" => ([3, 4, 6, 3], true),
        _ => ([3, 4, 23, 3], true),
    }
}

/// Channels of the last stage.
pub(super) fn channels_of(name: &str) -> usize {
    if plan(name).1 { 2048 } else { 512 }
}

impl ResNet {
    /// `name` is resnet18, 34, 50 or 101.
    pub fn new(mut at: Builder, name: &str, dilation: bool) -> Self {
        let (depths, bottleneck) = plan(name);
        let stem = ConvBn::new(&mut at, ["conv1", "bn1"], [3, 64], 7, geometry(2, 3, 1));
        let mut blocks = Vec::new();
        let mut channels = 64;
        for (stage, depth) in depths.into_iter().enumerate() {
            let width = 64 << stage;
            let dilate = dilation && stage == 3;
            for i in 0..depth {
                let stride = if i == 0 && stage > 0 && !dilate { 2 } else { 1 };
                // The first dilated block still sees its neighbours at distance 1.
                let dilation = if dilate && i > 0 { 2 } else { 1 };
                let out = if bottleneck { 4 * width } else { width };
                let mut at = at.at(format!("layer{}", stage + 1));
                blocks.push(Block::new(at.at(i), channels, width, out, stride, dilation));
                channels = out;
            }
        }
        ResNet { stem, blocks }
    }

    /// images (B, H, W, 3) -> (B, H/32, W/32, C).
    pub fn forward<'t>(&self, images: &Var<'t>) -> Var<'t> {
        let convs = self.blocks.iter().flat_map(|block| block.convs.iter().chain(&block.downsample));
        let norms = FoldedNorms::new(images.tape(), std::iter::once(&self.stem).chain(convs).map(|conv| &conv.bn));
        let x = self.stem.forward(images, &norms, None, Activation::Relu);
        let x = f::max_pool(&x, MaxPool { kernel: 3, stride: 2, padding: 1 });
        self.blocks.iter().fold(x, |x, block| block.forward(&x, &norms))
    }
}

impl Block {
    fn new(mut at: Builder, i: usize, width: usize, o: usize, stride: usize, dilation: usize) -> Self {
        let convs = if o == width {
            vec![
                ConvBn::new(&mut at, ["conv1", "bn1"], [i, o], 3, geometry(stride, dilation, dilation)),
                ConvBn::new(&mut at, ["conv2", "bn2"], [o, o], 3, geometry(1, dilation, dilation)),
            ]
        } else {
            vec![
                ConvBn::new(&mut at, ["conv1", "bn1"], [i, width], 1, geometry(1, 0, 1)),
                ConvBn::new(&mut at, ["conv2", "bn2"], [width, width], 3, geometry(stride, dilation, dilation)),
                ConvBn::new(&mut at, ["conv3", "bn3"], [width, o], 1, geometry(1, 0, 1)),
            ]
        };
        let downsample = (stride > 1 || i != o)
            .then(|| ConvBn::new(&mut at.at("downsample"), ["0", "1"], [i, o], 1, geometry(stride, 0, 1)));
        Block { convs, downsample }
    }

    fn forward<'t>(&self, x: &Var<'t>, norms: &FoldedNorms<'t>) -> Var<'t> {
        let project = |conv: &ConvBn| conv.forward(x, norms, None, Activation::None);
        let shortcut = self.downsample.as_ref().map_or_else(|| x.clone(), project);
        let (last, inner) = self.convs.split_last().expect("a block has convolutions");
        let y = inner.iter().fold(x.clone(), |y, conv| conv.forward(&y, norms, None, Activation::Relu));
        last.forward(&y, norms, Some(&shortcut), Activation::Relu)
    }
}
