//! Shapes: one row, an odd width, more rows than a block, more channels than a warp reads at once, nothing; with and without
//! positions, repeated or not, used or not; with and without a mask.

use super::ResidualNorm;
use crate::case::{Case, Draw, Input, Values};

fn case(name: &str, rows: &[usize], c: usize, positions: Option<usize>, p: f32) -> Case {
    let x = [rows, &[c]].concat();
    let mut inputs = vec![
        Input::new("x", &x, Values::Normal(2.0)),
        Input::new("r", &x, Values::Normal(1.0)),
        Input::new("w", &[c], Values::Normal(1.0)).in_f32(),
        Input::new("b", &[c], Values::Normal(1.0)).in_f32(),
    ];
    inputs.extend(positions.map(|q| Input::new("positions", &[q, c], Values::Normal(1.0))));
    Case::new(name, ResidualNorm { p, eps: 1e-5 }, inputs)
}

/// The fixed cases.
pub fn cases() -> Vec<Case> {
    vec![
        case("one row", &[1], 64, None, 0.1).training(),
        case("odd width, a position a row", &[5], 37, Some(5), 0.1).training(),
        case("less than a vector, repeated positions", &[2, 3], 3, Some(2), 0.5).training(),
        case("evaluation", &[4], 24, Some(1), 0.1),
        case("nobody uses the sum with positions", &[2, 3], 8, Some(3), 0.1).unused_output(1).training(),
        case("nobody uses the norm itself", &[3], 7, Some(3), 0.1).unused_output(0).training(),
        case("no rows", &[0], 16, Some(3), 0.1).training(),
        case("more rows than a block", &[137], 40, None, 0.1).training(),
        case("queries", &[2, 20], 256, Some(20), 0.1).training(),
        case("RoBERTa", &[2, 9], 768, None, 0.1).training(),
    ]
}

/// A random small case. Of few channels all may be nearly equal: their rounding before normalization would grow.
pub fn draw(d: &mut Draw) -> Case {
    let (repeats, q, c) = (d.size(1, 3), d.size(1, 3), d.size(4, 9));
    let positions = d.pick(&[None, Some(q)]);
    let case = case("drawn", &[repeats * q], c, positions, d.pick(&[0.0, 0.1, 0.5])).seed(d.seed());
    if d.flag() { case.training() } else { case }
}
