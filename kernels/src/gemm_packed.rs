//! The product of windows, or of a matrix's rows, with panels: a register tile of 6 rows by up to 64 outputs at a time,
//! rows read where they lie, the epilogue on the tile's registers.

use std::ops::Range;

use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use crate::Tensor;
use crate::panels::{GROUP, PANEL, task_rows};
use crate::simd::{dispatch, prefetch};

/// Depth of a product that is summed at once, but for whole taps: the part of a panel that it reads stays in the
/// second-level cache.
const DEPTH: usize = 2048;
/// Elements of panels that stay in it.
const CACHED_ELEMENTS: usize = 96 * 1024;
/// Steps before a product's end from which on its epilogue's lines are fetched, one a step: as many as 6 x 4 vectors of y and
/// of the residual take, and some more.
const AHEAD: usize = 56;
/// Elements of a cache line.
const LINE: usize = 16;

/// What sums start from.
#[derive(Clone, Copy)]
pub enum Start<'a> {
    Zero,
    /// A value an output, padded to whole panels.
    Bias(&'a [f32]),
    /// What y holds.
    Accumulate,
}

/// What happens to a sum.
#[derive(Clone, Copy)]
pub struct Epilogue<'a, T = f32> {
    pub start: Start<'a>,
    pub residual: Option<&'a [T]>,
    pub relu: bool,
}

/// y (n, outputs) = start + x times panels, from x (n, depth), over threads; `then` gets rows of y while they are in cache.
/// The split depends on sizes only.
pub fn matrix_times_panels(
    y: &mut [f32],
    outputs: usize,
    x: &[f32],
    panels: &Tensor,
    start: Start,
    then: impl Fn(&mut [f32]) + Sync,
) {
    let depth = panels.shape()[1];
    let panels: &[f32] = panels.as_slice();
    let rows = task_rows(y.len() / outputs, depth * size_of::<f32>());
    y.par_chunks_mut(rows * outputs).with_max_len(1).enumerate().for_each(|(task, y)| {
        let x = &x[task * rows * depth..];
        let places: Vec<(usize, usize)> = (0..y.len() / outputs).map(|row| (row * depth, row * outputs)).collect();
        let epilogue = Epilogue { start, residual: None, relu: false };
        dispatch(Product { y, outputs, x, panels, places: &places, taps: &[0], run: depth, epilogue });
        then(y);
    });
}

/// The bias of whole panels.
pub fn padded_bias(bias: &[f32]) -> Vec<f32> {
    let mut padded = bias.to_vec();
    padded.resize(bias.len().next_multiple_of(PANEL), 0.0);
    padded
}

/// y[place, :] = sum over taps and run of x[place + tap + run] panels[tap, run, :].
pub struct Product<'a> {
    pub y: &'a mut [f32],
    pub outputs: usize,
    pub x: &'a [f32],
    pub panels: &'a [f32],
    /// (corner in x, first element in y) of each row.
    pub places: &'a [(usize, usize)],
    pub taps: &'a [usize],
    pub run: usize,
    pub epilogue: Epilogue<'a>,
}

/// On the calling thread.
impl WithSimd for Product<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        // 16 registers hold 6 x 2 vectors, 32 hold 6 x 4.
        let most = if S::F32_LANES == 8 { 2 } else { 4 };
        // If all panels stay in cache, rows go by in memory's order; else each panel is used for all of them.
        let stay = self.panels.len() <= CACHED_ELEMENTS;
        let at_once = if stay { GROUP } else { self.places.len().max(1) };
        for from in (0..self.places.len()).step_by(at_once) {
            let rows = from..self.places.len().min(from + at_once);
            for first in (0..self.outputs).step_by(PANEL) {
                // Where a panel is used for many rows, these are one stream, which the processor guesses by itself.
                let fetch_next = stay && first + PANEL >= self.outputs;
                for lane in (0..PANEL.min(self.outputs - first)).step_by(most * S::F32_LANES) {
                    let rows = rows.clone();
                    match (self.outputs - first - lane).min(PANEL - lane).div_ceil(S::F32_LANES).min(most) {
                        1 => self.column::<S, 1>(simd, rows, fetch_next, first, lane),
                        2 => self.column::<S, 2>(simd, rows, fetch_next, first, lane),
                        3 => self.column::<S, 3>(simd, rows, fetch_next, first, lane),
                        _ => self.column::<S, 4>(simd, rows, fetch_next, first, lane),
                    }
                }
            }
        }
    }
}

impl Product<'_> {
    /// Some rows, V vectors of outputs from `first + lane` on (`first` begins a panel).
    #[inline(always)]
    fn column<S: Simd, const V: usize>(
        &mut self,
        simd: S,
        rows: Range<usize>,
        fetch_next: bool,
        first: usize,
        lane: usize,
    ) {
        let depth = self.taps.len() * self.run;
        let (panel, _) = S::as_simd_f32s(&self.panels[first * depth..][..PANEL * depth]);
        let first = first + lane;
        let width = (self.outputs - first).min(V * S::F32_LANES);
        let taps_at_once = (DEPTH / self.run.max(1)).max(1);
        let chunks = self.taps.len().div_ceil(taps_at_once).max(1);
        for chunk in 0..chunks {
            let from = chunk * taps_at_once;
            let factors = Factors {
                x: self.x,
                taps: &self.taps[from..self.taps.len().min(from + taps_at_once)],
                run: self.run,
                panel: &panel[from * self.run * (PANEL / S::F32_LANES)..],
                lane: lane / S::F32_LANES,
            };
            let start = match self.epilogue.start {
                _ if chunk > 0 => Start::Accumulate,
                Start::Bias(bias) => Start::Bias(&bias[first..]),
                other => other,
            };
            let epilogue = match chunk + 1 == chunks {
                true => Epilogue { start, ..self.epilogue },
                false => Epilogue { start, residual: None, relu: false },
            };
            for row in rows.clone().step_by(GROUP) {
                let (places, behind) = self.places[row..].split_at(GROUP.min(rows.end - row));
                match places.first_chunk() {
                    Some(places) if width == V * S::F32_LANES => {
                        let next = behind.first_chunk().filter(|_| fetch_next);
                        factors.tile::<S, V>(simd, self.y, places, next, first, epilogue);
                    }
                    _ => factors.ragged_tile::<S, V>(simd, self.y, places, first, width, epilogue),
                }
            }
        }
    }
}

/// What tiles are products of: windows of x, and some vectors of a panel from the `lane`th on.
struct Factors<'a, F> {
    x: &'a [f32],
    taps: &'a [usize],
    run: usize,
    panel: &'a [F],
    lane: usize,
}

impl<F: Copy> Factors<'_, F> {
    /// V vectors of 6 rows, from the `first` element of a row of y on. A bias begins there. The windows at `next` are fetched
    /// meanwhile.
    #[inline(always)]
    fn tile<S: Simd<f32s = F>, const V: usize>(
        &self,
        simd: S,
        y: &mut [f32],
        places: &[(usize, usize); GROUP],
        next: Option<&[(usize, usize); GROUP]>,
        first: usize,
        epilogue: Epilogue,
    ) {
        // Loops, since closures of `array::from_fn` need not be inlined, and then the sums go through memory.
        let mut at = [0; GROUP];
        for p in 0..GROUP {
            at[p] = places[p].1 + first;
        }
        let mut sums = [[simd.splat_f32s(0.0); V]; GROUP];
        match epilogue.start {
            Start::Zero => {}
            Start::Bias(bias) => sums = [*vectors::<S, V>(bias); GROUP],
            Start::Accumulate => {
                for p in 0..GROUP {
                    sums[p] = *vectors::<S, V>(&y[at[p]..]);
                }
            }
        }
        let steps = self.taps.len() * self.run;
        let mut ahead = steps.saturating_sub(AHEAD).wrapping_neg();
        let mut panel = self.panel;
        for &tap in self.taps {
            let mut windows: [&[f32]; GROUP] = [&[]; GROUP];
            for p in 0..GROUP {
                windows[p] = &self.x[places[p].0 + tap..][..self.run];
            }
            let (filters, rest) = panel.split_at(self.run * (PANEL / S::F32_LANES));
            panel = rest;
            for (k, filters) in (0..self.run).zip(filters.chunks_exact(PANEL / S::F32_LANES)) {
                // What the epilogue reads and writes is fetched meanwhile, a line a step: all at once would keep the
                // panel's lines waiting.
                if ahead < GROUP * V {
                    prefetch(y, at[ahead / V] + ahead % V * S::F32_LANES);
                } else if let Some(residual) = epilogue.residual
                    && ahead < 2 * GROUP * V
                {
                    prefetch(residual, at[ahead / V - GROUP] + ahead % V * S::F32_LANES);
                }
                ahead = ahead.wrapping_add(1);
                if let Some(next) = next
                    && k < self.run * GROUP / LINE
                {
                    prefetch(self.x, next[k % GROUP].0 + tap + k / GROUP * LINE);
                }
                let filters = &filters[self.lane..][..V];
                for p in 0..GROUP {
                    let value = simd.splat_f32s(windows[p][k]);
                    for v in 0..V {
                        sums[p][v] = simd.mul_add_e_f32s(value, filters[v], sums[p][v]);
                    }
                }
            }
        }
        for p in 0..GROUP {
            if let Some(residual) = epilogue.residual {
                let residual = vectors::<S, V>(&residual[at[p]..]);
                for v in 0..V {
                    sums[p][v] = simd.add_f32s(sums[p][v], residual[v]);
                }
            }
            if epilogue.relu {
                for sum in &mut sums[p] {
                    *sum = relu(simd, *sum);
                }
            }
            let (row, _) = S::as_mut_simd_f32s(&mut y[at[p]..][..V * S::F32_LANES]);
            row.copy_from_slice(&sums[p]);
        }
    }

    /// [`Self::tile`] of fewer rows, or of vectors of which rows of y have `width` elements only.
    #[inline(always)]
    fn ragged_tile<S: Simd<f32s = F>, const V: usize>(
        &self,
        simd: S,
        y: &mut [f32],
        places: &[(usize, usize)],
        first: usize,
        width: usize,
        epilogue: Epilogue,
    ) {
        let (mut tile, mut addends) = ([[0.0; PANEL]; GROUP], [[0.0; PANEL]; GROUP]);
        for (p, (_, at)) in places.iter().enumerate() {
            tile[p][..width].copy_from_slice(&y[at + first..][..width]);
            if let Some(residual) = epilogue.residual {
                addends[p][..width].copy_from_slice(&residual[at + first..][..width]);
            }
        }
        let whole = std::array::from_fn(|p| (places[p.min(places.len() - 1)].0, p * PANEL));
        let residual = epilogue.residual.map(|_| addends.as_flattened());
        self.tile::<S, V>(simd, tile.as_flattened_mut(), &whole, None, 0, Epilogue { residual, ..epilogue });
        for (row, (_, at)) in tile.iter().zip(places) {
            y[at + first..][..width].copy_from_slice(&row[..width]);
        }
    }
}

/// The first V vectors of a row.
#[inline(always)]
fn vectors<S: Simd, const V: usize>(row: &[f32]) -> &[S::f32s; V] {
    S::as_simd_f32s(&row[..V * S::F32_LANES]).0.first_chunk().expect("V vectors")
}

/// max(x, 0), NaN where x is.
#[inline(always)]
pub fn relu<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    let zero = simd.splat_f32s(0.0);
    simd.select_f32s(simd.less_than_f32s(x, zero), zero, x)
}
