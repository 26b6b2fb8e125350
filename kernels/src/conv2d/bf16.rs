//! bf16 where the CPU has products of it: forward reads and writes bf16 and sums in f32. 3 x 3 filters for which Winograd's
//! minimal filtering pays go that way, with products in f32: it takes less time than four times the products of bf16. All
//! others are products of windows with packed filters.

use std::sync::Arc;

use half::bf16;
use rayon::prelude::*;

use super::Inputs;
use super::correlate::Extent;
use super::cpu::taps;
use super::pack::forward_panels;
use super::sizes::Sizes;
use super::window::{Image, Reach, Windows};
use super::winograd::{self, Tiling};
use crate::activation::Activation;
use crate::dtype::Storage;
use crate::gemm_bf16::{Epilogue, Panels, Rows, product};
use crate::gemm_packed::{self, Start, padded_bias};
use crate::op::Cx;
use crate::panels::task_rows;
use crate::{DType, Device, Tensor};

/// scale w, rounded once, in the order in which products read it.
struct Filters {
    scale: Option<Vec<f32>>,
    packed: Packed,
}

enum Packed {
    /// As [`winograd::transformed`].
    Winograd(Tensor),
    Panels(Panels),
}

/// y (B, OH, OW, O) from x and residual in bf16 and the others in f32, behind `activation`.
pub fn forward(cx: &Cx, inputs: &Inputs, activation: Activation, sizes: &Sizes) -> Tensor {
    let mut y = Tensor::empty(&[sizes.batch, sizes.oh, sizes.ow, sizes.o], DType::BF16, Device::Cpu);
    let s = sizes.flattened();
    let filters = filters(cx, inputs, &s);
    let bias = inputs.bias.map(|t| t.as_slice::<f32>());
    let residual = inputs.residual.map(|t| t.as_slice::<bf16>());
    let (out, input) = (Extent { h: s.oh, w: s.ow, c: s.o }, Extent { h: s.h, w: s.w, c: s.i });
    match &filters.packed {
        Packed::Winograd(filters) => {
            let bias = bias.map(padded_bias);
            let start = bias.as_deref().map_or(Start::Zero, Start::Bias);
            let epilogue = gemm_packed::Epilogue { start, residual, relu: activation == Activation::Relu };
            let x = inputs.x.as_slice::<bf16>();
            let tiling = Tiling::new(out, 1, s.padding as isize);
            winograd::correlate(y.as_mut_slice(), x, out, input, tiling, filters, epilogue);
        }
        Packed::Panels(panels) => {
            let epilogue = Epilogue { bias, residual, activation };
            let x = with_even_channels(inputs.x, s.i);
            windows_times_panels(y.as_mut_slice(), x.as_slice(), out, panels, epilogue, &s);
        }
    }
    y
}

/// Kept with w where nobody trains it.
fn filters(cx: &Cx, inputs: &Inputs, s: &Sizes) -> Arc<Filters> {
    let w = inputs.w.as_slice::<f32>();
    let scale = inputs.scale.map(|t| t.as_slice::<f32>());
    let by_winograd = winograd::pays(s);
    let make = || Filters { scale: scale.map(<[f32]>::to_vec), packed: packed(w, scale, by_winograd, s) };
    if cx.saving {
        return Arc::new(make());
    }
    let fits = |known: &Filters| {
        matches!(known.packed, Packed::Winograd(_)) == by_winograd && known.scale.as_deref() == scale
    };
    inputs.w.derived(fits, make)
}

fn packed(w: &[f32], scale: Option<&[f32]>, by_winograd: bool, s: &Sizes) -> Packed {
    let depth = s.depth();
    let factor = |o: usize| scale.map_or(1.0, |scale| scale[o]);
    if by_winograd {
        let mut folded = Tensor::empty(&[s.o, depth], DType::F32, Device::Cpu);
        folded.as_mut_slice::<f32>().par_chunks_mut(depth).enumerate().for_each(|(o, folded)| {
            let filter = folded.iter_mut().zip(&w[o * depth..]);
            filter.for_each(|(folded, w)| *folded = bf16::narrow(factor(o) * w).widen());
        });
        return Packed::Winograd(winograd::transformed(&forward_panels(folded.as_slice(), None, s), 1));
    }
    let (taps, channels) = (s.kh * s.kw, s.i.next_multiple_of(2));
    let panels = Panels::new(s.o, taps * channels, |o, filter| {
        let filter = filter.chunks_exact_mut(channels).zip(w[o * depth..][..depth].chunks_exact(s.i));
        for (filter, w) in filter {
            filter[s.i..].fill(bf16::ZERO);
            filter.iter_mut().zip(w).for_each(|(filter, w)| *filter = bf16::narrow(factor(o) * w));
        }
    });
    Packed::Panels(panels)
}

/// x (pixels, c), behind the channels a zero if their number is odd.
fn with_even_channels(x: &Tensor, c: usize) -> Tensor {
    if c.is_multiple_of(2) {
        return x.clone();
    }
    let mut even = Tensor::empty(&[x.len() / c, c + 1], DType::BF16, Device::Cpu);
    let pixels = even.as_mut_slice::<bf16>().par_chunks_mut(c + 1).zip(x.as_slice::<bf16>().par_chunks(c));
    pixels.for_each(|(even, x)| {
        even[..c].copy_from_slice(x);
        even[c] = bf16::ZERO;
    });
    even
}

/// Tasks are blocks of an image's pixels.
fn windows_times_panels(y: &mut [bf16], x: &[bf16], out: Extent, panels: &Panels, epilogue: Epilogue, s: &Sizes) {
    let c = s.i.next_multiple_of(2);
    let (taps, span) = taps(s);
    let reach = Reach::new(s.stride, taps.iter().copied(), span);
    let image_of = |n: usize| Image { pixels: &x[n * s.h * s.w * c..][..s.h * s.w * c], h: s.h, w: s.w, c };
    let (image, block) = (out.h * out.w * out.c, task_rows(s.output_pixels(), c * size_of::<bf16>()) * out.c);
    let blocks = y
        .par_chunks_mut(image)
        .enumerate()
        .flat_map(|(n, y)| y.par_chunks_mut(block).with_max_len(1).enumerate().map(move |(b, y)| (n, b * block, y)));
    blocks.for_each(|(n, start, y)| {
        let pixels = start / out.c..(start + y.len()) / out.c;
        let rows = pixels.start / out.w..(pixels.end - 1) / out.w + 1;
        let windows = Windows::new(image_of(n), reach, rows, (out.h, out.w));
        let (memory, layout) = windows.memory();
        let corners: Vec<usize> = pixels.map(|pixel| layout.corner(pixel / out.w, pixel % out.w)).collect();
        let taps: Vec<usize> = taps.iter().map(|&tap| layout.tap(tap)).collect();
        let residual = epilogue.residual.map(|r| &r[n * image + start..][..y.len()]);
        let windows = Rows { x: memory, corners: &corners, taps: &taps, run: span * c };
        product(y, &windows, panels, Epilogue { residual, ..epilogue });
    });
}
