//! The gradient of 3 x 3 filters by the same minimal filtering: y = A^T [U * V] A is linear in the filter's U, so
//!
//! ```text
//! dw = G^T [sum over tiles of (B^T d B) * (A dy A^T)] G
//! ```
//!
//! For each of the 36 points the sum over tiles is a matrix product, input by output channels.

use std::f32::consts::{FRAC_1_SQRT_2, SQRT_2};

use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use super::correlate::Extent;
use super::sizes::Sizes;
use super::winograd::{SIDE, Tiling, input_tiles};
use super::winograd_transforms::{POINTS, scaled, separable, times};
use crate::outer_products::{BLOCK, OuterProducts};
use crate::panels::PANEL;
use crate::simd::dispatch;
use crate::{DType, Device, Tensor};

/// The gradient of the folded filters in panels (1, panels, 3 * 3 * I, 64), for `sum_parts`, where `winograd::pays`.
pub fn weight_gradient(g: &[f32], x: &[f32], s: &Sizes) -> Tensor {
    let (out, input) = (Extent { h: s.oh, w: s.ow, c: s.o }, Extent { h: s.h, w: s.w, c: s.i });
    let tiling = Tiling::new(out, s.padding as isize);
    let tiles = s.batch * tiling.tiles();
    let v = input_tiles(x, input, 0..tiles, tiling); // (tiles, 36, I)
    let panels = s.o.div_ceil(PANEL);
    let mut w = Tensor::empty(&[panels, POINTS, tiles, PANEL], DType::F32, Device::Cpu);
    w.as_mut_slice().par_chunks_mut(POINTS * tiles * PANEL).enumerate().for_each(|(panel, w)| {
        dispatch(OutputGradient { w, g, extent: out, first: panel * PANEL, tiles, tiling });
    });
    let mut m = Tensor::empty(&[panels, POINTS, s.i, PANEL], DType::F32, Device::Cpu);
    let products = m.as_mut_slice::<f32>().par_chunks_mut(s.i * PANEL).zip(w.as_slice().par_chunks(tiles * PANEL));
    products.enumerate().for_each(|(task, (sums, w))| {
        let (panel, point) = (task / POINTS, task % POINTS);
        let width = PANEL.min(s.o - panel * PANEL);
        let corners: Vec<usize> = (0..tiles).map(|tile| (tile * POINTS + point) * s.i).collect();
        for (block, (corners, g)) in corners.chunks(BLOCK).zip(w.chunks(BLOCK * PANEL)).enumerate() {
            let (x, accumulate) = (v.as_slice(), block > 0);
            let (stride, taps, run) = (PANEL, &[0], s.i);
            dispatch(OuterProducts { sums: &mut *sums, stride, accumulate, x, g, corners, taps, run, width });
        }
    });
    let mut dw = Tensor::empty(&[1, panels, 9 * s.i, PANEL], DType::F32, Device::Cpu);
    let (m, size) = (m.as_slice::<f32>(), s.i * PANEL);
    dw.as_mut_slice()
        .par_chunks_mut(9 * size)
        .zip(m.par_chunks(POINTS * size))
        .for_each(|(dw, m)| dispatch(FilterGradient { dw, m }));
    dw
}

/// w (36, tiles, 64): A dy A^T of 64 channels from `first` on, zeros behind the last.
struct OutputGradient<'a> {
    w: &'a mut [f32],
    g: &'a [f32],
    extent: Extent,
    first: usize,
    tiles: usize,
    tiling: Tiling,
}

impl WithSimd for OutputGradient<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Extent { h, w, c: channels } = self.extent;
        let zero = simd.splat_f32s(0.0);
        let (out, _) = S::as_mut_simd_f32s(self.w);
        let vectors = PANEL / S::F32_LANES;
        let inside = PANEL.min(channels - self.first) / S::F32_LANES;
        let mut scratch = [[zero; SIDE]; 6];
        for tile in 0..self.tiles {
            let (image, row, column) = self.tiling.corner(tile);
            let (rows, columns) = (SIDE.min(h - row), SIDE.min(w - column));
            let first = ((image * h + row) * w + column) * channels + self.first;
            for at in 0..vectors {
                separable(
                    &mut scratch,
                    #[inline(always)]
                    |d: [_; SIDE]| output_gradient(simd, d),
                    #[inline(always)]
                    |r, c| {
                        if r >= rows || c >= columns || at >= inside {
                            return zero;
                        }
                        let (pixel, _) =
                            S::as_simd_f32s(&self.g[first + (r * w + c) * channels + at * S::F32_LANES..]);
                        pixel[0]
                    },
                    #[inline(always)]
                    |r, c, value| out[((6 * r + c) * self.tiles + tile) * vectors + at] = value,
                );
            }
        }
    }
}

/// dw (3, 3, c, 64): G^T m G of m (36, c, 64).
struct FilterGradient<'a> {
    dw: &'a mut [f32],
    m: &'a [f32],
}

impl WithSimd for FilterGradient<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let (dw, _) = S::as_mut_simd_f32s(self.dw);
        let (m, _) = S::as_simd_f32s(self.m);
        let vectors = m.len() / POINTS;
        let mut scratch = [[simd.splat_f32s(0.0); 6]; 3];
        for at in 0..vectors {
            separable(
                &mut scratch,
                #[inline(always)]
                |m: [_; 6]| filter_gradient(simd, m),
                #[inline(always)]
                |r, c| m[(6 * r + c) * vectors + at],
                #[inline(always)]
                |r, c, v| dw[(3 * r + c) * vectors + at] = v,
            );
        }
    }
}

/// A d.
#[inline(always)]
fn output_gradient<S: Simd>(simd: S, d: [S::f32s; SIDE]) -> [S::f32s; 6] {
    // The points' even and odd parts.
    let (even, odd) = (scaled(simd, 0.5, d[2], d[0]), scaled(simd, 0.5, d[3], d[1]));
    let (even2, odd2) = (scaled(simd, 2.0, d[2], d[0]), scaled(simd, 2.0, d[3], d[1]));
    [
        d[0],
        scaled(simd, FRAC_1_SQRT_2, odd, even),
        scaled(simd, -FRAC_1_SQRT_2, odd, even),
        scaled(simd, SQRT_2, odd2, even2),
        scaled(simd, -SQRT_2, odd2, even2),
        d[3],
    ]
}

/// G^T m.
#[inline(always)]
fn filter_gradient<S: Simd>(simd: S, m: [S::f32s; 6]) -> [S::f32s; 3] {
    let (even, odd) = (simd.add_f32s(m[1], m[2]), simd.sub_f32s(m[2], m[1]));
    let (even2, odd2) = (simd.add_f32s(m[3], m[4]), simd.sub_f32s(m[3], m[4]));
    [
        scaled(simd, -2.0 / 3.0, even, scaled(simd, 1.0 / 6.0, even2, m[0])),
        scaled(simd, SQRT_2 / 3.0, odd, times(simd, SQRT_2 / 6.0, odd2)),
        scaled(simd, -1.0 / 3.0, even, scaled(simd, 1.0 / 3.0, even2, m[5])),
    ]
}
