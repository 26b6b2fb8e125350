//! Recall@k of phrase grounding (Flickr30k Entities, "any box" protocol; MDETR, section 4.2.1).
//!
//! A phrase counts as found at k when one of its first k predicted boxes has an IoU of at least 0.5 with any of its
//! ground-truth boxes.

use mdetr_model::box_ops::iou;

/// Least IoU of a box that grounds its phrase.
const MIN_IOU: f32 = 0.5;

/// Counts phrases found, over any number of images.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PhraseRecall {
    /// Phrases by where their first right box is ranked: 1st, 2nd to 5th, 6th to 10th, later.
    found: [u64; 4],
    phrases: u64,
}

/// Shares of phrases that were found, in [0, 1]; 0 of no phrases.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RecallResult {
    /// Found by the first box.
    pub recall_at_1: f64,
    /// Found by one of the first 5 boxes.
    pub recall_at_5: f64,
    /// Found by one of the first 10 boxes.
    pub recall_at_10: f64,
    /// Found by any predicted box.
    pub upper_bound: f64,
    /// Number of phrases.
    pub phrases: u64,
}

impl PhraseRecall {
    /// Counts one phrase: its ground-truth boxes and its predicted boxes, best first, all xyxy in the same unit.
    pub fn add(&mut self, ground_truth: &[[f32; 4]], ranked: &[[f32; 4]]) {
        let right = |predicted: &[f32; 4]| ground_truth.iter().any(|truth| iou(*predicted, *truth) >= MIN_IOU);
        self.phrases += 1;
        match ranked.iter().position(right) {
            Some(0) => self.found[0] += 1,
            Some(1..5) => self.found[1] += 1,
            Some(5..10) => self.found[2] += 1,
            Some(_) => self.found[3] += 1,
            None => (),
        }
    }

    /// The shares so far.
    pub fn result(&self) -> RecallResult {
        let share = |bins: usize| self.found[..bins].iter().sum::<u64>() as f64 / self.phrases.max(1) as f64;
        RecallResult {
            recall_at_1: share(1),
            recall_at_5: share(2),
            recall_at_10: share(3),
            upper_bound: share(4),
            phrases: self.phrases,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rank_of_the_first_right_box_decides() {
        let (truth, right, half, wrong) =
            ([0.0, 0.0, 10.0, 10.0], [1.0, 0.0, 10.0, 10.0], [0.0, 0.0, 10.0, 5.0], [20.0, 20.0, 30.0, 30.0]);
        let at = |rank: usize| [vec![wrong; rank], vec![right, wrong]].concat();
        let other = [50.0, 50.0, 60.0, 60.0];
        let mut recall = PhraseRecall::default();
        recall.add(&[other, truth], &at(0));
        recall.add(&[truth], &[half]); // an IoU of exactly 0.5 counts
        recall.add(&[truth], &at(4));
        recall.add(&[truth], &at(5));
        recall.add(&[truth], &at(9));
        recall.add(&[truth], &at(10));
        recall.add(&[truth], &[wrong]);
        recall.add(&[truth], &[]);
        let expected = RecallResult {
            recall_at_1: 2.0 / 8.0,
            recall_at_5: 3.0 / 8.0,
            recall_at_10: 5.0 / 8.0,
            upper_bound: 6.0 / 8.0,
            phrases: 8,
        };
        assert_eq!(recall.result(), expected);
    }
}
