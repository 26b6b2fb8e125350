//! The weight's gradient: for each panel of 64 output channels, the windows' transpose times the output's gradient.

use rayon::prelude::*;

use super::sizes::Sizes;
use super::window::{Image, Reach, Windows};
use crate::outer_products::{BLOCK, OuterProducts};
use crate::panels::PANEL;
use crate::simd::dispatch;
use crate::{DType, Device, Tensor};

/// Tasks to make, for many cores: below as many panels, pixels are split too, and the parts' sums added in order.
const TASKS: usize = 16;

/// Sums of x times g, (parts, panels, depth, 64), for `sum_parts`.
pub fn partial_sums(g: &[f32], x: &[f32], taps: &[(isize, isize)], span: usize, sizes: &Sizes) -> Tensor {
    let panels = sizes.o.div_ceil(PANEL);
    let blocks_an_image = (sizes.oh * sizes.ow).div_ceil(BLOCK);
    let blocks = sizes.batch * blocks_an_image;
    let parts = TASKS.div_ceil(panels.max(1)).clamp(1, blocks.max(1));
    let depth = sizes.depth();
    let shape = [parts, panels, depth, PANEL];
    if depth == 0 || blocks == 0 {
        return Tensor::zeros(&shape, DType::F32, Device::Cpu);
    }
    let mut sums = Tensor::empty(&shape, DType::F32, Device::Cpu);
    let reach = Reach::new(sizes.stride, taps.iter().copied(), span);
    sums.as_mut_slice::<f32>().par_chunks_mut(depth * PANEL).with_max_len(1).enumerate().for_each(|(task, sums)| {
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
            dispatch(OuterProducts {
                sums,
                stride: PANEL,
                accumulate: block > blocks * part / parts,
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
