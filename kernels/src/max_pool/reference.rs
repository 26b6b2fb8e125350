//! The definition, a window at a time.

use super::Sizes;
use crate::Real;
use crate::op::GradSlot;

/// y (B, OH, OW, C), places as y, x (B, H, W, C).
pub fn forward<T: Real>(y: &mut [T], places: &mut [i32], x: &[T], sizes: &Sizes) {
    let s = sizes;
    for (at, (y, place)) in y.iter_mut().zip(places).enumerate() {
        let (n, r, column, c) = (at / (s.oh * s.ow * s.c), at / (s.ow * s.c) % s.oh, at / s.c % s.ow, at % s.c);
        let columns = s.window(column, s.w);
        let pixels = s.window(r, s.h).flat_map(|h| columns.clone().map(move |w| h * s.w + w));
        let mut best = None;
        for pixel in pixels {
            let value = x[(n * s.h * s.w + pixel) * s.c + c];
            if best.is_none_or(|(_, v)| value > v || value.is_nan()) {
                best = Some((pixel, value));
            }
        }
        let (pixel, value) = best.expect("a window reaches into the image");
        (*place, *y) = (pixel as i32, value);
    }
}

/// dx from dy.
pub fn backward<T: Real>(dx: &mut GradSlot, dy: &[T], places: &[i32], sizes: &Sizes) {
    let s = sizes;
    let Some(dx) = dx.accumulator::<T>() else { return };
    for (at, (&dy, &place)) in dy.iter().zip(places).enumerate() {
        let (n, c) = (at / (s.oh * s.ow * s.c), at % s.c);
        dx[(n * s.h * s.w + place as usize) * s.c + c] += dy;
    }
}
