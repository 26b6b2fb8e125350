//! Shapes: one id, repeated ids, a padding id, nothing, a vocabulary, rows used often.

use super::Embedding;
use crate::case::{Case, Draw, Input, Values};

fn case(name: &str, v: usize, c: usize, ids: &[usize], padding_idx: Option<usize>) -> Case {
    let inputs =
        vec![Input::new("table", &[v, c], Values::Normal(1.0)), Input::index("ids", ids, Values::Index(0, v as i32))];
    Case::new(name, Embedding { padding_idx }, inputs).only_in_f32()
}

/// The fixed cases.
pub fn cases() -> Vec<Case> {
    vec![
        case("one id", 4, 16, &[1], None),
        case("repeated ids, odd width", 3, 7, &[4, 11], None),
        case("padding", 3, 5, &[2, 9], Some(1)),
        case("nothing", 3, 5, &[0, 9], Some(1)),
        case("vocabulary", 500, 768, &[2, 32], Some(1)),
        case("more uses than a warp", 3, 8, &[100], None),
    ]
}

/// A random small case, without a padding id: its missing gradient is not the derivative (a golden checks it).
pub fn draw(d: &mut Draw) -> Case {
    let (v, c, ids) = (d.size(1, 5), d.size(1, 5), [d.size(1, 3), d.size(1, 4)]);
    case("drawn", v, c, &ids, None).seed(d.seed())
}
