//! The matching cost of one image in one decoder layer.

use super::MatchCost;
use crate::Real;
use crate::boxes::{generalized_iou, to_corners};
use crate::exp::logsumexp;

/// What a query is compared with.
pub struct Target<T> {
    /// The few columns of the positive map that are not 0, and their weights.
    positive: Vec<(usize, T)>,
    /// Normalized (cx, cy, w, h).
    box_: [T; 4],
}

impl<T: Real> Target<T> {
    /// From its row of the positive map and its box.
    pub fn new(positive_map: &[T], box_: [T; 4]) -> Self {
        let positive = positive_map.iter().copied().enumerate().filter(|(_, weight)| *weight != T::zero()).collect();
        Target { positive, box_ }
    }
}

/// The (queries, targets) cost, row-major, of logits (Q, K) and predicted boxes (Q, 4). Computed in T, as published; NaN
/// and infinities count as 0.
pub fn cost_matrix<T: Real>(logits: &[T], boxes: &[T], targets: &[Target<T>], weights: MatchCost) -> Vec<f64> {
    let boxes = boxes.as_chunks::<4>().0;
    let k = (logits.len() / boxes.len().max(1)).max(1);
    let [class_weight, bbox_weight, giou_weight] = [weights.class, weights.bbox, weights.giou].map(T::from_f64);
    let mut cost = Vec::with_capacity(boxes.len() * targets.len());
    for (logits, &box_) in logits.chunks(k).zip(boxes) {
        let normalizer = logsumexp(logits);
        for target in targets {
            let probability = |&(column, weight): &(usize, T)| weight * (logits[column] - normalizer).exp();
            let class = -target.positive.iter().map(probability).sum::<T>();
            let bbox = box_.iter().zip(target.box_).map(|(&a, b)| (a - b).abs()).sum::<T>();
            let giou = -generalized_iou(to_corners(box_), to_corners(target.box_));
            let total = bbox_weight * bbox + class_weight * class + giou_weight * giou;
            cost.push(if total.is_finite() { total.to_f64() } else { 0.0 });
        }
    }
    cost
}
