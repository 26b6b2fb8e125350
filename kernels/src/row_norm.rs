//! Layer normalization of rows on the CPU, for the ops that normalize: rows over threads; sums down the columns by fixed blocks
//! of rows, so that the result does not depend on the number of threads.

use rayon::prelude::*;

use crate::op::GradSlot;
use crate::simd::vectorized;

/// Rows a task handles.
const BLOCK: usize = 64;

/// y (N, C) and per row (mean, 1 / sqrt(var + eps)) of x (N, C).
pub fn forward(y: &mut [f32], statistics: &mut [f32], x: &[f32], w: &[f32], b: &[f32], eps: f32) {
    let c = w.len();
    if c == 0 {
        return;
    }
    y.par_chunks_mut(BLOCK * c).zip(x.par_chunks(BLOCK * c)).zip(statistics.par_chunks_mut(BLOCK * 2)).for_each(
        |((y, x), statistics)| {
            vectorized(
                #[inline(always)]
                || {
                    for ((y, x), s) in y.chunks_mut(c).zip(x.chunks(c)).zip(statistics.chunks_mut(2)) {
                        let mean = sum(c, |i| x[i]) / c as f32;
                        let var = sum(c, |i| (x[i] - mean) * (x[i] - mean)) / c as f32;
                        let rstd = 1.0 / (var + eps).sqrt();
                        for (((y, x), w), b) in y.iter_mut().zip(x).zip(w).zip(b) {
                            *y = (x - mean) * rstd * w + b;
                        }
                        s.copy_from_slice(&[mean, rstd]);
                    }
                },
            );
        },
    );
}

/// The sum of n terms in lanes, which vectorizes and rounds less than one running sum.
#[inline(always)]
fn sum(n: usize, term: impl Fn(usize) -> f32) -> f32 {
    const LANES: usize = 32;
    let mut sums = [0.0; LANES];
    let whole = n / LANES * LANES;
    for first in (0..whole).step_by(LANES) {
        for (lane, sum) in sums.iter_mut().enumerate() {
            *sum += term(first + lane);
        }
    }
    (whole..n).zip(&mut sums).for_each(|(i, sum)| *sum += term(i));
    sums.iter().sum()
}

/// The gradients of x (N, C), w (C) and b (C) from dy (N, C).
pub fn backward(
    dx: &mut GradSlot,
    dw: &mut GradSlot,
    db: &mut GradSlot,
    dy: &[f32],
    x: &[f32],
    w: &[f32],
    statistics: &[f32],
) {
    let c = w.len();
    if c == 0 {
        return;
    }
    if let Some((dx, accumulate)) = dx.target::<f32>() {
        dx.par_chunks_mut(c).enumerate().with_min_len(BLOCK).for_each(|(row, dx)| {
            let range = row * c..(row + 1) * c;
            let (dy, x) = (&dy[range.clone()], &x[range]);
            let (mean, rstd) = (statistics[row * 2], statistics[row * 2 + 1]);
            let mean_g = sum(c, |i| dy[i] * w[i]) / c as f32;
            let mean_gx = sum(c, |i| dy[i] * w[i] * (x[i] - mean) * rstd) / c as f32;
            for i in 0..c {
                let value = rstd * (dy[i] * w[i] - mean_g - (x[i] - mean) * rstd * mean_gx);
                dx[i] = if accumulate { dx[i] + value } else { value };
            }
        });
    }
    if dw.is_needed() || db.is_needed() {
        let partial: Vec<(Vec<f32>, Vec<f32>)> = dy
            .par_chunks(BLOCK * c)
            .zip(x.par_chunks(BLOCK * c))
            .zip(statistics.par_chunks(BLOCK * 2))
            .map(|((dy, x), statistics)| column_sums(dy, x, statistics, c))
            .collect();
        dw.store(|j| partial.iter().map(|p| p.0[j]).sum::<f32>());
        db.store(|j| partial.iter().map(|p| p.1[j]).sum::<f32>());
    }
}

/// Sums over rows of (dy xhat, dy).
fn column_sums(dy: &[f32], x: &[f32], statistics: &[f32], c: usize) -> (Vec<f32>, Vec<f32>) {
    let (mut dw, mut db) = (vec![0.0; c], vec![0.0; c]);
    for ((dy, x), s) in dy.chunks(c).zip(x.chunks(c)).zip(statistics.chunks(2)) {
        for i in 0..c {
            dw[i] += dy[i] * (x[i] - s[0]) * s[1];
            db[i] += dy[i];
        }
    }
    (dw, db)
}
