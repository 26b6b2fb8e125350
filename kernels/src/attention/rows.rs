//! What happens to blocks of scores (queries, keys) between the matrix products, in vectors.
//!
//! Rows lie [`stride`] elements apart, so that the exponentials of a row have no remainder. What lies between the rows adds
//! nothing to maxima and sums, and no product reads it.

use pulp::{Simd, WithSimd};

use crate::exp::exp;
use crate::simd::{LANES, dispatch, vectorized};

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
    dispatch(Exponentials { scores, sums, logsumexp, keys });
}

// A struct rather than a closure: maxima are asked of a level's own vectors, since the compiler leaves them in memory.
struct Exponentials<'a, L> {
    scores: &'a mut [f32],
    sums: &'a mut [f32],
    logsumexp: L,
    keys: usize,
}

impl<'a, L: Iterator<Item = &'a mut f32>> WithSimd for Exponentials<'_, L> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Exponentials { scores, sums, logsumexp, keys } = self;
        for ((row, total), logsumexp) in scores.chunks_mut(stride(keys)).zip(sums).zip(logsumexp) {
            row[keys..].fill(f32::NEG_INFINITY);
            let max = maximum(simd, row);
            *total = shifted_exponentials(row, max);
            *logsumexp = max + total.ln();
        }
    }
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

/// Of whole vectors, four of which are compared at once: one would wait for the last comparison. NaN gives NaN or is
/// passed over: such a row is NaN either way.
#[inline(always)]
fn maximum<S: Simd>(simd: S, row: &[f32]) -> f32 {
    let mut max = [simd.splat_f32s(f32::NEG_INFINITY); 4];
    let (fours, rest) = S::as_simd_f32s(row).0.as_chunks::<4>();
    for four in fours {
        for i in 0..max.len() {
            max[i] = simd.max_f32s(four[i], max[i]);
        }
    }
    for &vector in rest {
        max[0] = simd.max_f32s(vector, max[0]);
    }
    let pairs = [simd.max_f32s(max[0], max[1]), simd.max_f32s(max[2], max[3])];
    simd.reduce_max_f32s(simd.max_f32s(pairs[0], pairs[1]))
}
