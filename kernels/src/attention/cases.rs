//! Shapes: one query, odd sizes, ragged segments, keys that two segments share, a segment without keys, more queries
//! than a block, with and without dropout.

use super::Attention;
use crate::Segment;
use crate::case::{Case, Draw, Input, Values};

/// Sequences of (queries, keys), packed; every sequence is followed by `gap` rows that belong to nobody.
fn packed(sizes: &[[usize; 2]], gap: usize) -> Vec<Segment> {
    let (mut query, mut key) = (0, 0);
    let next = |&[queries, keys]: &[usize; 2]| {
        let segment = Segment { query, queries, key, keys };
        (query, key) = (query + queries + gap, key + keys + gap);
        segment
    };
    sizes.iter().map(next).collect()
}

fn case(name: &str, heads: usize, head_dim: usize, segments: Vec<Segment>, dropout: f32) -> Case {
    let c = heads * head_dim;
    let nq = segments.iter().map(|s| s.query + s.queries).max().unwrap_or(0) + 1;
    let nk = segments.iter().map(|s| s.key + s.keys).max().unwrap_or(0) + 2;
    let inputs = vec![
        Input::new("q", &[nq, c], Values::Normal(1.0)),
        Input::new("k", &[nk, c], Values::Normal(1.0)),
        Input::new("v", &[nk, c], Values::Normal(1.0)),
    ];
    Case::new(name, Attention { heads, segments: segments.into(), dropout }, inputs)
}

/// Scores about -130: the weight of a key that is not there, exp(0 - logsumexp), would be infinite.
fn low_scores() -> Case {
    let inputs = vec![
        Input::new("q", &[5, 32], Values::Uniform(4.0, 5.0)),
        Input::new("k", &[7, 32], Values::Uniform(-6.0, -5.0)),
        Input::new("v", &[7, 32], Values::Normal(1.0)),
    ];
    let segments = packed(&[[5, 7]], 0).into();
    // An f32 rounding of a score of 130 is 8e-6, as much as a weight then errs by relatively.
    Case::new("scores far below zero", Attention { heads: 1, segments, dropout: 0.0 }, inputs).tolerance(1e-4)
}

/// The fixed cases.
pub fn cases() -> Vec<Case> {
    let shared_keys =
        vec![Segment { query: 0, queries: 9, key: 0, keys: 12 }, Segment { query: 9, queries: 4, key: 5, keys: 11 }];
    let shared_tiles = vec![
        Segment { query: 0, queries: 17, key: 3, keys: 70 },
        Segment { query: 18, queries: 4, key: 60, keys: 31 },
    ];
    vec![
        case("one query, one key", 1, 8, packed(&[[1, 1]], 0), 0.0),
        case("odd sizes", 3, 5, packed(&[[7, 13]], 0), 0.0),
        case("ragged, with rows between", 2, 8, packed(&[[5, 17], [33, 3], [1, 40]], 3), 0.0),
        case("no keys, no queries", 2, 8, packed(&[[4, 0], [0, 4], [3, 2]], 1), 0.0),
        case("no segments", 2, 8, vec![], 0.0),
        case("shared keys", 2, 8, shared_keys.clone(), 0.0),
        case("dropout", 2, 8, shared_keys, 0.3).training(),
        case("dropout, more queries than a block", 1, 24, packed(&[[90, 69], [170, 20]], 0), 0.1).training(),
        case("encoder", 8, 32, packed(&[[320, 300]], 0), 0.1),
        case("decoder", 8, 32, packed(&[[100, 860], [100, 700]], 0), 0.1),
        case("RoBERTa", 12, 64, packed(&[[40, 40], [40, 13]], 0), 0.1).training(),
        case("tiles with ragged ends", 1, 32, packed(&[[65, 130], [0, 3], [3, 0], [2, 65]], 1), 0.0),
        case("tiles with ragged ends, dropout", 1, 64, packed(&[[66, 67], [1, 1]], 1), 0.2).training(),
        case("shared tiles of keys", 2, 32, shared_tiles, 0.1).training(),
        case("many keys", 1, 32, packed(&[[5, 600], [3, 0], [17, 20]], 1), 0.1).training(),
        low_scores(),
    ]
}

/// A random small case.
pub fn draw(d: &mut Draw) -> Case {
    let sizes: Vec<[usize; 2]> = (0..d.size(1, 2)).map(|_| [d.size(0, 3), d.size(0, 4)]).collect();
    let segments = packed(&sizes, d.size(0, 1));
    let case = case("drawn", d.size(1, 2), d.size(1, 3), segments, d.pick(&[0.0, 0.2])).seed(d.seed());
    if d.flag() { case.training() } else { case }
}
