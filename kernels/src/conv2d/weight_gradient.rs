//! The weight's gradient: for each panel of 64 output channels, the windows' transpose times the output's gradient, a
//! register tile of 6 filter elements by up to 64 channels at a time.

use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use super::correlate::load;
use super::pack::PANEL;
use super::sizes::Sizes;
use super::window::{Image, Reach, Windows};
use crate::simd::{dispatch, prefetch};
use crate::{DType, Device, Tensor};

/// Filter elements of a register tile.
const GROUP: usize = 6;
/// Pixels summed at once: 64 channels of their gradients stay in the first-level cache.
const BLOCK: usize = 96;
/// Elements by which reading x is ahead of using it: rows of a window's elements lie too far apart for the processor to
/// guess the next ones.
const AHEAD: usize = 16;
/// Tasks to make, for many cores: below as many panels, pixels are split too, and the parts' sums added in order.
const TASKS: usize = 16;

/// Sums of x times g, (parts, panels, depth, 64), for `sum_parts`.
pub fn partial_sums(g: &[f32], x: &[f32], taps: &[(isize, isize)], span: usize, sizes: &Sizes) -> Tensor {
    let panels = sizes.o.div_ceil(PANEL);
    let blocks_an_image = (sizes.oh * sizes.ow).div_ceil(BLOCK);
    let blocks = sizes.batch * blocks_an_image;
    let parts = TASKS.div_ceil(panels.max(1)).clamp(1, blocks.max(1));
    let depth = sizes.depth();
    let mut sums = Tensor::zeros(&[parts, panels, depth, PANEL], DType::F32, Device::Cpu);
    if depth == 0 {
        return sums;
    }
    let reach = Reach::new(sizes.stride, taps.iter().copied(), span);
    sums.as_mut_slice::<f32>().par_chunks_mut(depth * PANEL).enumerate().for_each(|(task, sums)| {
        let (part, panel) = (task / panels, task % panels);
        for block in blocks * part / parts..blocks * (part + 1) / parts {
            let (image, first) = (block / blocks_an_image, block % blocks_an_image * BLOCK);
            let pixels = first..(first + BLOCK).min(sizes.oh * sizes.ow);
            let x = &x[image * sizes.h * sizes.w * sizes.i..][..sizes.h * sizes.w * sizes.i];
            let x = Image { pixels: x, h: sizes.h, w: sizes.w, c: sizes.i };
            let rows = pixels.start / sizes.ow..(pixels.end - 1) / sizes.ow + 1;
            let windows = Windows::new(x, reach, rows, (sizes.oh, sizes.ow));
            let (memory, layout) = windows.memory();
            let corners: Vec<usize> = pixels.clone().map(|p| layout.corner(p / sizes.ow, p % sizes.ow)).collect();
            let width = PANEL.min(sizes.o - panel * PANEL);
            let mut columns = Tensor::empty(&[pixels.len(), PANEL], DType::F32, Device::Cpu);
            let g = &g[image * sizes.oh * sizes.ow * sizes.o..];
            for (column, pixel) in columns.as_mut_slice().chunks_exact_mut(PANEL).zip(pixels) {
                column[..width].copy_from_slice(&g[pixel * sizes.o + panel * PANEL..][..width]);
                column[width..].fill(0.0);
            }
            dispatch(Product {
                sums,
                x: memory,
                g: columns.as_slice(),
                corners: &corners,
                taps: &taps.iter().map(|&t| layout.tap(t)).collect::<Vec<_>>(),
                run: span * sizes.i,
                width,
            });
        }
    });
    sums
}

/// dw (O, depth) = scale * the sum of the parts, added to what is there if `accumulate`.
pub fn sum_parts(dw: &mut [f32], accumulate: bool, sums: &Tensor, scale: Option<&[f32]>, depth: usize) {
    if depth == 0 {
        return;
    }
    let panels = sums.shape()[1];
    dw.par_chunks_mut(PANEL * depth).enumerate().for_each(|(panel, dw)| {
        let parts: Vec<&[f32]> =
            sums.as_slice().chunks_exact(depth * PANEL).skip(panel).step_by(panels).collect::<Vec<_>>();
        for from in (0..depth).step_by(16) {
            let elements = from..depth.min(from + 16);
            let mut block = [0.0f32; 16 * PANEL];
            let block = &mut block[..elements.len() * PANEL];
            for part in &parts {
                let part = &part[from * PANEL..][..block.len()];
                block.iter_mut().zip(part).for_each(|(sum, v)| *sum += v);
            }
            for (j, dw) in dw.chunks_exact_mut(depth).enumerate() {
                let factor = scale.map_or(1.0, |s| s[panel * PANEL + j]);
                for (dw, sums) in dw[elements.clone()].iter_mut().zip(block.chunks_exact(PANEL)) {
                    let value = factor * sums[j];
                    *dw = if accumulate { *dw + value } else { value };
                }
            }
        }
    });
}

/// sums[tap, run, :] += sum over pixels of x[corner + tap + run] g[pixel, :].
pub struct Product<'a> {
    /// (taps, run, 64).
    pub sums: &'a mut [f32],
    pub x: &'a [f32],
    /// (pixels, 64).
    pub g: &'a [f32],
    pub corners: &'a [usize],
    pub taps: &'a [usize],
    pub run: usize,
    /// Channels of the panel in use.
    pub width: usize,
}

impl WithSimd for Product<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        let most = if S::F32_LANES == 8 { 2 } else { 4 };
        for lane in (0..self.width).step_by(most * S::F32_LANES) {
            match (self.width - lane).div_ceil(S::F32_LANES).min(most) {
                1 => self.column::<S, 1>(simd, lane),
                2 => self.column::<S, 2>(simd, lane),
                3 => self.column::<S, 3>(simd, lane),
                _ => self.column::<S, 4>(simd, lane),
            }
        }
    }
}

impl Product<'_> {
    /// All filter elements, V vectors of channels from `lane` on.
    #[inline(always)]
    fn column<S: Simd, const V: usize>(&mut self, simd: S, lane: usize) {
        let (g, _) = S::as_simd_f32s(self.g);
        let g = &g[lane / S::F32_LANES..];
        for (tap, &offset) in self.taps.iter().enumerate() {
            let whole = self.run / GROUP * GROUP;
            for at in (0..whole).step_by(GROUP) {
                let sums = &mut self.sums[(tap * self.run + at) * PANEL + lane..];
                multiply::<S, V, GROUP>(simd, sums, self.x, self.corners, offset + at, g);
            }
            for at in whole..self.run {
                let sums = &mut self.sums[(tap * self.run + at) * PANEL + lane..];
                multiply::<S, V, 1>(simd, sums, self.x, self.corners, offset + at, g);
            }
        }
    }
}

/// P rows of sums (64 apart) += x at the corners plus `offset` times V vectors of g.
#[inline(always)]
fn multiply<S: Simd, const V: usize, const P: usize>(
    simd: S,
    sums: &mut [f32],
    x: &[f32],
    corners: &[usize],
    offset: usize,
    g: &[S::f32s],
) {
    let mut acc = [[simd.splat_f32s(0.0); V]; P];
    for (p, acc) in acc.iter_mut().enumerate() {
        *acc = load(simd, &sums[p * PANEL..]);
    }
    for (&corner, g) in corners.iter().zip(g.chunks(PANEL / S::F32_LANES)) {
        prefetch(x, corner + offset + AHEAD);
        let (x, g) = (&x[corner + offset..][..P], &g[..V]);
        for p in 0..P {
            let value = simd.splat_f32s(x[p]);
            for v in 0..V {
                acc[p][v] = simd.mul_add_e_f32s(value, g[v], acc[p][v]);
            }
        }
    }
    for (p, acc) in acc.into_iter().enumerate() {
        let (row, _) = S::as_mut_simd_f32s(&mut sums[p * PANEL..][..V * S::F32_LANES]);
        row.copy_from_slice(&acc);
    }
}
