//! Shapes: one query, odd sizes, more targets than queries, images without targets, nothing at all.

use super::SoftTokenLoss;
use crate::case::{Case, Draw, Input, Values};
use crate::matching::case_inputs;
use crate::philox::Philox;

fn case(name: &str, layers: usize, targets_of_image: &[usize], queries: usize, k: usize, seed: u64) -> Case {
    let images = targets_of_image.len();
    let total: usize = targets_of_image.iter().sum();
    // Multi-hot rows; a row may be empty, and one weight is no 0 or 1.
    let mut map: Vec<f64> =
        (0..total * k).map(|i| f64::from(Philox { seed, stream: 10 }.word(i as u64) < u32::MAX / 4)).collect();
    map.iter_mut().take(1).for_each(|m| *m = 0.3);
    let [matches, image_of_target, num_boxes] = case_inputs(layers, targets_of_image, queries, seed);
    Case::new(
        name,
        SoftTokenLoss { eos_coef: 0.1 },
        vec![
            // Distinct logits keep every argmax, and with it the cardinality, where it is.
            Input::new("logits", &[layers, images, queries, k], Values::Distinct(6.0 / (queries * k).max(1) as f64)),
            Input::constant("positive_map", &[total, k], Values::Exact(map)),
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
        case("one query", 1, &[1], 1, 256, 1),
        case("odd sizes", 3, &[2, 0, 5], 7, 37, 2),
        case("more targets than queries", 2, &[9, 4], 5, 20, 3),
        case("no targets", 2, &[0, 0], 6, 33, 4),
        case("no images", 2, &[], 6, 16, 5),
        case("one column", 1, &[1], 2, 1, 6),
        case("more images than warps", 1, &[1, 0, 2, 1, 1, 3, 0, 1, 1, 2, 1], 2, 5, 8),
        case("MDETR", 2, &[12, 3], 100, 256, 7),
    ]
}

/// A random small case.
pub fn draw(d: &mut Draw) -> Case {
    let targets: Vec<usize> = (0..d.size(1, 2)).map(|_| d.size(0, 3)).collect();
    case("drawn", d.size(1, 2), &targets, d.size(1, 4), d.size(1, 7), d.seed())
}
