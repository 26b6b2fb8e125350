//! Sums with a fixed order: split by shape, never by the number of threads.

use rayon::prelude::*;

/// Rows a task sums.
const BLOCK: usize = 256;

/// Column sums of a row-major (N, C) matrix.
pub fn column_sums(x: &[f32], c: usize) -> Vec<f32> {
    if c == 0 {
        return Vec::new();
    }
    let partial: Vec<Vec<f32>> = x
        .par_chunks(BLOCK * c)
        .map(|block| {
            let mut sums = vec![0.0; c];
            for row in block.chunks(c) {
                sums.iter_mut().zip(row).for_each(|(s, v)| *s += v);
            }
            sums
        })
        .collect();
    let mut sums = vec![0.0; c];
    for p in &partial {
        sums.iter_mut().zip(p).for_each(|(s, v)| *s += v);
    }
    sums
}
