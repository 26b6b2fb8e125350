//! Shapes: one pixel, odd sizes, strides, dilation, more channels than a panel, more pixels than a task, nothing at all;
//! and, for benches, the layers of a ResNet-101 on an image of 800 x 1066 pixels.

use super::{Conv2d, ConvGeometry};
use crate::activation::Activation;
use crate::case::{Case, Draw, Input, Values};

/// x (B, H, W, I) and filters (O, K, K, I).
#[derive(Clone, Copy)]
struct Shape {
    x: [usize; 4],
    o: usize,
    k: usize,
    geometry: ConvGeometry,
}

fn shape(x: [usize; 4], o: usize, k: usize, stride: usize) -> Shape {
    Shape { x, o, k, geometry: ConvGeometry { stride, padding: k / 2, dilation: 1 } }
}

fn padded(padding: usize) -> ConvGeometry {
    ConvGeometry { stride: 1, padding, dilation: 1 }
}

/// 3 x 3 at a stride of 2.
fn strided(x: [usize; 4], o: usize, padding: usize) -> Shape {
    Shape { x, o, k: 3, geometry: ConvGeometry { stride: 2, padding, dilation: 1 } }
}

fn dilated(x: [usize; 4], o: usize, k: usize) -> Shape {
    Shape { x, o, k, geometry: ConvGeometry { stride: 1, padding: k / 2 * 2, dilation: 2 } }
}

fn case(name: &str, Shape { x, o, k, geometry }: Shape, epilogue: [bool; 3], activation: Activation) -> Case {
    let [scale, bias, residual] = epilogue;
    let op = Conv2d { geometry, scale, bias, residual, activation };
    let w = [o, k, k, x[3]];
    let depth = (k * k * x[3]).max(1) as f64;
    // ReLU's kink lies at a pre-activation of 0: positive products, and a bias or a residual of either large sign, keep
    // away.
    let far = || Values::AwayFromZero(2.0, 3.0);
    let (xs, ws, bs, rs) = match (activation, bias) {
        (Activation::None, _) => {
            (Values::Normal(1.0), Values::Normal(depth.sqrt().recip()), Values::Normal(1.0), Values::Normal(1.0))
        }
        (_, true) => {
            (Values::Uniform(0.1, 1.0), Values::Uniform(0.1 / depth, 1.0 / depth), far(), Values::Uniform(0.0, 0.2))
        }
        (_, false) => (Values::Uniform(0.1, 1.0), Values::Uniform(0.1 / depth, 1.0 / depth), far(), far()),
    };
    let mut inputs = vec![Input::new("x", &x, xs), Input::new("w", &w, ws).in_f32()];
    if scale {
        inputs.push(Input::constant("scale", &[o], Values::Uniform(0.5, 1.5)).in_f32());
    }
    if bias {
        inputs.push(Input::new("bias", &[o], bs).in_f32());
    }
    if residual {
        let reach = geometry.dilation * (k - 1) + 1;
        let out = |size: usize| (size + 2 * geometry.padding - reach) / geometry.stride + 1;
        inputs.push(Input::new("residual", &[x[0], out(x[1]), out(x[2]), o], rs));
    }
    // The weight's gradient sums over all pixels.
    let pixels = (x[0] * x[1] * x[2]).max(1) as f64;
    Case::new(name, op, inputs).tolerance(1e-5f64.max(6e-8 * pixels.sqrt()))
}

/// A convolution of a residual block: batch norm and ReLU behind it.
fn folded(name: &str, shape: Shape) -> Case {
    case(name, shape, [true, true, false], Activation::Relu)
}

/// The last of a residual block.
fn closing(name: &str, shape: Shape) -> Case {
    case(name, shape, [true, true, true], Activation::Relu)
}

fn plain(name: &str, shape: Shape) -> Case {
    case(name, shape, [false, false, false], Activation::None)
}

fn biased(name: &str, shape: Shape) -> Case {
    case(name, shape, [false, true, false], Activation::None)
}

/// The fixed cases.
pub fn cases() -> Vec<Case> {
    let mut cases = vec![
        plain("one pixel", shape([1, 1, 1, 16], 64, 1, 1)),
        closing("odd sizes", shape([2, 7, 5, 3], 19, 3, 1)),
        folded("stride 2", shape([1, 9, 10, 5], 7, 3, 2)),
        plain("pointwise, stride 2", shape([2, 9, 8, 6], 70, 1, 2)),
        biased("large filter, stride 2", shape([1, 19, 22, 3], 33, 7, 2)),
        biased("even filter", Shape { k: 4, ..shape([1, 8, 8, 4], 8, 3, 2) }),
        closing("dilated", dilated([1, 9, 8, 4], 5, 3)),
        case("residual alone", shape([1, 5, 6, 4], 8, 3, 1), [false, false, true], Activation::Relu),
        folded(
            "stride 3 skips pixels",
            Shape { geometry: ConvGeometry { stride: 3, padding: 0, dilation: 1 }, ..shape([1, 8, 8, 4], 8, 2, 3) },
        ),
        plain("more channels than a panel", shape([1, 7, 6, 70], 130, 3, 1)),
        folded("more depth than a chunk", shape([1, 4, 9, 400], 24, 3, 1)),
        closing("more pixels than a task", shape([2, 25, 34, 16], 48, 3, 1)),
        closing("pointwise", shape([2, 25, 34, 64], 48, 1, 1)),
        closing("pointwise, sums of halves, stride 2", shape([2, 14, 16, 256], 256, 1, 2)),
        plain("pointwise, sums of more halves than a panel", shape([1, 7, 10, 320], 384, 1, 1)),
        closing("winograd, ragged tiles", shape([2, 19, 22, 32], 48, 3, 1)),
        folded("winograd, no padding", Shape { geometry: padded(0), ..shape([1, 31, 27, 64], 80, 3, 1) }),
        folded("winograd, more tiles than a block", shape([2, 33, 30, 32], 32, 3, 1)),
        biased("winograd, wide padding", Shape { geometry: padded(3), ..shape([3, 12, 13, 48], 32, 3, 1) }),
        folded("winograd, points apart in cache", shape([1, 22, 24, 128], 32, 3, 1)),
        closing("winograd, stride 2, ragged tiles", shape([2, 45, 38, 32], 48, 3, 2)),
        folded("winograd, stride 2, more tiles than a block", shape([1, 64, 66, 128], 80, 3, 2)),
        biased("winograd, stride 2, no padding", strided([1, 51, 50, 32], 32, 0)),
        biased("winograd, stride 2, wide padding", strided([1, 46, 47, 32], 32, 3)),
        closing("more pixels and filters than a tile", shape([1, 12, 11, 8], 72, 3, 1)),
        folded("more channels than a tile, stride 2", shape([2, 6, 5, 72], 16, 3, 2)),
        biased("filters in vectors, channels not", shape([1, 4, 4, 3], 136, 3, 1)),
        folded("channels in vectors, filters not", dilated([1, 7, 6, 16], 5, 3)),
        folded("more parts than warps", shape([1, 25, 22, 8], 8, 1, 1)),
        folded("no images", shape([0, 4, 4, 3], 8, 3, 1)),
        biased("no filters", shape([1, 4, 4, 3], 0, 3, 1)),
    ];
    let small_backbone = [
        plain("small backbone, layer 1", shape([16, 112, 112, 3], 32, 3, 1)),
        plain("small backbone, layer 2", Shape { k: 4, ..shape([16, 112, 112, 32], 64, 3, 2) }),
        plain("small backbone, layer 3", shape([16, 28, 28, 96], 128, 3, 1)),
        plain("small backbone, layer 4", shape([16, 7, 7, 96], 128, 3, 1)),
        plain("small backbone, layer 5", shape([16, 7, 7, 128], 128, 3, 1)),
    ];
    cases.extend(resnet101().into_iter().chain(small_backbone).map(Case::only_for_benches));
    cases
}

fn resnet101() -> Vec<Case> {
    let stages = [(200, 267, 64), (100, 134, 128), (50, 67, 256), (25, 34, 512)];
    let mut cases = vec![folded("conv1", shape([1, 800, 1066, 3], 64, 7, 2))];
    for (i, (h, w, c)) in stages.into_iter().enumerate() {
        let layer = |part: &str| format!("layer{}.{part}", i + 1);
        cases.extend([
            folded(&layer("conv1"), shape([1, h, w, 4 * c], c, 1, 1)),
            folded(&layer("conv2"), shape([1, h, w, c], c, 3, 1)),
            closing(&layer("conv3"), shape([1, h, w, c], 4 * c, 1, 1)),
        ]);
        if let Some(&(h, w, _)) = i.checked_sub(1).and_then(|i| stages.get(i)) {
            cases.extend([
                folded(&layer("0.conv2"), shape([1, h, w, c], c, 3, 2)),
                case(
                    &layer("0.downsample"),
                    shape([1, h, w, 2 * c], 4 * c, 1, 2),
                    [true, true, false],
                    Activation::None,
                ),
            ]);
        }
    }
    cases
}

/// A random small case.
pub fn draw(d: &mut Draw) -> Case {
    let (batch, i, o, k) = (d.size(1, 2), d.size(1, 3), d.size(1, 4), d.size(1, 3));
    let geometry = ConvGeometry { stride: d.size(1, 3), padding: d.size(0, 2), dilation: d.size(1, 2) };
    let reach = geometry.dilation * (k - 1) + 1;
    let (h, w) = (d.size(1, 3) + reach - 1, d.size(1, 3) + reach - 1);
    let epilogue = [d.flag(), d.flag(), d.flag()];
    let activation = d.pick(&[Activation::None, Activation::Relu]);
    case("drawn", Shape { x: [batch, h, w, i], o, k, geometry }, epilogue, activation).seed(d.seed())
}
