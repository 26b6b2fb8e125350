//! The product of transposed windows, or of a transposed matrix, with panels: sums of outer products, a register tile of 6
//! rows by up to 64 outputs at a time.

use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use crate::Tensor;
use crate::panels::{GROUP, PANEL, load, store};
use crate::simd::{dispatch, prefetch};

/// Elements by which reading x is ahead of using it: rows of a window's elements lie too far apart for the processor to
/// guess the next ones.
const AHEAD: usize = 16;
/// Outer products that are best summed at once: 64 columns of g stay in the first-level cache.
pub const BLOCK: usize = 96;

/// Rows of a product that one task sums, about: they stay in cache from one block to the next.
const TASK_ROWS: usize = 64;

/// sums[tap, run, ..width] = sum over the corners of x[corner + tap + run] g[corner, ..width].
pub struct OuterProducts<'a> {
    /// Rows `stride` apart, taps * run of them.
    pub sums: &'a mut [f32],
    pub stride: usize,
    /// Whether to add to what is there.
    pub accumulate: bool,
    pub x: &'a [f32],
    /// (corners, 64).
    pub g: &'a [f32],
    pub corners: &'a [usize],
    pub taps: &'a [usize],
    pub run: usize,
    /// Columns of g in use, at most 64.
    pub width: usize,
}

/// out (K, outputs) = x^T g (+ out when `accumulate`) from x (rows, K) and panels of g (panels, rows, 64), over threads. The
/// split depends on sizes only.
pub fn transposed_times_panels(out: &mut [f32], outputs: usize, accumulate: bool, x: &[f32], g: &Tensor) {
    let (rows, g) = (g.shape()[1], g.as_slice::<f32>());
    if rows == 0 || out.is_empty() {
        if !accumulate {
            out.fill(0.0);
        }
        return;
    }
    let k = out.len() / outputs;
    let corners: Vec<usize> = (0..rows).map(|row| row * k).collect();
    let task_rows = k.div_ceil(k.div_ceil(TASK_ROWS).next_multiple_of(2)).next_multiple_of(GROUP);
    out.par_chunks_mut(task_rows * outputs).with_max_len(1).enumerate().for_each(|(task, out)| {
        let (first, run) = (task * task_rows, out.len() / outputs);
        for (panel, g) in g.chunks_exact(rows * PANEL).enumerate() {
            let width = PANEL.min(outputs - panel * PANEL);
            for (block, (corners, g)) in corners.chunks(BLOCK).zip(g.chunks(BLOCK * PANEL)).enumerate() {
                dispatch(OuterProducts {
                    sums: &mut out[panel * PANEL..],
                    stride: outputs,
                    accumulate: accumulate || block > 0,
                    x,
                    g,
                    corners,
                    taps: &[first],
                    run,
                    width,
                });
            }
        }
    });
}

impl WithSimd for OuterProducts<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        let most = if S::F32_LANES == 8 { 2 } else { 4 };
        for lane in (0..self.width).step_by(most * S::F32_LANES) {
            match (self.width - lane).div_ceil(S::F32_LANES).min(most) {
                1 => self.column::<S, 1>(simd, lane),
                2 => self.column::<S, 2>(simd, lane),
                3 => self.column::<S, 3>(simd, lane),
                _ => self.column::<S, 4>(simd, lane),
            }
        }
    }
}

impl OuterProducts<'_> {
    /// All rows, V vectors of columns from `lane` on.
    #[inline(always)]
    fn column<S: Simd, const V: usize>(&mut self, simd: S, lane: usize) {
        for tap in 0..self.taps.len() {
            let whole = self.run / GROUP * GROUP;
            for at in (0..whole).step_by(GROUP) {
                self.tile::<S, V, GROUP>(simd, tap, at, lane);
            }
            for at in whole..self.run {
                self.tile::<S, V, 1>(simd, tap, at, lane);
            }
        }
    }

    /// P rows of a tap from `at` on.
    #[inline(always)]
    fn tile<S: Simd, const V: usize, const P: usize>(&mut self, simd: S, tap: usize, at: usize, lane: usize) {
        let row = |p: usize| {
            let start = (tap * self.run + at + p) * self.stride;
            start + lane..start + self.width
        };
        let mut acc = [[simd.splat_f32s(0.0); V]; P];
        if self.accumulate {
            for (p, acc) in acc.iter_mut().enumerate() {
                *acc = load(simd, &self.sums[row(p)]);
            }
        }
        let offset = self.taps[tap] + at;
        let (g, _) = S::as_simd_f32s(&self.g[lane..]);
        for (&corner, g) in self.corners.iter().zip(g.chunks(PANEL / S::F32_LANES)) {
            prefetch(self.x, corner + offset + AHEAD);
            let (x, g) = (&self.x[corner + offset..][..P], &g[..V]);
            for p in 0..P {
                let value = simd.splat_f32s(x[p]);
                for v in 0..V {
                    acc[p][v] = simd.mul_add_e_f32s(value, g[v], acc[p][v]);
                }
            }
        }
        for (p, acc) in acc.into_iter().enumerate() {
            store(simd, &mut self.sums[row(p)], acc);
        }
    }
}
