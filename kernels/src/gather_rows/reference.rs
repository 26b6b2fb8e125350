//! The definition, a row at a time: copies, which no other version would make faster.

use rayon::prelude::*;

use crate::Real;
use crate::op::GradSlot;
use crate::simd::BLOCK;

/// y (M, C), index (M), sources (Ni, C), starts (n + 1).
pub fn forward<T: Real>(y: &mut [T], index: &[i32], sources: &[&[T]], starts: &[i32], c: usize) {
    if c == 0 {
        return;
    }
    y.par_chunks_mut(c).zip(index).with_min_len(BLOCK.div_ceil(c)).for_each(|(y, &row)| {
        if row < 0 {
            return y.fill(T::zero());
        }
        let source = starts.partition_point(|&start| start <= row) - 1;
        y.copy_from_slice(&sources[source][(row - starts[source]) as usize * c..][..c]);
    });
}

/// drows[index[m]] += dy[m], in the order of m.
pub fn backward<T: Real>(dsources: &mut [GradSlot], dy: &[T], index: &[i32], starts: &[i32], c: usize) {
    for (dsource, range) in dsources.iter_mut().zip(starts.windows(2)) {
        let Some(dsource) = dsource.accumulator::<T>() else { continue };
        for (m, &row) in index.iter().enumerate() {
            if (range[0]..range[1]).contains(&row) {
                let out = &mut dsource[(row - range[0]) as usize * c..][..c];
                out.iter_mut().zip(&dy[m * c..][..c]).for_each(|(d, &g)| *d += g);
            }
        }
    }
}
