//! Filters in the order in which the products read them: panels of 64 outputs, (panels, depth, 64), zeros behind the last.

use rayon::prelude::*;

use super::sizes::Sizes;
use crate::{DType, Device, Tensor};

/// Outputs a panel holds.
pub const PANEL: usize = 64;

fn empty_panels(outputs: usize, depth: usize) -> Tensor {
    Tensor::empty(&[outputs.div_ceil(PANEL), depth, PANEL], DType::F32, Device::Cpu)
}

/// Panels over o of scale * w, depth in w's own order (kh, kw, i).
pub fn forward_panels(w: &[f32], scale: Option<&[f32]>, sizes: &Sizes) -> Tensor {
    let depth = sizes.depth();
    let mut panels = empty_panels(sizes.o, depth);
    if depth == 0 {
        return panels;
    }
    panels.as_mut_slice().par_chunks_mut(depth * PANEL).enumerate().for_each(|(p, panel)| {
        let first = p * PANEL;
        let width = PANEL.min(sizes.o - first);
        let filters = &w[first * depth..(first + width) * depth];
        // A cache line of each filter at a time, so that the lines written stay in cache.
        for (block, panel) in panel.chunks_mut(16 * PANEL).enumerate() {
            for (j, filter) in filters.chunks_exact(depth).enumerate() {
                let factor = scale.map_or(1.0, |s| s[first + j]);
                for (row, &v) in panel.chunks_exact_mut(PANEL).zip(&filter[block * 16..]) {
                    row[j] = factor * v;
                }
            }
            if width < PANEL {
                panel.chunks_exact_mut(PANEL).for_each(|row| row[width..].fill(0.0));
            }
        }
    });
    panels
}

/// Panels over i of scale * w for some taps (kh, kw) of the filter, depth in the order (tap, o).
pub fn transposed_panels(w: &[f32], scale: Option<&[f32]>, taps: &[(usize, usize)], sizes: &Sizes) -> Tensor {
    let depth = taps.len() * sizes.o;
    let mut panels = empty_panels(sizes.i, depth);
    if depth == 0 {
        return panels;
    }
    panels.as_mut_slice().par_chunks_mut(depth * PANEL).enumerate().for_each(|(p, panel)| {
        let first = p * PANEL;
        let width = PANEL.min(sizes.i - first);
        for (at, row) in panel.chunks_exact_mut(PANEL).enumerate() {
            let ((kh, kw), o) = (taps[at / sizes.o], at % sizes.o);
            let factor = scale.map_or(1.0, |s| s[o]);
            let (inside, outside) = row.split_at_mut(width);
            let filter = &w[((o * sizes.kh + kh) * sizes.kw + kw) * sizes.i + first..];
            inside.iter_mut().zip(filter).for_each(|(v, w)| *v = factor * w);
            outside.fill(0.0);
        }
    });
    panels
}
