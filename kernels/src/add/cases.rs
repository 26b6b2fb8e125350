//! Shapes: one row, equal shapes, an odd width, more elements than a block with a period that does not divide it.

use super::Add;
use crate::case::{Case, Draw, Input, Values};

fn case(name: &str, leading: &[usize], b: &[usize]) -> Case {
    let a = [leading, b].concat();
    Case::new(name, Add, vec![Input::new("a", &a, Values::Normal(1.0)), Input::new("b", b, Values::Normal(1.0))])
}

/// The fixed cases.
pub fn cases() -> Vec<Case> {
    vec![
        case("one row", &[1], &[16]),
        case("equal shapes", &[], &[3, 5]),
        case("odd width", &[5], &[7]),
        case("a scalar", &[2, 3], &[]),
        case("no rows", &[0], &[8]),
        case("nothing in a row", &[3], &[0]),
        case("more elements than a block", &[7], &[100, 33]),
        case("more repetitions than a block", &[131], &[5]),
        case("tokens and positions", &[], &[100, 256]),
    ]
}

/// A random small case.
pub fn draw(d: &mut Draw) -> Case {
    let leading: Vec<usize> = (0..d.size(0, 2)).map(|_| d.size(1, 4)).collect();
    let b: Vec<usize> = (0..d.size(0, 2)).map(|_| d.size(1, 3)).collect();
    case("drawn", &leading, &b).seed(d.seed())
}
