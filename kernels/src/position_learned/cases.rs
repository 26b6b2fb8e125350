//! Shapes: one cell, odd widths, several maps, no map, a map that fills the table.

use super::PositionLearned;
use crate::case::{Case, Draw, Input, Values};

/// With `behind` more cells than the maps have.
fn case(name: &str, sizes: &[[usize; 2]], behind: usize, table: usize, half: usize) -> Case {
    let cells = sizes.iter().map(|[h, w]| h * w).sum::<usize>() + behind;
    let inputs = vec![
        Input::new("row_embed", &[table, half], Values::Normal(1.0)),
        Input::new("col_embed", &[table, half], Values::Normal(1.0)),
    ];
    Case::new(name, PositionLearned { sizes: sizes.into(), cells }, inputs).only_in_f32()
}

/// The fixed cases.
pub fn cases() -> Vec<Case> {
    vec![
        case("one cell", &[[1, 1]], 0, 1, 8),
        case("several maps, odd width", &[[2, 3], [4, 1]], 0, 5, 3),
        case("no map", &[], 0, 5, 4),
        case("no channels", &[[2, 3]], 0, 5, 0),
        case("the whole table", &[[9, 14], [50, 50]], 0, 50, 96),
        case("cells behind the maps", &[[2, 3], [4, 1]], 20, 5, 3),
    ]
}

/// A random small case.
pub fn draw(d: &mut Draw) -> Case {
    let sizes: Vec<[usize; 2]> = (0..d.size(1, 2)).map(|_| [d.size(1, 4), d.size(1, 4)]).collect();
    case("drawn", &sizes, d.size(0, 2), d.size(4, 5), d.size(1, 3)).seed(d.seed())
}
