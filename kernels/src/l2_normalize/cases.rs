//! Shapes: one row, an odd width, one channel, nothing, every query of every layer.

use super::L2Normalize;
use crate::case::{Case, Draw, Input, Values};

fn case(name: &str, shape: &[usize], values: Values) -> Case {
    Case::new(name, L2Normalize, vec![Input::new("x", shape, values)])
}

/// The fixed cases.
pub fn cases() -> Vec<Case> {
    vec![
        case("one row", &[1, 64], Values::Normal(1.0)),
        case("odd width", &[2, 5, 37], Values::Normal(3.0)),
        case("one channel", &[4, 1], Values::AwayFromZero(0.5, 2.0)),
        case("no rows", &[0, 16], Values::Normal(1.0)),
        case("nothing in a row", &[3, 0], Values::Normal(1.0)),
        case("queries", &[6, 2, 100, 64], Values::Normal(1.0)),
    ]
}

/// A random small case. Its rows are longer than eps, where the length has a kink.
pub fn draw(d: &mut Draw) -> Case {
    let shape = [d.size(1, 5), d.size(1, 8)];
    case("drawn", &shape, Values::AwayFromZero(0.3, 1.5)).seed(d.seed())
}
