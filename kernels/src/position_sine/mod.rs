//! Sine position encoding of two axes (Carion et al., 2020, arXiv 2005.12872, after Parmar et al., 2018), normalized to
//! the valid part of a feature map:
//!
//! ```text
//! p(r) = 2 pi (r + 1) / (h + 1e-6)          for row r of h; columns alike
//! f(p)[2i], f(p)[2i + 1] = sin(p / 10000^(2i / (C/2))), cos(the same)
//! encoding of cell (r, c) = [f(p(r)), f(p(c))]
//! ```

use crate::{DType, Device, Real, Tensor, dispatch_real};

const TEMPERATURE: f64 = 10_000.0;
const EPS: f64 = 1e-6;

/// Encodings of the cells of feature maps of (h, w) `sizes`, row-major, one map after the other: (sum of h w, channels).
/// `channels` is a multiple of 4.
#[track_caller]
pub fn position_sine(sizes: &[[usize; 2]], channels: usize, dtype: DType, device: Device) -> Tensor {
    assert_eq!(channels % 4, 0, "position_sine: {channels} channels are not sines and cosines of two axes");
    dispatch_real!("position_sine", dtype, T => {
        let cells: usize = sizes.iter().map(|[h, w]| h * w).sum();
        let mut values = Vec::<T>::with_capacity(cells * channels);
        for &[h, w] in sizes {
            let (rows, columns) = (encode_axis::<T>(h, channels / 2), encode_axis::<T>(w, channels / 2));
            for row in &rows {
                for column in &columns {
                    values.extend_from_slice(row);
                    values.extend_from_slice(column);
                }
            }
        }
        Tensor::from_slice(&values, &[cells, channels], device)
    })
}

/// f(p(r)) for every r of an axis, `channels` values each.
fn encode_axis<T: Real>(size: usize, channels: usize) -> Vec<Vec<T>> {
    let encode = |r: usize| {
        let p = std::f64::consts::TAU * (r + 1) as f64 / (size as f64 + EPS);
        let angle = |i: usize| p / TEMPERATURE.powf((i / 2 * 2) as f64 / channels as f64);
        (0..channels).map(|i| T::from_f64(if i % 2 == 0 { angle(i).sin() } else { angle(i).cos() })).collect()
    };
    (0..size).map(encode).collect()
}
