//! Boxes on the host: conversions and overlaps.

/// (center x, center y, width, height) -> (x0, y0, x1, y1).
pub fn cxcywh_to_xyxy([cx, cy, w, h]: [f32; 4]) -> [f32; 4] {
    [cx - w / 2.0, cy - h / 2.0, cx + w / 2.0, cy + h / 2.0]
}

/// Intersection over union of two xyxy boxes; 0 when both are empty.
pub fn iou(a: [f32; 4], b: [f32; 4]) -> f32 {
    let area = |b: [f32; 4]| (b[2] - b[0]).max(0.0) * (b[3] - b[1]).max(0.0);
    let side = |lo: usize, hi: usize| (a[hi].min(b[hi]) - a[lo].max(b[lo])).max(0.0);
    let intersection = side(0, 2) * side(1, 3);
    let union = area(a) + area(b) - intersection;
    if union > 0.0 { intersection / union } else { 0.0 }
}

/// Indices that greedy non-maximum suppression keeps, best score first.
pub fn nms(boxes: &[[f32; 4]], scores: &[f32], threshold: f32) -> Vec<usize> {
    let mut order: Vec<usize> = (0..boxes.len()).collect();
    order.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]));
    let mut kept: Vec<usize> = Vec::new();
    for i in order {
        if kept.iter().all(|&k| iou(boxes[k], boxes[i]) <= threshold) {
            kept.push(i);
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overlaps() {
        assert_eq!(iou([0.0, 0.0, 2.0, 2.0], [1.0, 1.0, 3.0, 3.0]), 1.0 / 7.0);
        assert_eq!(iou([0.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]), 0.0);
        assert_eq!(cxcywh_to_xyxy([0.5, 0.5, 1.0, 0.5]), [0.0, 0.25, 1.0, 0.75]);
    }

    #[test]
    fn suppression_keeps_the_best_of_a_cluster() {
        let boxes = [[0.0, 0.0, 10.0, 10.0], [1.0, 0.0, 11.0, 10.0], [50.0, 0.0, 60.0, 10.0]];
        assert_eq!(nms(&boxes, &[0.5, 0.9, 0.1], 0.5), [1, 2]);
    }
}
