//! Shapes: one pixel, odd sizes, windows that overlap and that do not, nothing at all. Values differ by at least 0.1, so
//! that no maximum moves under a gradient check.

use super::MaxPool;
use crate::case::{Case, Draw, Input, Values};

fn case(name: &str, x: [usize; 4], kernel: usize, stride: usize, padding: usize) -> Case {
    Case::new(name, MaxPool { kernel, stride, padding }, vec![Input::new("x", &x, Values::Distinct(0.1))])
}

/// The fixed cases.
pub fn cases() -> Vec<Case> {
    vec![
        case("one pixel", [1, 1, 1, 16], 1, 1, 0),
        case("odd sizes", [2, 9, 10, 5], 3, 2, 1),
        case("windows side by side", [1, 8, 6, 19], 2, 2, 0),
        case("every window in an image of one", [3, 2, 2, 8], 3, 1, 1),
        case("stride beyond the window", [1, 7, 11, 3], 2, 3, 0),
        case("no images", [0, 4, 4, 8], 3, 2, 1),
        case("ResNet", [1, 56, 75, 64], 3, 2, 1),
        case("ResNet-101 at 800 x 1066", [1, 400, 533, 64], 3, 2, 1).only_for_benches(),
    ]
}

/// A random small case.
pub fn draw(d: &mut Draw) -> Case {
    let (kernel, stride) = (d.size(1, 3), d.size(1, 3));
    let padding = d.size(0, kernel / 2);
    let x = [d.size(1, 2), d.size(0, 3) + kernel, d.size(0, 3) + kernel, d.size(1, 2)];
    case("drawn", x, kernel, stride, padding).seed(d.seed())
}
