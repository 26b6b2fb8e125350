//! The fast version: forward and data gradient are products of windows with packed filters, the weight's gradient one
//! of transposed windows with the output's gradient. Nothing is unfolded into a matrix. Where it pays, 3 x 3 filters go
//! by Winograd's minimal filtering instead.

use std::sync::Arc;

use rayon::prelude::*;

use super::correlate::{Correlation, Extent, Phase};
use super::pack::{forward_panels, transposed_panels};
use super::sizes::Sizes;
use super::winograd::{self, Tiling};
use super::{weight_gradient, winograd_gradient};
use crate::activation::Activation;
use crate::gemm_packed::{Epilogue, Start, padded_bias};
use crate::op::GradSlot;
use crate::panels::Factor;
use crate::reduce::column_sums;
use crate::simd::{BLOCK, vectorized};
use crate::{DType, Device, Tensor};

/// The filter's taps as runs of contiguous pixels, and how many pixels a run spans: without dilation a row of the
/// filter is one.
pub fn taps(s: &Sizes) -> (Vec<(isize, isize)>, usize) {
    let at = |k: usize| (k * s.dilation) as isize - s.padding as isize;
    match s.dilation {
        1 => ((0..s.kh).map(|kh| (at(kh), at(0))).collect(), s.kw),
        _ => ((0..s.kh).flat_map(|kh| (0..s.kw).map(move |kw| (at(kh), at(kw)))).collect(), 1),
    }
}

/// Filters, before they are packed.
pub struct Filters<'a> {
    /// (O, KH, KW, I)
    pub w: &'a Tensor,
    /// (O)
    pub scale: Option<&'a Tensor>,
    /// Whether the packed ones are to be kept: they are asked for again while the weight stays as it is.
    pub stay: bool,
}

/// Filters in the order in which products read them.
struct Packed {
    scale: Option<Vec<f32>>,
    filters: Order,
}

enum Order {
    /// As [`winograd::transformed`], for a stride.
    Winograd(Tensor, usize),
    /// Of [`forward_panels`].
    Taps(Factor),
}

impl Filters<'_> {
    fn packed(&self, by_winograd: bool, s: &Sizes) -> Arc<Packed> {
        let scale: Option<&[f32]> = self.scale.map(|scale| scale.as_slice());
        let make = || {
            let panels = forward_panels(self.w.as_slice(), scale, s);
            let filters = match (by_winograd, s.kh * s.kw) {
                (true, _) => Order::Winograd(winograd::transformed(&panels, s.stride), s.stride),
                (false, 1) if self.stay => Order::Taps(Factor::lasting(panels, s.o)),
                (false, _) => Order::Taps(Factor::passing(panels)),
            };
            Packed { scale: scale.map(Vec::from), filters }
        };
        let fits = |known: &Packed| {
            let stride = match known.filters {
                Order::Winograd(_, stride) => Some(stride),
                Order::Taps(_) => None,
            };
            stride == by_winograd.then_some(s.stride) && known.scale.as_deref() == scale
        };
        match self.stay {
            false => Arc::new(make()),
            true => self.w.derived(fits, make),
        }
    }
}

/// y (B, OH, OW, O), x (B, H, W, I), bias (O), residual as y.
pub fn forward(
    y: &mut [f32],
    x: &[f32],
    filters: &Filters,
    bias: Option<&[f32]>,
    residual: Option<&[f32]>,
    activation: Activation,
    sizes: &Sizes,
) {
    let s = sizes.flattened();
    let by_winograd = winograd::pays(&s) || filters.stay && winograd::pays_strided(&s);
    let packed = filters.packed(by_winograd, &s);
    let bias = bias.map(padded_bias);
    let epilogue = Epilogue {
        start: bias.as_deref().map_or(Start::Zero, Start::Bias),
        residual,
        relu: activation == Activation::Relu,
    };
    let (out, input) = (Extent { h: s.oh, w: s.ow, c: s.o }, Extent { h: s.h, w: s.w, c: s.i });
    match &packed.filters {
        Order::Winograd(filters, stride) => {
            let tiling = Tiling::new(out, *stride, s.padding as isize);
            winograd::correlate(y, x, out, input, tiling, filters, epilogue);
        }
        Order::Taps(filters) => {
            let (taps, span) = taps(&s);
            let phases = vec![Phase { taps, filters: filters.clone() }];
            Correlation { phases, in_step: s.stride, out_step: 1, span }.run(y, x, out, input, epilogue);
        }
    }
}

/// dx, dw, dbias and the residual's gradient from dy; `y` is there behind a ReLU.
#[expect(clippy::too_many_arguments, reason = "outputs, inputs, scalars, sizes, as in every kernel")]
pub fn backward(
    dx: &mut GradSlot,
    dw: &mut GradSlot,
    dbias: Option<&mut GradSlot>,
    dresidual: Option<&mut GradSlot>,
    dy: &[f32],
    y: Option<&[f32]>,
    x: &[f32],
    w: &[f32],
    scale: Option<&[f32]>,
    sizes: &Sizes,
) {
    let s = sizes.flattened();
    let mut own = None;
    let g: &[f32] = match (y, dresidual) {
        // Written anew, the residual's gradient is g itself.
        (Some(y), Some(GradSlot::Write(out))) => relu_gradient(out.as_mut_slice(), dy, y),
        (y, dresidual) => {
            let g = match y {
                Some(y) => {
                    let own = own.insert(Tensor::empty(&[dy.len()], DType::F32, Device::Cpu));
                    relu_gradient(own.as_mut_slice(), dy, y)
                }
                None => dy,
            };
            if let Some((out, accumulate)) = dresidual.and_then(GradSlot::target) {
                pass_on(out, accumulate, g);
            }
            g
        }
    };
    if let Some((dx, accumulate)) = dx.target() {
        data_gradient(dx, accumulate, g, w, scale, &s);
    }
    if let Some((dw, accumulate)) = dw.target() {
        let sums = if winograd::pays(&s) {
            winograd_gradient::weight_gradient(g, x, &s)
        } else {
            let (taps, span) = taps(&s);
            weight_gradient::partial_sums(g, x, &taps, span, &s)
        };
        weight_gradient::sum_parts(dw, accumulate, &sums, scale, s.depth());
    }
    if let Some(dbias) = dbias.filter(|slot| slot.is_needed()) {
        let sums = column_sums(g, s.o);
        dbias.store(|j| sums[j]);
    }
}

/// g = dy where y > 0.
fn relu_gradient<'a>(g: &'a mut [f32], dy: &[f32], y: &[f32]) -> &'a [f32] {
    g.par_chunks_mut(BLOCK).zip(dy.par_chunks(BLOCK)).zip(y.par_chunks(BLOCK)).for_each(|((g, dy), y)| {
        vectorized(|| {
            for ((g, dy), y) in g.iter_mut().zip(dy).zip(y) {
                *g = if *y > 0.0 { *dy } else { 0.0 };
            }
        });
    });
    g
}

/// Copies g, or adds it.
fn pass_on(out: &mut [f32], accumulate: bool, g: &[f32]) {
    out.par_chunks_mut(BLOCK).zip(g.par_chunks(BLOCK)).for_each(|(out, g)| match accumulate {
        true => vectorized(|| out.iter_mut().zip(g).for_each(|(out, g)| *out += g)),
        false => out.copy_from_slice(g),
    });
}

/// Pixels of dx at the same remainders by the stride see the same taps of the filter: a convolution of stride 1 each.
fn data_gradient(dx: &mut [f32], accumulate: bool, g: &[f32], w: &[f32], scale: Option<&[f32]>, s: &Sizes) {
    let start = if accumulate { Start::Accumulate } else { Start::Zero };
    let epilogue = Epilogue { start, residual: None, relu: false };
    let (out, input) = (Extent { h: s.h, w: s.w, c: s.i }, Extent { h: s.oh, w: s.ow, c: s.o });
    if winograd::pays(s) {
        // The transposed convolution is one with the filter turned around.
        let turned: Vec<(usize, usize)> = (0..9).rev().map(|tap| (tap / 3, tap % 3)).collect();
        let filters = winograd::transformed(&transposed_panels(w, scale, &turned, s), 1);
        let tiling = Tiling::new(out, 1, 2 - s.padding as isize);
        return winograd::correlate(dx, g, out, input, tiling, &filters, epilogue);
    }
    // Row t a + u of x lies under tap kh of output row a + (u + p - kh d) / t, where t divides that.
    let step = s.stride as isize;
    let seen = |u: usize, k: usize| -> Vec<(usize, isize)> {
        let from = |k: usize| (u + s.padding) as isize - (k * s.dilation) as isize;
        (0..k).filter(|&k| from(k) % step == 0).map(|k| (k, from(k) / step)).collect()
    };
    let phase = |u: usize, v: usize| {
        let (rows, columns) = (seen(u, s.kh), seen(v, s.kw));
        let pairs = || rows.iter().flat_map(|&r| columns.iter().map(move |&c| (r, c)));
        let filter: Vec<(usize, usize)> = pairs().map(|((kh, _), (kw, _))| (kh, kw)).collect();
        let taps = pairs().map(|((_, row), (_, column))| (row, column)).collect();
        Phase { taps, filters: Factor::passing(transposed_panels(w, scale, &filter, s)) }
    };
    let phases = (0..s.stride).flat_map(|u| (0..s.stride).map(move |v| (u, v))).map(|(u, v)| phase(u, v)).collect();
    let correlation = Correlation { phases, in_step: 1, out_step: s.stride, span: 1 };
    correlation.run(dx, g, out, input, epilogue);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::case::{Input, Values};
    use crate::conv2d::{Conv2d, ConvGeometry};
    use crate::op::{Cx, Op};

    /// Packed filters stay with the weight; another scale or stride, or a size that goes another way, gets its own.
    #[test]
    fn packed_filters_are_those_of_scale_and_size() {
        let op = |stride: usize| Conv2d {
            geometry: ConvGeometry { stride, padding: 1, dilation: 1 },
            scale: true,
            bias: false,
            residual: false,
            activation: Activation::None,
        };
        let normal =
            |stream: u64, shape: &[usize]| Input::new("", shape, Values::Normal(1.0)).tensor(DType::F32, stream);
        let w = normal(1, &[32, 3, 3, 32]);
        for dtype in [DType::F32, DType::BF16] {
            for (factor, side, stride) in
                [(1.0f32, 4, 1), (2.0, 4, 1), (2.0, 48, 1), (3.0, 48, 1), (3.0, 48, 2), (3.0, 48, 1), (3.0, 4, 1)]
            {
                let x = normal(2, &[1, side, side, 32]).to_dtype(dtype);
                let scale = Tensor::from_slice(&[factor; 32], &[32], Device::Cpu);
                let forward = |w: &Tensor| {
                    let cx = &mut Cx::new(Device::Cpu, false, false, 0, 0);
                    op(stride).forward(cx, &[&x, w, &scale]).tensors[0].to_f64_vec()
                };
                assert_eq!(forward(&w), forward(&w.copy()), "{dtype:?}, {factor}, {side} x {side} by {stride}");
            }
        }
    }

    #[test]
    fn nan_passes_relu() {
        let geometry = ConvGeometry { stride: 1, padding: 1, dilation: 1 };
        for (side, by_winograd) in [(4, false), (24, true)] {
            let sizes = Sizes::new(&[1, side, side, 32], &[32, 3, 3, 32], geometry);
            assert_eq!(winograd::pays(&sizes), by_winograd);
            let mut x = vec![-1.0; side * side * 32];
            x[5] = f32::NAN;
            let mut y = vec![0.0; side * side * 32];
            let w = Tensor::from_slice(&[1.0f32; 32 * 9 * 32], &[32, 3, 3, 32], Device::Cpu);
            let filters = Filters { w: &w, scale: None, stay: false };
            forward(&mut y, &x, &filters, None, None, Activation::Relu, &sizes);
            assert!(y[..32].iter().all(|v| v.is_nan()), "{side} x {side}: {:?}", &y[..32]);
            assert!(y[(side * side - 1) * 32..].iter().all(|&v| v == 0.0));
        }
    }
}
