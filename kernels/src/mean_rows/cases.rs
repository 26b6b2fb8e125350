//! Shapes: one group, empty groups, rows in several groups, nothing.

use super::MeanRows;
use crate::case::{Case, Draw, Input, Values};

fn case(name: &str, n: usize, c: usize, sizes: &[usize]) -> Case {
    let offsets: Vec<f64> = std::iter::once(0)
        .chain(sizes.iter().copied())
        .scan(0, |end, size| {
            *end += size;
            Some(*end as f64)
        })
        .collect();
    let members = sizes.iter().sum();
    let inputs = vec![
        Input::new("x", &[n, c], Values::Normal(1.0)),
        Input::index("index", &[members], Values::Index(0, n as i32)),
        Input::index("offsets", &[offsets.len()], Values::Exact(offsets)),
    ];
    Case::new(name, MeanRows, inputs)
}

/// The fixed cases.
pub fn cases() -> Vec<Case> {
    vec![
        case("one group", 4, 16, &[3]),
        case("odd width, an empty group", 6, 7, &[2, 0, 5]),
        case("rows in several groups", 3, 8, &[4, 9, 1]),
        case("no groups", 3, 8, &[]),
        case("nothing in a row", 3, 0, &[2]),
        case("phrases", 512, 64, &[3; 40]),
    ]
}

/// A random small case.
pub fn draw(d: &mut Draw) -> Case {
    let sizes: Vec<usize> = (0..d.size(1, 4)).map(|_| d.size(0, 4)).collect();
    case("drawn", d.size(1, 6), d.size(1, 5), &sizes).seed(d.seed())
}
