//! The definition, a row at a time: rows are few and short, so no other version is needed.

use rayon::prelude::*;

use crate::Real;
use crate::op::GradSlot;
use crate::simd::BLOCK;

const EPS: f64 = 1e-12;

/// y (N, C), norms (N), x (N, C).
pub fn forward<T: Real>(y: &mut [T], norms: &mut [T], x: &[T], c: usize) {
    if c == 0 {
        return;
    }
    let rows = y.par_chunks_mut(c).zip(norms).zip(x.par_chunks(c));
    rows.with_min_len(BLOCK.div_ceil(c)).for_each(|((y, norm), x)| {
        *norm = x.iter().map(|&v| v * v).sum::<T>().sqrt();
        let length = norm.max(T::from_f64(EPS));
        y.iter_mut().zip(x).for_each(|(y, &x)| *y = x / length);
    });
}

/// dx = (dy - y (y . dy)) / ||x||, and dy / eps for rows that are shorter than eps: their length is a constant.
pub fn backward<T: Real>(dx: &mut GradSlot, dy: &[T], y: &[T], norms: &[T], c: usize) {
    let Some((dx, accumulate)) = dx.target::<T>() else { return };
    if c == 0 {
        return;
    }
    let rows = dx.par_chunks_mut(c).zip(norms).zip(dy.par_chunks(c).zip(y.par_chunks(c)));
    rows.with_min_len(BLOCK.div_ceil(c)).for_each(|((dx, &norm), (dy, y))| {
        let eps = T::from_f64(EPS);
        let along = if norm > eps { y.iter().zip(dy).map(|(&y, &dy)| y * dy).sum() } else { T::zero() };
        let length = norm.max(eps);
        for ((dx, &dy), &y) in dx.iter_mut().zip(dy).zip(y) {
            let value = (dy - y * along) / length;
            *dx = if accumulate { *dx + value } else { value };
        }
    });
}
