//! Box geometry: corners and generalized IoU (Rezatofighi et al., 2019, arXiv 1902.09630) with PyTorch's subgradients.

use crate::Real;

/// (cx, cy, w, h) -> (x0, y0, x1, y1).
pub fn to_corners<T: Real>([cx, cy, w, h]: [T; 4]) -> [T; 4] {
    let half = T::from_f64(0.5);
    [cx - half * w, cy - half * h, cx + half * w, cy + half * h]
}

/// The gradient of (cx, cy, w, h) for one of the corners.
pub fn to_corners_backward<T: Real>([x0, y0, x1, y1]: [T; 4]) -> [T; 4] {
    let half = T::from_f64(0.5);
    [x0 + x1, y0 + y1, half * (x1 - x0), half * (y1 - y0)]
}

/// Sides of the intersection and of the hull of two boxes, and the areas that follow.
struct Overlap<T> {
    inner: [T; 2],
    hull: [T; 2],
    union: T,
}

fn overlap<T: Real>(a: [T; 4], b: [T; 4]) -> Overlap<T> {
    let side = |axis: usize| (a[axis + 2].min(b[axis + 2]) - a[axis].max(b[axis])).max(T::zero());
    let hull_side = |axis: usize| a[axis + 2].max(b[axis + 2]) - a[axis].min(b[axis]);
    let inner = [side(0), side(1)];
    let union = area(a) + area(b) - inner[0] * inner[1];
    Overlap { inner, hull: [hull_side(0), hull_side(1)], union }
}

fn area<T: Real>([x0, y0, x1, y1]: [T; 4]) -> T {
    (x1 - x0) * (y1 - y0)
}

/// GIoU of two boxes given by corners: |a and b| / |a or b| - (|hull| - |a or b|) / |hull|. NaN for empty boxes.
pub fn generalized_iou<T: Real>(a: [T; 4], b: [T; 4]) -> T {
    let Overlap { inner, hull, union } = overlap(a, b);
    let hull = hull[0] * hull[1];
    inner[0] * inner[1] / union - (hull - union) / hull
}

/// The derivative of [`generalized_iou`] by the corners of `a`. Where edges coincide each box gets half of it, and boxes
/// that just touch count as overlapping, as PyTorch has it.
pub fn generalized_iou_backward<T: Real>(a: [T; 4], b: [T; 4]) -> [T; 4] {
    let Overlap { inner, hull, union } = overlap(a, b);
    let (inner_area, hull_area) = (inner[0] * inner[1], hull[0] * hull[1]);
    let mut gradient = [T::zero(); 4];
    for axis in 0..2 {
        let other = 1 - axis;
        let touches = a[axis + 2].min(b[axis + 2]) >= a[axis].max(b[axis]);
        for (edge, sign) in [(axis, -T::one()), (axis + 2, T::one())] {
            // How much of the inner and of the outer edge is `a`'s.
            let (inside, outside) = match sign * (a[edge] - b[edge]) {
                d if d < T::zero() => (T::one(), T::zero()),
                d if d > T::zero() => (T::zero(), T::one()),
                _ => (T::from_f64(0.5), T::from_f64(0.5)),
            };
            let d_area = sign * (a[other + 2] - a[other]);
            let d_inner = if touches { sign * inside * inner[other] } else { T::zero() };
            let d_hull = sign * outside * hull[other];
            let d_union = d_area - d_inner;
            gradient[edge] = d_inner / union - inner_area / (union * union) * d_union + d_union / hull_area
                - union / (hull_area * hull_area) * d_hull;
        }
    }
    gradient
}
