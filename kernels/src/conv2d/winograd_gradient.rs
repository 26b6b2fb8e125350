//! The gradient of 3 x 3 filters by the same minimal filtering: y = A^T [U * V] A is linear in the filter's U, so
//!
//! ```text
//! dw = G^T [sum over tiles of (B^T d B) * (A dy A^T)] G
//! ```
//!
//! For each of the 36 points the sum over tiles is a matrix product, input by output channels.

use std::f32::consts::{FRAC_1_SQRT_2, SQRT_2};
use std::ops::Range;

use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use super::correlate::Extent;
use super::sizes::Sizes;
use super::winograd::{SIDE, Tiling, input_tiles, point_stride};
use super::winograd_schemes::{Adjacent, scaled, times};
use super::winograd_transforms::{POINTS, separable};
use crate::outer_products::{BLOCK, OuterProducts};
use crate::panels::PANEL;
use crate::simd::dispatch;
use crate::{DType, Device, Tensor};

/// Tiles that are transformed before their products are summed, which bounds the memory that they take.
const AT_ONCE: usize = 16 * BLOCK;

/// The gradient of the folded filters in panels (1, panels, 3 * 3 * I, 64), for `sum_parts`, where `winograd::pays`.
pub fn weight_gradient(g: &[f32], x: &[f32], s: &Sizes) -> Tensor {
    let (out, input) = (Extent { h: s.oh, w: s.ow, c: s.o }, Extent { h: s.h, w: s.w, c: s.i });
    let tiling = Tiling::new(out, 1, s.padding as isize);
    let all = s.batch * tiling.tiles();
    let panels = s.o.div_ceil(PANEL);
    let mut m = Tensor::empty(&[panels, POINTS, s.i, PANEL], DType::F32, Device::Cpu);
    for first in (0..all).step_by(AT_ONCE) {
        let tiles = first..all.min(first + AT_ONCE);
        let v = input_tiles(Adjacent, x, input, tiles.clone(), tiling); // (tiles, 36, its stride)
        let w = output_tiles(g, out, tiles.clone(), tiling);
        let sums = m.as_mut_slice::<f32>().par_chunks_mut(s.i * PANEL).with_max_len(1);
        sums.enumerate().for_each(|(task, sums)| {
            let point = task % POINTS;
            let width = PANEL.min(s.o - task / POINTS * PANEL);
            let corners: Vec<usize> =
                (0..tiles.len()).map(|tile| (tile * POINTS + point) * point_stride(s.i)).collect();
            let blocks = corners.chunks(BLOCK).zip(w.as_slice::<f32>().chunks(panels * POINTS * BLOCK * PANEL));
            for (block, (corners, w)) in blocks.enumerate() {
                let (x, g) = (v.as_slice(), &w[task * corners.len() * PANEL..][..corners.len() * PANEL]);
                let (stride, accumulate, taps, run) = (PANEL, first + block > 0, &[0], s.i);
                dispatch(OuterProducts { sums: &mut *sums, stride, accumulate, x, g, corners, taps, run, width });
            }
        });
    }
    let mut dw = Tensor::empty(&[1, panels, 9 * s.i, PANEL], DType::F32, Device::Cpu);
    let (m, size) = (m.as_slice::<f32>(), s.i * PANEL);
    dw.as_mut_slice()
        .par_chunks_mut(9 * size)
        .zip(m.par_chunks(POINTS * size))
        .for_each(|(dw, m)| dispatch(FilterGradient { dw, m }));
    dw
}

/// A dy A^T of some tiles of images of `out`: for each block of tiles (panels, 36, tiles, 64).
fn output_tiles(g: &[f32], out: Extent, tiles: Range<usize>, tiling: Tiling) -> Tensor {
    let panels = out.c.div_ceil(PANEL);
    let mut w = Tensor::empty(&[tiles.len(), panels, POINTS, PANEL], DType::F32, Device::Cpu);
    let blocks = w.as_mut_slice().par_chunks_mut(BLOCK * panels * POINTS * PANEL).with_max_len(1);
    blocks.enumerate().for_each(|(block, w)| {
        let first = tiles.start + block * BLOCK;
        let tiles = first..tiles.end.min(first + BLOCK);
        w.par_chunks_mut(POINTS * tiles.len() * PANEL).with_max_len(1).enumerate().for_each(|(panel, w)| {
            dispatch(OutputGradient { w, g, extent: out, first: panel * PANEL, tiles: tiles.clone(), tiling });
        });
    });
    w
}

/// w (36, tiles, 64): A dy A^T of 64 channels from `first` on, zeros behind the last.
struct OutputGradient<'a> {
    w: &'a mut [f32],
    g: &'a [f32],
    extent: Extent,
    first: usize,
    tiles: Range<usize>,
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
        let tiles = self.tiles.len();
        for (place, tile) in self.tiles.enumerate() {
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
                    |r, c, value| out[((6 * r + c) * tiles + place) * vectors + at] = value,
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::case::{Input, Values};
    use crate::conv2d::{ConvGeometry, weight_gradient};

    /// More tiles than are transformed at once: their sums add up to the direct kernel's.
    #[test]
    fn tiles_by_and_by() {
        let geometry = ConvGeometry { stride: 1, padding: 1, dilation: 1 };
        let s = Sizes::new(&[AT_ONCE / 4 + 30, 6, 7, 32], &[32, 3, 3, 32], geometry);
        let normal =
            |stream: u64| Input::new("", &[s.batch, s.h, s.w, 32], Values::Normal(1.0)).tensor(DType::F32, stream);
        let (x, g) = (normal(1), normal(2));
        let dw = |sums: Tensor| {
            let mut dw = vec![0.0; s.o * s.depth()];
            weight_gradient::sum_parts(&mut dw, false, &sums, None, s.depth());
            dw
        };
        let fast = dw(weight_gradient(g.as_slice(), x.as_slice(), &s));
        let (taps, span) = crate::conv2d::cpu::taps(&s);
        let direct = dw(weight_gradient::partial_sums(g.as_slice(), x.as_slice(), &taps, span, &s));
        let far = fast.iter().zip(&direct).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(far < 0.02, "{far}: sums of {} products", s.output_pixels());
    }
}
