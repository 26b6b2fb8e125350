//! Shapes: one row, odd sizes, more rows than a task, nothing at all.

use super::Linear;
use crate::activation::Activation;
use crate::case::{Case, Draw, Input, Values};

fn case(name: &str, rows: usize, i: usize, o: usize, activation: Activation) -> Case {
    // ReLU's kink lies at a pre-activation of 0: positive inputs and weights and a bias of either large sign keep away.
    let relu = activation == Activation::Relu;
    let inner = i.max(1) as f64;
    let (x, w, b) = match relu {
        true => (Values::Uniform(0.1, 1.0), Values::Uniform(0.0, 1.0 / inner), Values::AwayFromZero(2.0, 3.0)),
        false => (Values::Normal(1.0), Values::Normal(inner.sqrt().recip()), Values::Normal(1.0)),
    };
    Case::new(
        name,
        Linear { activation },
        vec![Input::new("x", &[rows, i], x), Input::new("w", &[o, i], w), Input::new("b", &[o], b).in_f32()],
    )
}

/// The fixed cases.
pub fn cases() -> Vec<Case> {
    vec![
        case("one row", 1, 64, 64, Activation::None),
        case("odd sizes", 5, 37, 19, Activation::Gelu),
        case("more rows than a task", 300, 48, 33, Activation::Relu),
        case("whole vectors", 70, 48, 72, Activation::Gelu),
        case("one output", 67, 16, 1, Activation::None),
        case("longer sums than a tile", 9, 100, 24, Activation::Tanh),
        case("more blocks of sums than a warp has lanes", 1060, 1, 2, Activation::None),
        case("no rows", 0, 16, 8, Activation::None),
        case("no rows of an activation", 0, 8, 16, Activation::Sigmoid),
        case("no outputs", 3, 8, 0, Activation::Relu),
        case("rows in two panels", 128, 36, 80, Activation::None),
        case("longer sums than a chunk", 130, 2100, 3, Activation::None),
        case("sums of halves, and rows left over", 1790, 256, 256, Activation::Gelu),
        case("more sums than a block", 220, 100, 70, Activation::Sigmoid),
        case("RoBERTa", 128, 768, 3072, Activation::Gelu),
        case("boxes", 24, 64, 4, Activation::Sigmoid),
    ]
}

/// A random small case.
pub fn draw(d: &mut Draw) -> Case {
    let activations = [Activation::None, Activation::Relu, Activation::Gelu, Activation::Sigmoid, Activation::Tanh];
    let (rows, i, o) = (d.size(1, 5), d.size(1, 6), d.size(1, 6));
    case("drawn", rows, i, o, d.pick(&activations)).seed(d.seed())
}
