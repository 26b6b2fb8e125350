//! Elementwise loops under a dropout mask on the CPU, for the ops that drop: blocks of elements over threads, with masks made
//! many elements at a time.

use rayon::prelude::*;

use crate::philox::Philox;
use crate::simd::BLOCK;

/// Elements whose mask is made at once: it stays in the first-level cache.
const MASK: usize = 1024;

/// `put(out[i], x[i] * m[i])` for all elements; without a stream m is 1.
pub fn for_each(
    out: &mut [f32],
    x: &[f32],
    philox: Option<Philox>,
    p: f32,
    put: impl Fn(&mut f32, f32) + Copy + Sync,
) {
    out.par_chunks_mut(BLOCK).zip(x.par_chunks(BLOCK)).enumerate().for_each(|(task, (out, x))| {
        let mut mask = [1.0; MASK];
        for (part, (out, x)) in out.chunks_mut(MASK).zip(x.chunks(MASK)).enumerate() {
            if let Some(philox) = philox {
                philox.keep_all((task * BLOCK + part * MASK) as u64, p, &mut mask[..x.len()]);
            }
            for ((out, x), m) in out.iter_mut().zip(x).zip(&mask) {
                put(out, x * m);
            }
        }
    });
}

/// out[i] = x[i] * m[i], or added to it.
pub fn store(target: Option<(&mut [f32], bool)>, x: &[f32], philox: Option<Philox>, p: f32) {
    match target {
        None => {}
        Some((out, false)) => for_each(out, x, philox, p, |out, value| *out = value),
        Some((out, true)) => for_each(out, x, philox, p, |out, value| *out += value),
    }
}
