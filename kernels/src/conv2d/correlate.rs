//! The product of windows with packed filters, forward and for the data gradient: a register tile of 6 pixels by up to
//! 64 channels at a time, windows read where they lie (no im2col), the epilogue on the tile's registers.

use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use super::pack::PANEL;
use super::window::{Image, Reach, Windows};
use crate::Tensor;
use crate::simd::{dispatch, prefetch};

/// Pixels of a register tile: 6 x 4 vectors leave registers for the operands.
const GROUP: usize = 6;
/// Depth of a product that is summed at once: the part of a panel that it reads stays in the second-level cache.
const DEPTH: usize = 2048;
/// Elements of x that a task reads: they share that cache with a panel.
const TASK_ELEMENTS: usize = 64 * 1024;
/// Elements of panels that stay in it.
const CACHED_ELEMENTS: usize = 96 * 1024;

/// Output pixels whose coordinates leave the same remainders by the output step: they see the same taps.
pub struct Phase {
    /// Where taps lie from the window's own pixel, (row, column).
    pub taps: Vec<(isize, isize)>,
    /// The filters (panels, taps * run, 64).
    pub panels: Tensor,
}

/// y[t a + u, t b + v, :] = sum over taps of phase (u, v) of x[s a + row, s b + column, ...run] times the tap's filter.
pub struct Correlation {
    /// All remainders (u, v) by the output step, row-major.
    pub phases: Vec<Phase>,
    /// s.
    pub in_step: usize,
    /// t.
    pub out_step: usize,
    /// Pixels, contiguous in memory, that a tap spans.
    pub span: usize,
}

/// What sums start from.
#[derive(Clone, Copy)]
pub enum Start<'a> {
    Zero,
    /// A value a channel, padded to whole panels.
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

/// Images (batch, h, w, c).
#[derive(Clone, Copy)]
pub struct Extent {
    pub h: usize,
    pub w: usize,
    pub c: usize,
}

impl Extent {
    fn image(&self) -> usize {
        self.h * self.w * self.c
    }
}

impl Correlation {
    /// Computes y (batch of `out`) from x (batch of `input`).
    pub fn run(&self, y: &mut [f32], x: &[f32], out: Extent, input: Extent, epilogue: Epilogue) {
        if y.is_empty() {
            return;
        }
        let images = y.len() / out.image();
        // Enough tasks for many cores; a task is large enough to use the panels that it fetches.
        let most = (TASK_ELEMENTS / input.c.max(1)).max(48);
        let pixels = (images * out.h * out.w / 64).clamp(48, most).next_multiple_of(GROUP);
        let tasks: Vec<Task> = y
            .chunks_mut(out.image())
            .enumerate()
            .flat_map(|(image, y)| {
                y.chunks_mut(pixels * out.c).enumerate().map(move |(block, y)| Task {
                    image,
                    start: block * pixels,
                    y,
                })
            })
            .collect();
        let taps = self.phases.iter().flat_map(|p| p.taps.iter().copied());
        let reach = Reach::new(self.in_step, taps, self.span);
        tasks.into_par_iter().for_each(|task| self.block(task, x, out, input, reach, epilogue));
    }

    fn block(&self, task: Task, x: &[f32], out: Extent, input: Extent, reach: Reach, epilogue: Epilogue) {
        let step = self.out_step;
        let pixels = task.start..task.start + task.y.len() / out.c;
        let rows = pixels.start / out.w / step..(pixels.end - 1) / out.w / step + 1;
        let x = &x[task.image * input.image()..][..input.image()];
        let image = Image { pixels: x, h: input.h, w: input.w, c: input.c };
        let windows = Windows::new(image, reach, rows, (out.h.div_ceil(step), out.w.div_ceil(step)));
        let (memory, layout) = windows.memory();
        let mut places = vec![Vec::new(); self.phases.len()];
        for (i, pixel) in pixels.enumerate() {
            let (r, c) = (pixel / out.w, pixel % out.w);
            places[r % step * step + c % step].push((layout.corner(r / step, c / step), i * out.c));
        }
        let offset = task.image * out.image() + task.start * out.c;
        let epilogue = Epilogue { residual: epilogue.residual.map(|r| &r[offset..][..task.y.len()]), ..epilogue };
        for (phase, places) in self.phases.iter().zip(places) {
            let taps: Vec<usize> = phase.taps.iter().map(|&t| layout.tap(t)).collect();
            let panels: &[f32] = phase.panels.as_slice();
            // If all panels stay in cache, pixels go by in memory's order; else each panel is used for all pixels.
            let at_once = if panels.len() <= CACHED_ELEMENTS { GROUP } else { places.len() };
            for places in places.chunks(at_once.max(1)) {
                let (y, channels, run) = (&mut *task.y, out.c, self.span * input.c);
                dispatch(Product { y, channels, x: memory, panels, places, taps: &taps, run, epilogue });
            }
        }
    }
}

/// Output pixels `start`.. of one image.
struct Task<'a> {
    image: usize,
    start: usize,
    y: &'a mut [f32],
}

/// y[place, :] = sum over taps and run of x[place + tap + run] panels[tap, run, :].
pub struct Product<'a> {
    pub y: &'a mut [f32],
    pub channels: usize,
    pub x: &'a [f32],
    pub panels: &'a [f32],
    /// (corner in x, first element in y) of each pixel.
    pub places: &'a [(usize, usize)],
    pub taps: &'a [usize],
    pub run: usize,
    pub epilogue: Epilogue<'a>,
}

impl WithSimd for Product<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        // 16 registers hold 6 x 2 vectors, 32 hold 6 x 4.
        let most = if S::F32_LANES == 8 { 2 } else { 4 };
        for first in (0..self.channels).step_by(PANEL) {
            for lane in (0..PANEL.min(self.channels - first)).step_by(most * S::F32_LANES) {
                match (self.channels - first - lane).min(PANEL - lane).div_ceil(S::F32_LANES).min(most) {
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
    /// All pixels, V vectors of channels from `first + lane` on (`first` begins a panel).
    #[inline(always)]
    fn column<S: Simd, const V: usize>(&mut self, simd: S, first: usize, lane: usize) {
        let depth = self.taps.len() * self.run;
        let panel = &self.panels[first * depth..][..PANEL * depth];
        let stride = PANEL / S::F32_LANES;
        let lane = lane / S::F32_LANES;
        let (panel, _) = S::as_simd_f32s(panel);
        let channel = first + lane * S::F32_LANES;
        let taps_at_once = (DEPTH / self.run.max(1)).max(1);
        let chunks = self.taps.len().div_ceil(taps_at_once).max(1);
        for chunk in 0..chunks {
            let from = chunk * taps_at_once;
            let taps = &self.taps[from..self.taps.len().min(from + taps_at_once)];
            let panel = &panel[from * self.run * stride..];
            for places in self.places.chunks(GROUP) {
                // The last tile may have pixels that are computed again, and not stored.
                let stored = places.len();
                let places: [(usize, usize); GROUP] = std::array::from_fn(|p| places[p.min(stored - 1)]);
                let mut sums = [[simd.splat_f32s(0.0); V]; GROUP];
                for (sums, &(_, at)) in sums.iter_mut().zip(&places) {
                    let start = if chunk > 0 { Start::Accumulate } else { self.epilogue.start };
                    *sums = match start {
                        Start::Zero => *sums,
                        Start::Bias(bias) => load(simd, &bias[channel..]),
                        Start::Accumulate => load(simd, &self.y[at + channel..at + self.channels]),
                    };
                }
                // What the epilogue reads and writes is fetched meanwhile, a line a step: all at once would keep the
                // panel's lines waiting.
                let (y, residual) = (&*self.y, self.epilogue.residual.unwrap_or_default());
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
                        let at = places[step / V % GROUP].1 + channel + step % V * S::F32_LANES;
                        match step / (GROUP * V) {
                            0 => prefetch(y, at),
                            1 => prefetch(residual, at),
                            _ => {}
                        }
                    },
                );
                for (mut sums, (_, at)) in sums.into_iter().zip(places).take(stored) {
                    let row = at + channel..at + self.channels;
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

/// The first V vectors of a row, zeros behind its end.
#[inline(always)]
pub fn load<S: Simd, const V: usize>(simd: S, row: &[f32]) -> [S::f32s; V] {
    let (whole, rest) = S::as_simd_f32s(row);
    let mut values = [simd.splat_f32s(0.0); V];
    for (v, value) in values.iter_mut().enumerate() {
        *value = match whole.get(v) {
            Some(&value) => value,
            None => simd.partial_load_f32s(rest),
        };
    }
    values
}

/// max(x, 0), NaN where x is.
#[inline(always)]
pub fn relu<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    let zero = simd.splat_f32s(0.0);
    simd.select_f32s(simd.less_than_f32s(x, zero), zero, x)
}

/// Writes V vectors to a row that may end within the last of them.
#[inline(always)]
pub fn store<S: Simd, const V: usize>(simd: S, row: &mut [f32], values: [S::f32s; V]) {
    let (whole, rest) = S::as_mut_simd_f32s(row);
    for (v, value) in values.into_iter().enumerate() {
        match whole.get_mut(v) {
            Some(place) => *place = value,
            None => simd.partial_store_f32s(rest, value),
        }
    }
}
