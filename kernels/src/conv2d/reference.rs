//! The definition: every output pixel, every tap of the filter that lies inside the image.

use super::sizes::Sizes;
use crate::Real;
use crate::activation::Activation;
use crate::op::GradSlot;

/// Calls `f(output pixel, tap, input pixel)` for every pair of pixels that a tap connects.
fn for_each_tap(sizes: &Sizes, mut f: impl FnMut(usize, usize, usize)) {
    let s = sizes;
    for out in 0..s.output_pixels() {
        let (n, r, c) = (out / (s.oh * s.ow), out / s.ow % s.oh, out % s.ow);
        for tap in 0..s.kh * s.kw {
            let row = (r * s.stride + tap / s.kw * s.dilation).checked_sub(s.padding).filter(|&v| v < s.h);
            let column = (c * s.stride + tap % s.kw * s.dilation).checked_sub(s.padding).filter(|&v| v < s.w);
            if let (Some(row), Some(column)) = (row, column) {
                f(out, tap, (n * s.h + row) * s.w + column);
            }
        }
    }
}

/// y (B, OH, OW, O), x (B, H, W, I), w (O, KH, KW, I), scale (O), bias (O), residual as y.
#[expect(clippy::too_many_arguments, reason = "outputs, inputs, scalars, sizes, as in every kernel")]
pub fn forward<T: Real>(
    y: &mut [T],
    x: &[T],
    w: &[T],
    scale: Option<&[T]>,
    bias: Option<&[T]>,
    residual: Option<&[T]>,
    activation: Activation,
    sizes: &Sizes,
) {
    let (i, o, taps) = (sizes.i, sizes.o, sizes.kh * sizes.kw);
    y.fill(T::zero());
    for_each_tap(sizes, |out, tap, pixel| {
        let x = &x[pixel * i..][..i];
        for j in 0..o {
            let w = &w[(j * taps + tap) * i..][..i];
            y[out * o + j] += x.iter().zip(w).map(|(&x, &w)| x * w).sum::<T>();
        }
    });
    for (at, y) in y.iter_mut().enumerate() {
        let scaled = scale.map_or(*y, |s| *y * s[at % o]);
        let sum = scaled + bias.map_or(T::zero(), |b| b[at % o]) + residual.map_or(T::zero(), |r| r[at]);
        *y = activation.forward(sum);
    }
}

/// dx, dw, dbias and the residual's gradient from g, the gradient of the pre-activation.
#[expect(clippy::too_many_arguments, reason = "outputs, inputs, scalars, sizes, as in every kernel")]
pub fn backward<T: Real>(
    dx: &mut GradSlot,
    dw: &mut GradSlot,
    dbias: Option<&mut GradSlot>,
    dresidual: Option<&mut GradSlot>,
    g: &[T],
    x: &[T],
    w: &[T],
    scale: Option<&[T]>,
    sizes: &Sizes,
) {
    let (i, o, taps) = (sizes.i, sizes.o, sizes.kh * sizes.kw);
    let scaled = |out: usize, j: usize| g[out * o + j] * scale.map_or(T::one(), |s| s[j]);
    let (mut x_sums, mut w_sums) = (vec![T::zero(); x.len()], vec![T::zero(); w.len()]);
    for_each_tap(sizes, |out, tap, pixel| {
        for j in 0..o {
            for k in 0..i {
                let (at_x, at_w) = (pixel * i + k, (j * taps + tap) * i + k);
                x_sums[at_x] += scaled(out, j) * w[at_w];
                w_sums[at_w] += scaled(out, j) * x[at_x];
            }
        }
    });
    dx.store::<T>(|at| x_sums[at]);
    dw.store::<T>(|at| w_sums[at]);
    if let Some(dbias) = dbias {
        dbias.store::<T>(|j| (0..sizes.output_pixels()).map(|out| g[out * o + j]).sum());
    }
    if let Some(dresidual) = dresidual {
        dresidual.store::<T>(|at| g[at]);
    }
}
