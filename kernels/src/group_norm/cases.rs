//! Shapes: one pixel, odd widths, one group, a group a channel, more pixels than a block, nothing at all, and the layers
//! of a small backbone.

use super::GroupNorm;
use crate::activation::Activation;
use crate::case::{Case, Draw, Input, Values};

fn case(name: &str, x: &[usize], groups: usize, activation: Activation) -> Case {
    let c = x[x.len() - 1];
    // ReLU's kink lies at a pre-activation of 0: a normalized value is at most the root of the number of elements that
    // share a mean, and a bias of either sign beyond that, times the largest weight, keeps away.
    let shared: usize = x[1..].iter().product::<usize>() / groups;
    let b = match activation {
        Activation::None => Values::Normal(1.0),
        _ => Values::AwayFromZero((shared as f64).sqrt() + 0.5, (shared as f64).sqrt() + 1.0),
    };
    let w = if activation == Activation::None { Values::Normal(1.0) } else { Values::AwayFromZero(0.5, 1.0) };
    Case::new(
        name,
        GroupNorm { groups, eps: 1e-5, activation },
        vec![
            Input::new("x", x, Values::Normal(2.0)),
            Input::new("w", &[c], w).in_f32(),
            Input::new("b", &[c], b).in_f32(),
        ],
    )
}

/// The fixed cases.
pub fn cases() -> Vec<Case> {
    vec![
        case("one pixel", &[1, 1, 1, 64], 8, Activation::None),
        case("odd width", &[2, 3, 5, 37], 1, Activation::Relu),
        case("a group a channel", &[3, 4, 4, 7], 7, Activation::Relu),
        case("no space", &[5, 24], 3, Activation::None),
        case("more pixels than a block", &[2, 31, 37, 48], 8, Activation::None).tolerance(3e-5),
        case("more channels than a block", &[2, 3, 3, 264], 8, Activation::None),
        case("no images", &[0, 4, 4, 16], 8, Activation::Relu),
        case("small backbone", &[2, 28, 28, 32], 8, Activation::Relu).tolerance(3e-5),
        case("first layer, batch 16", &[16, 112, 112, 32], 8, Activation::Relu).only_for_benches(),
        case("second layer, batch 16", &[16, 56, 56, 64], 8, Activation::Relu).only_for_benches(),
        case("ResNet-50 layer 2", &[1, 100, 134, 512], 32, Activation::Relu).only_for_benches(),
    ]
}

/// A random small case.
pub fn draw(d: &mut Draw) -> Case {
    let (groups, group) = (d.size(1, 3), d.size(1, 3));
    let x = [d.size(1, 2), d.size(1, 3), d.size(1, 2), groups * group];
    // A group of one or two elements has gradients of rounding noise alone.
    let x = if x[1] * x[2] * group < 3 { [x[0], 3, x[2], x[3]] } else { x };
    case("drawn", &x, groups, d.pick(&[Activation::None, Activation::Relu])).seed(d.seed())
}
