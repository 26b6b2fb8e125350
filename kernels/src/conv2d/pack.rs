//! Filters in panels.

use super::sizes::Sizes;
use crate::{Tensor, panels};

/// Panels over o of scale * w, depth in w's own order (kh, kw, i).
pub fn forward_panels(w: &[f32], scale: Option<&[f32]>, sizes: &Sizes) -> Tensor {
    panels::from_rows(w, sizes.o, sizes.depth(), |o| scale.map_or(1.0, |scale| scale[o]))
}

/// Panels over i of scale * w for some taps (kh, kw) of the filter, depth in the order (tap, o).
pub fn transposed_panels(w: &[f32], scale: Option<&[f32]>, taps: &[(usize, usize)], sizes: &Sizes) -> Tensor {
    panels::from_columns(sizes.i, taps.len() * sizes.o, |at| {
        let ((kh, kw), o) = (taps[at / sizes.o], at % sizes.o);
        let factor = scale.map_or(1.0, |scale| scale[o]);
        (&w[((o * sizes.kh + kh) * sizes.kw + kw) * sizes.i..][..sizes.i], factor)
    })
}
