//! Several batches that make one step: their gradients are added up.
//!
//! The losses of a batch are means over its boxes, so each batch weighs as many boxes as it has: the step is that of one
//! batch of all the images (but for padding, which is a batch's own).

use std::collections::VecDeque;

use anyhow::Result;

use crate::collate::Collated;

/// Batches in groups of `count`, each with its share of the group's boxes. The last group may have fewer.
pub fn with_shares(
    mut batches: impl Iterator<Item = Result<Collated>>,
    count: usize,
) -> impl Iterator<Item = Result<Collated>> {
    let mut group = VecDeque::new();
    std::iter::from_fn(move || {
        if group.is_empty() {
            match batches.by_ref().take(count).collect::<Result<VecDeque<_>>>() {
                Ok(next) => group = next,
                Err(e) => return Some(Err(e)),
            }
            let all: usize = group.iter().map(boxes).sum();
            group.iter_mut().for_each(|batch| batch.share = boxes(batch).max(1) as f64 / all.max(1) as f64);
        }
        group.pop_front().map(Ok)
    })
}

fn boxes(batch: &Collated) -> usize {
    batch.targets.counts.iter().sum()
}
