//! Shapes: one element, an odd size, more than a block, nothing; with and without a mask.

use super::Dropout;
use crate::case::{Case, Draw, Input, Values};

fn case(name: &str, shape: &[usize], p: f32) -> Case {
    Case::new(name, Dropout { p }, vec![Input::new("x", shape, Values::Normal(1.0))])
}

/// The fixed cases.
pub fn cases() -> Vec<Case> {
    vec![
        case("one element", &[1], 0.5).training(),
        case("odd size", &[3, 37], 0.1).training(),
        case("more elements than a block", &[5, 4001], 0.1).training(),
        case("nothing", &[0, 8], 0.1).training(),
        case("probability zero", &[4, 8], 0.0).training(),
        case("evaluation", &[4, 8], 0.1),
        case("feed-forward layer", &[320, 2048], 0.1).training(),
    ]
}

/// A random small case.
pub fn draw(d: &mut Draw) -> Case {
    let shape = [d.size(1, 6), d.size(1, 9)];
    let case = case("drawn", &shape, d.pick(&[0.0, 0.1, 0.5])).seed(d.seed());
    if d.flag() { case.training() } else { case }
}
