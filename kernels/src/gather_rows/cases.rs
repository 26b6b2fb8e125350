//! Shapes: one row, several sources (an empty one among them), many of them, zero rows, repeated rows, more rows than a task.

use super::GatherRows;
use crate::case::{Case, Draw, Input, Values};

fn case(name: &str, m: usize, sources: &[usize], c: usize) -> Case {
    let rows: usize = sources.iter().sum();
    let mut inputs = vec![Input::index("index", &[m], Values::Index(-1, rows as i32))];
    inputs.extend(sources.iter().map(|&n| Input::new("source", &[n, c], Values::Normal(1.0))));
    Case::new(name, GatherRows, inputs)
}

/// The fixed cases.
pub fn cases() -> Vec<Case> {
    vec![
        case("one row", 1, &[1], 16),
        case("repeated rows, odd width", 23, &[4], 7),
        case("several sources, one of them empty", 40, &[5, 0, 9], 8),
        case("no rows", 0, &[3], 8),
        case("nothing in a row", 4, &[3], 0),
        case("nothing to pick", 4, &[0], 8),
        case("more sources than a launch", 50, &[3, 0, 4, 5, 2, 6], 12),
        case("image and text tokens", 300, &[268, 32], 256),
    ]
}

/// A random small case.
pub fn draw(d: &mut Draw) -> Case {
    let sources: Vec<usize> = (0..d.size(1, 3)).map(|_| d.size(0, 4)).collect();
    case("drawn", d.size(1, 8), &sources, d.size(1, 4)).seed(d.seed())
}
