//! The transforms of tiles and filters, each separable, over vectors of channels: V = B^T d B of N x N pixels, U = G g G^T of
//! filters, y = A^T m A.

use std::ops::Range;

use pulp::{Simd, WithSimd};

use super::correlate::Extent;
use super::winograd::{Pixels, SIDE, Tiling, point_stride};
use super::winograd_schemes::Scheme;
use crate::dtype::Storage;
use crate::gemm_packed::{Epilogue, Start};
use crate::panels::load;
use crate::register_tile::relu;
use crate::simd::prefetch;

/// Pairs of points, each of which has a transformed filter.
pub const POINTS: usize = 36;

/// A transform of columns, then of rows: M x M values from N x N.
#[inline(always)]
pub fn separable<V: Copy, const N: usize, const M: usize>(
    rows: &mut [[V; N]; M],
    transform: impl Fn([V; N]) -> [V; M],
    load: impl Fn(usize, usize) -> V,
    mut store: impl FnMut(usize, usize, V),
) {
    for c in 0..N {
        let mut column = [rows[0][0]; N];
        for (r, v) in column.iter_mut().enumerate() {
            *v = load(r, c);
        }
        for (row, v) in rows.iter_mut().zip(transform(column)) {
            row[c] = v;
        }
    }
    for (r, row) in rows.iter().enumerate() {
        for (c, v) in transform(*row).into_iter().enumerate() {
            store(r, c, v);
        }
    }
}

/// A vector from the first elements of x.
#[inline(always)]
fn widened<S: Simd, T: Storage>(simd: S, x: &[T]) -> S::f32s {
    let mut vector = [simd.splat_f32s(0.0)];
    let lanes: &mut [f32] = bytemuck::cast_slice_mut(&mut vector);
    lanes.iter_mut().zip(&x[..S::F32_LANES]).for_each(|(lane, x)| *lane = x.widen());
    vector[0]
}

/// A vector into y, of its length.
#[inline(always)]
fn narrowed<F: bytemuck::Pod, T: Storage>(y: &mut [T], vector: F) {
    let vector = [vector];
    let lanes: &[f32] = bytemuck::cast_slice(&vector);
    y.iter_mut().zip(lanes).for_each(|(y, &lane)| *y = T::narrow(lane));
}

/// u (36, c, 64) from a panel of filters (3, 3, c, 64).
pub struct Filters<'a, K, const N: usize> {
    pub scheme: K,
    pub u: &'a mut [f32],
    pub panel: &'a [f32],
}

impl<K: Scheme<N>, const N: usize> WithSimd for Filters<'_, K, N> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let scheme = self.scheme;
        let (u, _) = S::as_mut_simd_f32s(self.u);
        let (panel, _) = S::as_simd_f32s(self.panel);
        let vectors = panel.len() / 9;
        let mut scratch = [[simd.splat_f32s(0.0); 3]; 6];
        for at in 0..vectors {
            separable(
                &mut scratch,
                #[inline(always)]
                |g: [_; 3]| scheme.filter(simd, g),
                #[inline(always)]
                |r, c| panel[(3 * r + c) * vectors + at],
                #[inline(always)]
                |r, c, v| u[(6 * r + c) * vectors + at] = v,
            );
        }
    }
}

/// v (tiles, N * N, [`point_stride`]) from the tiles of images (batch, h, w, c), zero outside; c a multiple of 16.
pub struct Input<'a, T, K, const N: usize> {
    pub scheme: K,
    pub v: &'a mut [f32],
    pub x: &'a [T],
    pub extent: Extent,
    pub tiles: Range<usize>,
    pub tiling: Tiling,
}

impl<T: Storage, K: Scheme<N>, const N: usize> WithSimd for Input<'_, T, K, N> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let scheme = self.scheme;
        let Extent { h, w, c: channels } = self.extent;
        let (v, _) = S::as_mut_simd_f32s(self.v);
        let (vectors, stride) = (channels / S::F32_LANES, point_stride(channels) / S::F32_LANES);
        let zero = simd.splat_f32s(0.0);
        let mut scratch = [[zero; N]; N];
        for (tile, v) in self.tiles.zip(v.chunks_exact_mut(N * N * stride)) {
            let (image, row, column) = self.tiling.corner(tile);
            let x = &self.x[image * h * w * channels..][..h * w * channels];
            let (row, column) = (self.tiling.stride * row, self.tiling.stride * column);
            let row = |r: usize| row.checked_add_signed(r as isize - self.tiling.padding).filter(|&r| r < h);
            let column = |c: usize| column.checked_add_signed(c as isize - self.tiling.padding).filter(|&c| c < w);
            // Where pixels begin that lie inside the image.
            let mut pixels = [[None; N]; N];
            for (r, pixels) in pixels.iter_mut().enumerate() {
                for (c, pixel) in pixels.iter_mut().enumerate() {
                    *pixel = row(r).zip(column(c)).map(|(r, c)| (r * w + c) * channels);
                }
            }
            for at in 0..vectors {
                separable(
                    &mut scratch,
                    #[inline(always)]
                    |d: [_; N]| scheme.input(simd, d),
                    #[inline(always)]
                    |r, c| match pixels[r][c] {
                        Some(first) => {
                            prefetch(x, first + (at + 1) * S::F32_LANES);
                            widened(simd, &x[first + at * S::F32_LANES..])
                        }
                        None => zero,
                    },
                    #[inline(always)]
                    |r, c, value| {
                        let place = (N * r + c) * stride + at;
                        prefetch(v, place + 1);
                        v[place] = value;
                    },
                );
            }
        }
    }
}

/// Channels from `first` on, as many as m has, of the tiles' pixels in y from m (tiles, N * N, width).
pub struct Output<'a, T, K, const N: usize> {
    pub scheme: K,
    pub y: &'a Pixels<'a, T>,
    pub m: &'a [f32],
    pub extent: Extent,
    pub first: usize,
    pub width: usize,
    pub tiles: Range<usize>,
    pub tiling: Tiling,
    pub epilogue: Epilogue<'a, T>,
}

impl<T: Storage, K: Scheme<N>, const N: usize> WithSimd for Output<'_, T, K, N> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let scheme = self.scheme;
        let Extent { h, w, c: channels } = self.extent;
        let (m, _) = S::as_simd_f32s(self.m);
        let vectors = self.width / S::F32_LANES;
        let zero = simd.splat_f32s(0.0);
        let mut scratch = [[zero; N]; SIDE];
        for (tile, m) in self.tiles.zip(m.chunks_exact(N * N * vectors)) {
            let (image, row, column) = self.tiling.corner(tile);
            let (rows, columns) = (SIDE.min(h - row), SIDE.min(w - column));
            let first = ((image * h + row) * w + column) * channels + self.first;
            for at in 0..vectors {
                let channel = at * S::F32_LANES;
                let start = match self.epilogue.start {
                    Start::Bias(bias) => load::<S, 1>(simd, &bias[self.first + channel..])[0],
                    Start::Zero | Start::Accumulate => zero,
                };
                separable(
                    &mut scratch,
                    #[inline(always)]
                    |m: [_; N]| scheme.output(simd, m),
                    #[inline(always)]
                    |r, c| {
                        let place = (N * r + c) * vectors + at;
                        prefetch(m, place + N * N * vectors);
                        m[place]
                    },
                    #[inline(always)]
                    |r, c, value| {
                        if r >= rows || c >= columns {
                            return;
                        }
                        let place = first + (r * w + c) * channels + channel;
                        // SAFETY: the caller gives each tile and panel to one task.
                        let y = unsafe { self.y.slice(place, S::F32_LANES) };
                        let mut sum = simd.add_f32s(value, start);
                        if let Start::Accumulate = self.epilogue.start {
                            sum = simd.add_f32s(sum, widened(simd, y));
                        }
                        if let Some(residual) = self.epilogue.residual {
                            sum = simd.add_f32s(sum, widened(simd, &residual[place..]));
                        }
                        if self.epilogue.relu {
                            sum = relu(simd, sum);
                        }
                        narrowed(y, sum);
                    },
                );
            }
        }
    }
}
