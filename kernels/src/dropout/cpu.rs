//! The fast version: blocks of elements over threads, with masks made many elements at a time.

use rayon::prelude::*;

use crate::op::GradSlot;
use crate::philox::Philox;
use crate::simd::BLOCK;

/// Elements whose mask is made at once: it stays in the first-level cache.
const MASK: usize = 1024;

pub fn forward(y: &mut [f32], x: &[f32], philox: Philox, p: f32) {
    for_each_block(y, x, Some(philox), p, |y, value| *y = value);
}

pub fn backward(dx: &mut GradSlot, dy: &[f32], philox: Option<Philox>, p: f32) {
    match dx.target::<f32>() {
        None => {}
        Some((dx, false)) => for_each_block(dx, dy, philox, p, |dx, value| *dx = value),
        Some((dx, true)) => for_each_block(dx, dy, philox, p, |dx, value| *dx += value),
    }
}

/// `put(out[i], x[i] * m[i])` for all elements.
fn for_each_block(
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
