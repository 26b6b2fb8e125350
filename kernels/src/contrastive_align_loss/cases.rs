//! Shapes: one query, odd sizes, more targets than queries, images without targets, nothing at all.

use super::ContrastiveAlignLoss;
use crate::case::{Case, Draw, Input, Values};
use crate::matching::case_inputs;
use crate::philox::Philox;

struct Shape<'a> {
    layers: usize,
    targets_of_image: &'a [usize],
    queries: usize,
    tokens: usize,
    /// Tokens behind those that are there.
    tail: usize,
    channels: usize,
}

fn case(name: &str, shape: Shape, temperature: f64, seed: u64) -> Case {
    let Shape { layers, targets_of_image, queries, tokens, tail, channels } = shape;
    let (token_count, tokens) = (tokens, tokens + tail);
    let images = targets_of_image.len();
    let total: usize = targets_of_image.iter().sum();
    // Some targets align with no token at all.
    let positive = |i: usize| Philox { seed, stream: 10 }.word(i as u64) < u32::MAX / 3;
    let map: Vec<f64> = (0..total * tokens).map(|i| f64::from(positive(i))).collect();
    let [matches, image_of_target, num_boxes] = case_inputs(layers, targets_of_image, queries, seed);
    let unit = Values::Normal((channels.max(1) as f64).sqrt().recip());
    Case::new(
        name,
        ContrastiveAlignLoss { temperature },
        vec![
            Input::new("queries", &[layers, images, queries, channels], unit.clone()),
            Input::new("tokens", &[images, tokens, channels], unit),
            Input::constant("align_map", &[total, tokens], Values::Exact(map)),
            Input::index("token_count", &[1], Values::Exact(vec![token_count as f64])),
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
    let of = |layers, targets_of_image, queries, tokens, channels| Shape {
        layers,
        targets_of_image,
        queries,
        tokens,
        tail: 0,
        channels,
    };
    vec![
        case("one query", of(1, &[1], 1, 5, 8), 0.07, 1),
        case("odd sizes", of(3, &[2, 0, 5], 7, 19, 13), 0.07, 2),
        case("more targets than queries", of(2, &[9, 4], 5, 8, 4), 0.07, 3),
        case("no targets", of(2, &[0, 0], 6, 9, 8), 0.07, 4),
        case("no images", of(2, &[], 6, 7, 8), 0.07, 5),
        case("no tokens", of(1, &[2], 3, 0, 4), 0.07, 6),
        case("no queries", of(1, &[2], 0, 3, 4), 0.07, 7),
        case("more images than a warp", of(1, &[1; 34], 2, 3, 4), 0.07, 9),
        case("a tail", Shape { tail: 45, ..of(2, &[2, 0, 5], 20, 11, 8) }, 0.07, 10),
        case("MDETR", of(2, &[12, 3], 100, 40, 64), 0.07, 8),
    ]
}

/// A random small case.
pub fn draw(d: &mut Draw) -> Case {
    let targets: Vec<usize> = (0..d.size(1, 2)).map(|_| d.size(0, 3)).collect();
    let shape = Shape {
        layers: d.size(1, 2),
        targets_of_image: &targets,
        queries: d.size(1, 4),
        tokens: d.size(1, 4),
        tail: d.size(0, 2),
        channels: d.size(1, 4),
    };
    case("drawn", shape, d.pick(&[0.5, 1.0]), d.seed())
}
