//! Sine position encoding of two axes (Carion et al., 2020, arXiv 2005.12872, after Parmar et al., 2018), normalized to
//! the valid part of a feature map:
//!
//! ```text
//! p(r) = 2 pi (r + 1) / (h + 1e-6)          for row r of h; columns alike
//! f(p)[2i], f(p)[2i + 1] = sin(p / 10000^(2i / (C/2))), cos(the same)
//! encoding of cell (r, c) = [f(p(r)), f(p(c))]
//! ```
//!
//! Angles are rounded to f32 step by step as the published code does, whatever the model computes in: an angle of 6
//! rounds by 4e-7, which the losses of a double-precision model would otherwise see.

mod cuda;

pub use cuda::KERNELS;

use crate::{DType, Device, Tensor};

const TEMPERATURE: f64 = 10_000.0;
const EPS: f32 = 1e-6;

/// Encodings of the cells of feature maps of (h, w) `sizes`, row-major, one map after the other, and zeros behind them:
/// (cells, channels), f32. `cells` is the sum of h w at least, `channels` a multiple of 4.
#[track_caller]
pub fn position_sine(sizes: &[[usize; 2]], cells: usize, channels: usize, device: Device) -> Tensor {
    assert_eq!(channels % 4, 0, "position_sine: {channels} channels are not sines and cosines of two axes");
    let there: usize = sizes.iter().map(|[h, w]| h * w).sum();
    assert!(there <= cells, "position_sine: {there} cells, room for {cells}");
    if let Device::Cuda(cuda) = device {
        let mut y = Tensor::empty(&[cells, channels], DType::F32, device);
        cuda::forward(cuda, &mut y, sizes);
        return y;
    }
    let mut values = Vec::with_capacity(cells * channels);
    for &[h, w] in sizes {
        let (rows, columns) = (encode_axis(h, channels / 2), encode_axis(w, channels / 2));
        for row in &rows {
            for column in &columns {
                values.extend_from_slice(row);
                values.extend_from_slice(column);
            }
        }
    }
    values.resize(cells * channels, 0.0);
    Tensor::from_slice(&values, &[cells, channels], device)
}

/// f(p(r)) for every r of an axis, `channels` values each.
fn encode_axis(size: usize, channels: usize) -> Vec<Vec<f32>> {
    let encode = |r: usize| {
        let p = (r + 1) as f32 / (size as f32 + EPS) * std::f32::consts::TAU;
        let divisor = |i: usize| TEMPERATURE.powf(f64::from((i / 2 * 2) as f32 / channels as f32)) as f32;
        let angle = |i: usize| f64::from(p / divisor(i));
        (0..channels).map(|i| if i % 2 == 0 { angle(i).sin() } else { angle(i).cos() } as f32).collect()
    };
    (0..size).map(encode).collect()
}
