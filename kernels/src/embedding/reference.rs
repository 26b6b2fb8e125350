//! The definition, a row at a time: copies, which no other version would make faster.

use rayon::prelude::*;

use crate::Real;
use crate::op::GradSlot;
use crate::simd::BLOCK;

/// y (N, C), table (V, C), ids (N).
pub fn forward<T: Real>(y: &mut [T], table: &[T], ids: &[i32], c: usize) {
    if c == 0 {
        return;
    }
    y.par_chunks_mut(c).zip(ids).with_min_len(BLOCK.div_ceil(c)).for_each(|(y, &id)| {
        y.copy_from_slice(&table[id as usize * c..][..c]);
    });
}

/// dtable[ids[n]] += dy[n], in the order of n.
pub fn backward<T: Real>(dtable: &mut GradSlot, dy: &[T], ids: &[i32], padding_idx: Option<usize>, c: usize) {
    let Some(dtable) = dtable.accumulator::<T>() else { return };
    if c == 0 {
        return;
    }
    for (dy, &id) in dy.chunks(c).zip(ids) {
        if Some(id as usize) != padding_idx {
            dtable[id as usize * c..][..c].iter_mut().zip(dy).for_each(|(d, &g)| *d += g);
        }
    }
}
