//! Factors of products in the order in which those read them: panels of 64 outputs, (panels, depth, 64), zeros behind the
//! last output.

use pulp::Simd;
use rayon::prelude::*;

use crate::{DType, Device, Tensor, strassen};

/// Outputs a panel holds.
pub const PANEL: usize = 64;
/// Rows of a register tile: 6 x 4 vectors of 16 sums leave registers for the operands.
pub const GROUP: usize = 6;
/// Bytes of the left factor that a task reads: they share the second-level cache with a panel.
const TASK_BYTES: usize = 256 * 1024;
/// Rows of a task at least: a panel that it fetches is used so often.
const TASK_ROWS: usize = 48;

/// Rows of the left factor that one task takes of `rows`, each of which reads about `bytes` that the others do not: whole
/// tiles, and enough tasks for many cores.
pub fn task_rows(rows: usize, bytes: usize) -> usize {
    let most = (TASK_BYTES / bytes.max(1)).max(TASK_ROWS);
    (rows / 64).clamp(TASK_ROWS, most).next_multiple_of(GROUP)
}

/// The right factor of products, (depth, outputs).
#[derive(Clone)]
pub struct Factor {
    panels: Tensor,
    /// [`strassen::panel_sums`]
    sums: Option<Tensor>,
}

impl Factor {
    /// One that gradients go through, or that is soon written: products are summed as they are defined.
    pub fn passing(panels: Tensor) -> Self {
        Factor { panels, sums: None }
    }

    /// One that stays as it is and is used often: products of many rows go by Strassen's algorithm if that pays.
    pub fn lasting(panels: Tensor, outputs: usize) -> Self {
        let sums = strassen::pays(panels.shape()[1], outputs).then(|| strassen::panel_sums(&panels));
        Factor { panels, sums }
    }

    pub fn depth(&self) -> usize {
        self.panels.shape()[1]
    }

    /// The panels, and their sums.
    pub fn slices(&self) -> (&[f32], Option<&[f32]>) {
        (self.panels.as_slice(), self.sums.as_ref().map(|sums| sums.as_slice()))
    }

    /// [`task_rows`], or more.
    pub fn task_rows(&self, rows: usize, bytes: usize) -> usize {
        match self.sums {
            Some(_) => strassen::task_rows(rows, bytes),
            None => task_rows(rows, bytes),
        }
    }
}

/// Panels that `fill` writes: it gets the first output of a panel, how many it holds, and its elements (depth, 64).
fn packed(outputs: usize, depth: usize, fill: impl Fn(usize, usize, &mut [f32]) + Sync) -> Tensor {
    let mut panels = Tensor::empty(&[outputs.div_ceil(PANEL), depth, PANEL], DType::F32, Device::Cpu);
    if depth > 0 {
        panels.as_mut_slice().par_chunks_mut(depth * PANEL).enumerate().for_each(|(p, panel)| {
            let first = p * PANEL;
            fill(first, PANEL.min(outputs - first), panel);
        });
    }
    panels
}

/// Panels of w (outputs, depth), row o times `factor(o)`.
pub fn from_rows(w: &[f32], outputs: usize, depth: usize, factor: impl Fn(usize) -> f32 + Sync) -> Tensor {
    packed(outputs, depth, |first, width, panel| {
        let rows = &w[first * depth..(first + width) * depth];
        // A cache line of each row at a time, so that the lines written stay in cache.
        for (block, panel) in panel.chunks_mut(16 * PANEL).enumerate() {
            for (j, row) in rows.chunks_exact(depth).enumerate() {
                let factor = factor(first + j);
                for (values, &v) in panel.chunks_exact_mut(PANEL).zip(&row[block * 16..]) {
                    values[j] = factor * v;
                }
            }
            if width < PANEL {
                panel.chunks_exact_mut(PANEL).for_each(|values| values[width..].fill(0.0));
            }
        }
    })
}

/// Panels whose elements at a depth are a row of `outputs` elements, times a factor.
pub fn from_columns<'a>(outputs: usize, depth: usize, row: impl Fn(usize) -> (&'a [f32], f32) + Sync) -> Tensor {
    packed(outputs, depth, |first, width, panel| {
        for (at, values) in panel.chunks_exact_mut(PANEL).enumerate() {
            let (row, factor) = row(at);
            let (inside, outside) = values.split_at_mut(width);
            inside.iter_mut().zip(&row[first..]).for_each(|(v, w)| *v = factor * w);
            outside.fill(0.0);
        }
    })
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
