//! Shapes: one row, an odd width, less than a vector, more rows than a block, nothing at all.

use super::LayerNorm;
use crate::case::{Case, Draw, Input, Values};

fn case(name: &str, rows: &[usize], c: usize, eps: f64) -> Case {
    let x: Vec<usize> = [rows, &[c]].concat();
    Case::new(
        name,
        LayerNorm { eps },
        vec![
            Input::new("x", &x, Values::Normal(2.0)),
            Input::new("w", &[c], Values::Normal(1.0)).in_f32(),
            Input::new("b", &[c], Values::Normal(1.0)).in_f32(),
        ],
    )
}

/// The fixed cases.
pub fn cases() -> Vec<Case> {
    vec![
        case("one row", &[1], 64, 1e-5),
        case("odd width", &[5], 37, 1e-5),
        case("less than a vector", &[3], 3, 1e-12),
        case("more rows than a block", &[2, 97], 256, 1e-5),
        case("no rows", &[0], 16, 1e-5),
        case("RoBERTa", &[4, 32], 768, 1e-5),
    ]
}

/// A random small case.
pub fn draw(d: &mut Draw) -> Case {
    let (rows, c) = (d.size(1, 4), d.size(2, 9));
    case("drawn", &[rows], c, d.pick(&[1e-5, 1e-3])).seed(d.seed())
}
