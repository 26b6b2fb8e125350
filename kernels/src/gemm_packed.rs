//! The product of windows, or of a matrix's rows, with panels: a register tile at a time, the epilogue on its registers.

use std::ops::Range;

use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use crate::panels::{Factor, GROUP, PANEL};
use crate::register_tile::{
    Factors, Fetch, Tile, add_tile, load_tile, rectify, store_tile, vectors, vectors_of_a_tile,
};
use crate::simd::dispatch;
use crate::strassen;

/// Depth of a product that is summed at once, but for whole taps: the part of a panel that it reads stays in the
/// second-level cache.
const DEPTH: usize = 2048;
/// Elements of panels that stay in it.
const CACHED_ELEMENTS: usize = 96 * 1024;

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

/// y (n, outputs) = start + x times w, from x (n, depth), over threads; `then` gets rows of y while they are in cache.
/// The split depends on sizes only.
pub fn matrix_times_factor(
    y: &mut [f32],
    outputs: usize,
    x: &[f32],
    w: &Factor,
    start: Start,
    then: impl Fn(&mut [f32]) + Sync,
) {
    let depth = w.depth();
    let rows = w.task_rows(y.len() / outputs, depth * size_of::<f32>());
    let (panels, sums) = w.slices();
    y.par_chunks_mut(rows * outputs).with_max_len(1).enumerate().for_each(|(task, y)| {
        let x = &x[task * rows * depth..];
        let places: Vec<(usize, usize)> = (0..y.len() / outputs).map(|row| (row * depth, row * outputs)).collect();
        let epilogue = Epilogue { start, residual: None, relu: false };
        dispatch(Product { y, outputs, x, panels, sums, places: &places, taps: &[0], run: depth, epilogue });
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
    /// [`strassen::panel_sums`], for one tap only: rows go by Strassen's algorithm.
    pub sums: Option<&'a [f32]>,
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
        let most = vectors_of_a_tile::<S>();
        let by_halves = strassen::rows(self.places.len());
        if let Some(sums) = self.sums.filter(|_| by_halves > 0) {
            let (places, rest) = self.places.split_at(by_halves);
            match most {
                2 => self.by_halves::<S, 2>(simd, places, sums),
                _ => self.by_halves::<S, 4>(simd, places, sums),
            }
            self.places = rest;
        }
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
                        tile::<S, V>(simd, &factors, self.y, places, next, first, epilogue);
                    }
                    _ => ragged_tile::<S, V>(simd, &factors, self.y, places, first, width, epilogue),
                }
            }
        }
    }
}

/// V vectors of 6 rows, from the `first` element of a row of y on. A bias begins there. The windows at `next` are fetched
/// meanwhile.
#[inline(always)]
fn tile<S: Simd, const V: usize>(
    simd: S,
    factors: &Factors<S::f32s>,
    y: &mut [f32],
    places: &[(usize, usize); GROUP],
    next: Option<&[(usize, usize); GROUP]>,
    first: usize,
    epilogue: Epilogue,
) {
    let next = next.map(corners);
    let at = rows_of(places, first);
    let sums = match epilogue.start {
        Start::Zero => [[simd.splat_f32s(0.0); V]; GROUP],
        Start::Bias(bias) => [*vectors::<S, V>(bias); GROUP],
        Start::Accumulate => load_tile::<S, V>(simd, y, &at),
    };
    let fetch = Fetch { y, residual: epilogue.residual, at: &at, next: next.as_ref() };
    let sums = factors.add_products::<S, V>(simd, sums, &corners(places), fetch);
    epilogue.finish::<S, V>(simd, y, &at, sums);
}

/// [`tile`] of fewer rows, or of vectors of which rows of y have `width` elements only.
#[inline(always)]
fn ragged_tile<S: Simd, const V: usize>(
    simd: S,
    factors: &Factors<S::f32s>,
    y: &mut [f32],
    places: &[(usize, usize)],
    first: usize,
    width: usize,
    epilogue: Epilogue,
) {
    let (mut scratch, mut addends) = ([[0.0; PANEL]; GROUP], [[0.0; PANEL]; GROUP]);
    for (p, (_, at)) in places.iter().enumerate() {
        scratch[p][..width].copy_from_slice(&y[at + first..][..width]);
        if let Some(residual) = epilogue.residual {
            addends[p][..width].copy_from_slice(&residual[at + first..][..width]);
        }
    }
    let whole = std::array::from_fn(|p| (places[p.min(places.len() - 1)].0, p * PANEL));
    let residual = epilogue.residual.map(|_| addends.as_flattened());
    tile::<S, V>(simd, factors, scratch.as_flattened_mut(), &whole, None, 0, Epilogue { residual, ..epilogue });
    for (row, (_, at)) in scratch.iter().zip(places) {
        y[at + first..][..width].copy_from_slice(&row[..width]);
    }
}

impl Epilogue<'_> {
    /// Writes sums to rows of y that begin at `at`.
    #[inline(always)]
    pub fn finish<S: Simd, const V: usize>(
        &self,
        simd: S,
        y: &mut [f32],
        at: &[usize; GROUP],
        mut sums: Tile<S::f32s, V>,
    ) {
        if let Some(residual) = self.residual {
            sums = add_tile::<S, V>(simd, sums, residual, at);
        }
        if self.relu {
            sums = rectify::<S, V>(simd, sums);
        }
        store_tile::<S, V>(y, at, &sums);
    }
}

/// The windows of some places.
#[inline(always)]
fn corners(places: &[(usize, usize); GROUP]) -> [usize; GROUP] {
    let mut corners = [0; GROUP];
    for p in 0..GROUP {
        corners[p] = places[p].0;
    }
    corners
}

/// Where the rows of some places lie in y, from the `first` element on.
#[inline(always)]
pub fn rows_of(places: &[(usize, usize); GROUP], first: usize) -> [usize; GROUP] {
    let mut at = [0; GROUP];
    for p in 0..GROUP {
        at[p] = places[p].1 + first;
    }
    at
}
