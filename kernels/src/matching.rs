//! What the terms of the set loss share: which query of which image stands for which target. On a GPU kernels look it up
//! themselves (`matching.cuh`), so that no index comes back to the host.

use crate::case::{Input, Values};
use crate::philox::Philox;
use crate::{DType, Tensor};

/// Panics in the name of `op` unless matches are (L, T).
#[track_caller]
pub fn assert_matches_fit(op: &str, layers: usize, matches: &Tensor, image_of_target: &Tensor) {
    let targets = image_of_target.len();
    assert_eq!(
        matches.shape(),
        [layers, targets],
        "{op}: matches are {:?} for {layers} layers and {targets} targets",
        matches.shape()
    );
}

/// Panics in the name of `op` unless `floats` are f32 and `indices` i32, which kernels take them for.
#[track_caller]
pub fn assert_kernel_dtypes(op: &str, floats: &[&Tensor], indices: &[&Tensor]) {
    for (tensors, dtype) in [(floats, DType::F32), (indices, DType::I32)] {
        for t in tensors {
            assert_eq!(t.dtype(), dtype, "{op}: {t:?} is not {dtype:?}, the only type that the GPU has it in");
        }
    }
}

/// (target, row) of every matched target, layer by layer; rows count the queries of all images and layers, (L, B, Q)
/// flattened. `matches` (L, T) i32 holds the query of each target (-1: none), `image_of_target` (T) i32 its image; what pads
/// the targets is of image B and matches none. Panics in the name of `op` when shapes or indices do not fit.
#[track_caller]
pub fn matched_pairs(
    op: &str,
    [layers, images, queries]: [usize; 3],
    matches: &Tensor,
    image_of_target: &Tensor,
) -> Vec<(usize, usize)> {
    assert_matches_fit(op, layers, matches, image_of_target);
    let targets = image_of_target.len();
    let image_of_target: &[i32] = image_of_target.as_slice();
    let mut pairs = Vec::with_capacity(layers * targets);
    for (at, &query) in matches.as_slice::<i32>().iter().enumerate() {
        let (layer, target) = (at / targets, at % targets);
        let image = image_of_target[target];
        let queries_of_image = if image == images as i32 { 0 } else { queries as i32 };
        assert!(
            (0..=images as i32).contains(&image) && (-1..queries_of_image).contains(&query),
            "{op}: target {target} of image {image} matches query {query}; there are {images} images, {queries} queries"
        );
        if query >= 0 {
            pairs.push((target, (layer * images + image as usize) * queries + query as usize));
        }
    }
    pairs
}

/// The inputs `matches`, `image_of_target` and `num_boxes` of a test case with random matches: as many targets of an
/// image as it has queries are matched, the others are not.
pub fn case_inputs(layers: usize, targets_of_image: &[usize], queries: usize, seed: u64) -> [Input; 3] {
    let total: usize = targets_of_image.iter().sum();
    let shuffled = |n: usize, stream: u64| {
        let mut order: Vec<usize> = (0..n).collect();
        order.sort_by_key(|&i| Philox { seed, stream }.word(i as u64));
        order
    };
    let mut matches = Vec::new();
    for layer in 0..layers {
        for (image, &targets) in targets_of_image.iter().enumerate() {
            let stream = 1000 + 2 * (layer * targets_of_image.len() + image) as u64;
            let queries = shuffled(queries, stream);
            let of_target = |t: usize| queries.get(t).map_or(-1.0, |&q| q as f64);
            matches.extend(shuffled(targets, stream + 1).into_iter().map(of_target));
        }
    }
    let image_of_target = targets_of_image.iter().enumerate().flat_map(|(i, &n)| vec![i as f64; n]).collect();
    [
        Input::index("matches", &[layers, total], Values::Exact(matches)),
        Input::index("image_of_target", &[total], Values::Exact(image_of_target)),
        Input::constant("num_boxes", &[1], Values::Exact(vec![total.max(1) as f64])),
    ]
}
