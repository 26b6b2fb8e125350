//! The definition, a pair at a time; a batch has too few pairs for a faster version to pay.

use crate::Real;
use crate::boxes::{generalized_iou, generalized_iou_backward, to_corners, to_corners_backward};
use crate::op::GradSlot;

/// l1 (L), giou (L); boxes (L, B, Q, 4), targets (T, 4), (target, row) pairs.
pub fn forward<T: Real>(
    l1: &mut [T],
    giou: &mut [T],
    boxes: &[T],
    targets: &[T],
    pairs: &[(usize, usize)],
    num_boxes: T,
) {
    l1.fill(T::zero());
    giou.fill(T::zero());
    let (boxes, targets) = (boxes.as_chunks::<4>().0, targets.as_chunks::<4>().0);
    let rows_of_layer = boxes.len() / l1.len().max(1);
    for &(target, row) in pairs {
        let (a, b, layer) = (boxes[row], targets[target], row / rows_of_layer);
        l1[layer] += a.iter().zip(b).map(|(&a, b)| (a - b).abs()).sum::<T>() / num_boxes;
        giou[layer] += (T::one() - generalized_iou(to_corners(a), to_corners(b))) / num_boxes;
    }
}

/// The gradient of the boxes; that of |x| at 0 is 0.
#[expect(clippy::too_many_arguments, reason = "the pass as it is")]
pub fn backward<T: Real>(
    dboxes: &mut GradSlot,
    dl1: Option<&[T]>,
    dgiou: Option<&[T]>,
    boxes: &[T],
    targets: &[T],
    pairs: &[(usize, usize)],
    num_boxes: T,
    layers: usize,
) {
    let Some(dboxes) = dboxes.accumulator::<T>() else { return };
    let (boxes, targets) = (boxes.as_chunks::<4>().0, targets.as_chunks::<4>().0);
    let rows_of_layer = boxes.len() / layers.max(1);
    for &(target, row) in pairs {
        let (a, b, layer) = (boxes[row], targets[target], row / rows_of_layer);
        let giou = to_corners_backward(generalized_iou_backward(to_corners(a), to_corners(b)));
        for i in 0..4 {
            let sign = if a[i] == b[i] { T::zero() } else { (a[i] - b[i]).signum() };
            let gradient =
                dl1.map_or(T::zero(), |g| g[layer] * sign) - dgiou.map_or(T::zero(), |g| g[layer] * giou[i]);
            dboxes[row * 4 + i] += gradient / num_boxes;
        }
    }
}
