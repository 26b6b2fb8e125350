//! Shapes: one pair, more targets than queries, images without targets, nothing at all.

use super::BoxLoss;
use crate::case::{Case, Draw, Input, Values};
use crate::matching::case_inputs;
use crate::philox::Philox;

/// Boxes whose edges lie on a grid of 1 / 16, apart from a shift; those of predictions (no shift) and of targets never
/// coincide, nor do their centres and sides, so that |x|, min and max keep their branch.
fn boxes(count: usize, philox: Philox, shift: f64) -> Values {
    let word = |i: usize| f64::from(philox.word(i as u64));
    let value = |i: usize| match i % 4 {
        0 | 1 => (4.0 + word(i) % 8.0) / 16.0 + shift,
        _ => (1.0 + word(i) % 6.0) / 8.0 + shift / 3.0,
    };
    Values::Exact((0..count * 4).map(value).collect())
}

fn case(name: &str, layers: usize, targets_of_image: &[usize], queries: usize, seed: u64) -> Case {
    let images = targets_of_image.len();
    let total: usize = targets_of_image.iter().sum();
    let [matches, image_of_target, num_boxes] = case_inputs(layers, targets_of_image, queries, seed);
    let philox = |stream| Philox { seed, stream };
    Case::new(
        name,
        BoxLoss,
        vec![
            Input::new("boxes", &[layers, images, queries, 4], boxes(layers * images * queries, philox(20), 0.0)),
            Input::constant("targets", &[total, 4], boxes(total, philox(21), 0.021)),
            matches,
            image_of_target,
            num_boxes,
        ],
    )
    .only_in_f32()
    .seed(seed)
}

/// The fixed cases.
pub fn cases() -> Vec<Case> {
    vec![
        case("one pair", 1, &[1], 1, 1),
        case("odd sizes", 3, &[2, 0, 5], 7, 2),
        case("more targets than queries", 2, &[9, 4], 5, 3),
        case("no targets", 2, &[0, 0], 6, 4),
        case("no images", 2, &[], 6, 5),
        case("more targets than a block", 1, &[130, 3], 140, 7),
        case("MDETR", 6, &[12, 3], 100, 6),
    ]
}

/// A random small case.
pub fn draw(d: &mut Draw) -> Case {
    let targets: Vec<usize> = (0..d.size(1, 2)).map(|_| d.size(0, 3)).collect();
    case("drawn", d.size(1, 2), &targets, d.size(1, 4), d.seed())
}
