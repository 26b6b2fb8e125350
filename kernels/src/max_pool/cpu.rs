//! The fast version: channels in vectors; backward looks from each pixel at the windows that may have chosen it, so that
//! pixels are independent of each other.

use rayon::prelude::*;

use super::Sizes;
use crate::dtype::Storage;
use crate::op::GradSlot;
use crate::simd::vectorized;

/// y (B, OH, OW, C), places as y, x (B, H, W, C).
pub fn forward<T: Storage>(y: &mut [T], places: &mut [i32], x: &[T], sizes: &Sizes) {
    let s = *sizes;
    let row = s.ow * s.c;
    if y.is_empty() {
        return;
    }
    y.par_chunks_mut(row).zip(places.par_chunks_mut(row)).enumerate().for_each(|(at, (y, places))| {
        let image = &x[at / s.oh * s.h * s.w * s.c..][..s.h * s.w * s.c];
        let rows = s.window(at % s.oh, s.h);
        vectorized(
            #[inline(always)]
            || {
                for (column, (y, places)) in y.chunks_exact_mut(s.c).zip(places.chunks_exact_mut(s.c)).enumerate() {
                    let columns = s.window(column, s.w);
                    let first = rows.start * s.w + columns.start;
                    y.copy_from_slice(&image[first * s.c..][..s.c]);
                    places.fill(first as i32);
                    for pixel in rows.clone().flat_map(|h| columns.clone().map(move |w| h * s.w + w)).skip(1) {
                        let x = &image[pixel * s.c..][..s.c];
                        for ((y, place), &x) in y.iter_mut().zip(places.iter_mut()).zip(x) {
                            let better = x.widen() > y.widen() || x.widen().is_nan();
                            *y = if better { x } else { *y };
                            *place = if better { pixel as i32 } else { *place };
                        }
                    }
                }
            },
        );
    });
}

/// dx from dy.
pub fn backward(dx: &mut GradSlot, dy: &[f32], places: &[i32], sizes: &Sizes) {
    let s = *sizes;
    let Some((dx, accumulate)) = dx.target::<f32>() else { return };
    if dx.is_empty() {
        return;
    }
    // The outputs whose windows reach row (or column) `at` of x.
    let reaching = move |at: usize, outputs: usize| {
        let end = (at + s.pool.padding) / s.pool.stride + 1;
        let start = (at + s.pool.padding + 1).saturating_sub(s.pool.kernel).div_ceil(s.pool.stride);
        start..end.min(outputs)
    };
    dx.par_chunks_mut(s.w * s.c).enumerate().for_each(|(row, dx)| {
        let (image, h) = (row / s.h, row % s.h);
        vectorized(
            #[inline(always)]
            || {
                if !accumulate {
                    dx.fill(0.0);
                }
                for (w, dx) in dx.chunks_exact_mut(s.c).enumerate() {
                    let pixel = (h * s.w + w) as i32;
                    for r in reaching(h, s.oh) {
                        for column in reaching(w, s.ow) {
                            let from = ((image * s.oh + r) * s.ow + column) * s.c;
                            let (dy, places) = (&dy[from..][..s.c], &places[from..][..s.c]);
                            for ((dx, &dy), &place) in dx.iter_mut().zip(dy).zip(places) {
                                *dx += if place == pixel { dy } else { 0.0 };
                            }
                        }
                    }
                }
            },
        );
    });
}
