//! The product of windows, or of a matrix's rows, with panels: a register tile of 6 rows by up to 64 outputs at a time,
//! rows read where they lie, the epilogue on the tile's registers.

use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use crate::Tensor;
use crate::panels::{GROUP, PANEL, load, store, task_rows};
use crate::simd::{dispatch, prefetch};

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
    y.par_chunks_mut(rows * outputs).enumerate().for_each(|(task, y)| {
        let x = &x[task * rows * depth..];
        let places: Vec<(usize, usize)> = (0..y.len() / outputs).map(|row| (row * depth, row * outputs)).collect();
        let epilogue = Epilogue { start, residual: None, relu: false };
        Product { y, outputs, x, panels, places: &places, taps: &[0], run: depth, epilogue }.run();
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

impl Product<'_> {
    /// On the calling thread. If all panels stay in cache, places go by in memory's order; else each panel is used for all.
    pub fn run(self) {
        if self.panels.len() > CACHED_ELEMENTS {
            return dispatch(self);
        }
        for places in self.places.chunks(GROUP) {
            dispatch(Product { y: self.y, places, ..self });
        }
    }
}

/// Each panel for all places.
impl WithSimd for Product<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        // 16 registers hold 6 x 2 vectors, 32 hold 6 x 4.
        let most = if S::F32_LANES == 8 { 2 } else { 4 };
        for first in (0..self.outputs).step_by(PANEL) {
            for lane in (0..PANEL.min(self.outputs - first)).step_by(most * S::F32_LANES) {
                match (self.outputs - first - lane).min(PANEL - lane).div_ceil(S::F32_LANES).min(most) {
                    1 => self.column::<S, 1>(simd, first, lane),
                    2 => self.column::<S, 2>(simd, first, lane),
                    3 => self.column::<S, 3>(simd, first, lane),
                    _ => self.column::<S, 4>(simd, first, lane),
                }
            }
        }
    }
}

impl Product<'_> {
    /// All rows, V vectors of outputs from `first + lane` on (`first` begins a panel).
    #[inline(always)]
    fn column<S: Simd, const V: usize>(&mut self, simd: S, first: usize, lane: usize) {
        let depth = self.taps.len() * self.run;
        let panel = &self.panels[first * depth..][..PANEL * depth];
        let stride = PANEL / S::F32_LANES;
        let lane = lane / S::F32_LANES;
        let (panel, _) = S::as_simd_f32s(panel);
        let output = first + lane * S::F32_LANES;
        let taps_at_once = (DEPTH / self.run.max(1)).max(1);
        let chunks = self.taps.len().div_ceil(taps_at_once).max(1);
        for chunk in 0..chunks {
            let from = chunk * taps_at_once;
            let taps = &self.taps[from..self.taps.len().min(from + taps_at_once)];
            let panel = &panel[from * self.run * stride..];
            for places in self.places.chunks(GROUP) {
                // The last tile may have rows that are computed again, and not stored.
                let stored = places.len();
                let places: [(usize, usize); GROUP] = std::array::from_fn(|p| places[p.min(stored - 1)]);
                let mut sums = [[simd.splat_f32s(0.0); V]; GROUP];
                let start = if chunk > 0 { Start::Accumulate } else { self.epilogue.start };
                for p in 0..GROUP {
                    sums[p] = match start {
                        Start::Zero => sums[p],
                        Start::Bias(bias) => load(simd, &bias[output..]),
                        Start::Accumulate => load(simd, &self.y[places[p].1..][output..self.outputs]),
                    };
                }
                // What the epilogue reads and writes is fetched meanwhile, a line a step: all at once would keep the
                // panel's lines waiting.
                let lines: [[usize; V]; GROUP] =
                    places.map(|(_, at)| std::array::from_fn(|v| at + output + v * S::F32_LANES));
                let lines = lines.as_flattened();
                let y = &*self.y;
                let residual = self.epilogue.residual.unwrap_or(y);
                multiply(
                    simd,
                    &mut sums,
                    self.x,
                    &places,
                    taps,
                    self.run,
                    panel,
                    stride,
                    lane,
                    #[inline(always)]
                    |step| {
                        if step < GROUP * V {
                            prefetch(y, lines[step]);
                        } else if step < 2 * GROUP * V {
                            prefetch(residual, lines[step - GROUP * V]);
                        }
                    },
                );
                for (mut sums, (_, at)) in sums.into_iter().zip(places).take(stored) {
                    let row = at + output..at + self.outputs;
                    if chunk + 1 == chunks {
                        if let Some(residual) = self.epilogue.residual {
                            let residual: [S::f32s; V] = load(simd, &residual[row.clone()]);
                            for v in 0..V {
                                sums[v] = simd.add_f32s(sums[v], residual[v]);
                            }
                        }
                        if self.epilogue.relu {
                            for sum in &mut sums {
                                *sum = relu(simd, *sum);
                            }
                        }
                    }
                    store(simd, &mut self.y[row], sums);
                }
            }
        }
    }
}

/// sums[p] += the window at places[p] times V vectors of the panel; `meanwhile` is told the steps.
#[inline(always)]
#[expect(clippy::too_many_arguments, reason = "the operands of the innermost loops, each in a register")]
fn multiply<S: Simd, const V: usize>(
    simd: S,
    sums: &mut [[S::f32s; V]; GROUP],
    x: &[f32],
    places: &[(usize, usize); GROUP],
    taps: &[usize],
    run: usize,
    panel: &[S::f32s],
    stride: usize,
    lane: usize,
    meanwhile: impl Fn(usize),
) {
    let mut acc = *sums;
    let mut step = 0;
    for (&tap, panel) in taps.iter().zip(panel.chunks_exact((run * stride).max(1))) {
        let windows: [&[f32]; GROUP] = std::array::from_fn(|p| &x[places[p].0 + tap..][..run]);
        for (k, filter) in (0..run).zip(panel.chunks_exact(stride)) {
            let filter = &filter[lane..lane + V];
            for p in 0..GROUP {
                let value = simd.splat_f32s(windows[p][k]);
                for v in 0..V {
                    acc[p][v] = simd.mul_add_e_f32s(value, filter[v], acc[p][v]);
                }
            }
            meanwhile(step);
            step += 1;
        }
    }
    *sums = acc;
}

/// max(x, 0), NaN where x is.
#[inline(always)]
pub fn relu<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    let zero = simd.splat_f32s(0.0);
    simd.select_f32s(simd.less_than_f32s(x, zero), zero, x)
}
