//! What happens to blocks of scores (queries, keys) between the matrix products, in vectors.
//!
//! Rows lie [`stride`] elements apart, so that the exponentials of a row have no remainder. What lies between the rows adds
//! nothing to maxima and sums, and no product reads it.

use crate::exp::exp;
use crate::simd::{LANES, vectorized};

/// Elements from one row of scores to the next.
pub fn stride(keys: usize) -> usize {
    keys.next_multiple_of(LANES)
}

/// scores = e^(score - the row's maximum); their sums; and the logarithms of the sums of e^score.
pub fn exponentials<'a>(
    scores: &mut [f32],
    sums: &mut [f32],
    logsumexp: impl Iterator<Item = &'a mut f32>,
    keys: usize,
) {
    vectorized(
        #[inline(always)]
        || {
            for ((row, total), logsumexp) in scores.chunks_mut(stride(keys)).zip(sums).zip(logsumexp) {
                row[keys..].fill(f32::NEG_INFINITY);
                let max = maximum(row);
                *total = shifted_exponentials(row, max);
                *logsumexp = max + total.ln();
            }
        },
    );
}

/// scores = e^(score - logsumexp).
pub fn probabilities<'a>(scores: &mut [f32], logsumexp: impl Iterator<Item = &'a f32>, keys: usize) {
    vectorized(
        #[inline(always)]
        || {
            for (row, &shift) in scores.chunks_mut(stride(keys)).zip(logsumexp) {
                shifted_exponentials(row, shift);
            }
        },
    );
}

/// p = p m; the rows of the mask have no gaps.
pub fn drop(p: &mut [f32], mask: &[f32], keys: usize) {
    vectorized(
        #[inline(always)]
        || {
            for (p, mask) in p.chunks_mut(stride(keys)).zip(mask.chunks(keys)) {
                p.iter_mut().zip(mask).for_each(|(p, m)| *p *= m);
            }
        },
    );
}

/// ds = p (ds - delta), a delta a row.
pub fn score_gradients(ds: &mut [f32], p: &[f32], deltas: &[f32], keys: usize) {
    vectorized(
        #[inline(always)]
        || {
            for ((ds, p), delta) in ds.chunks_mut(stride(keys)).zip(p.chunks(stride(keys))).zip(deltas) {
                ds[..keys].iter_mut().zip(p).for_each(|(ds, p)| *ds = p * (*ds - delta));
            }
        },
    );
}

/// ds = p (ds m - delta), then p = p m.
pub fn dropped_score_gradients(ds: &mut [f32], p: &mut [f32], mask: &[f32], deltas: &[f32], keys: usize) {
    vectorized(
        #[inline(always)]
        || {
            let rows = ds.chunks_mut(stride(keys)).zip(p.chunks_mut(stride(keys))).zip(mask.chunks(keys)).zip(deltas);
            for (((ds, p), mask), delta) in rows {
                for ((ds, p), m) in ds.iter_mut().zip(p).zip(mask) {
                    *ds = *p * (*ds * m - delta);
                    *p *= m;
                }
            }
        },
    );
}

/// Returns the exponentials' sum, made in lanes, which vectorizes and rounds less than one running sum.
#[inline(always)]
fn shifted_exponentials(row: &mut [f32], shift: f32) -> f32 {
    let mut sums = [0.0; LANES];
    for chunk in row.as_chunks_mut::<LANES>().0 {
        for (x, sum) in chunk.iter_mut().zip(&mut sums) {
            *x = exp(*x - shift);
            *sum += *x;
        }
    }
    sums.iter().sum()
}

/// Of whole vectors, four of which are compared at once: one would wait for the last comparison.
#[inline(always)]
fn maximum(row: &[f32]) -> f32 {
    const AT_ONCE: usize = 4 * LANES;
    let mut max = [f32::NEG_INFINITY; AT_ONCE];
    let (chunks, rest) = row.as_chunks::<AT_ONCE>();
    for chunk in chunks {
        raise(&mut max, chunk);
    }
    for chunk in rest.as_chunks::<LANES>().0 {
        raise(&mut max, chunk);
    }
    let (lanes, others) = max.split_at_mut(LANES);
    for other in others.as_chunks::<LANES>().0 {
        raise(lanes, other);
    }
    lanes.iter().copied().fold(f32::NEG_INFINITY, f32::max)
}

/// max = the larger of max and x, which may be shorter.
#[inline(always)]
fn raise(max: &mut [f32], x: &[f32]) {
    for (m, &x) in max.iter_mut().zip(x) {
        *m = if x > *m { x } else { *m };
    }
}
