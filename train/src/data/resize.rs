//! Bilinear resizing with antialiasing, equal to Pillow's to the bit: the published numbers were made with its pixels.
//!
//! Each axis is a pass of its own and rounds to 8 bits. An output pixel is the average of the inputs under a triangle of one
//! output pixel's half-width (at least one input's), with weights in 22-bit fixed point.

use image::RgbImage;

const FRACTION_BITS: u32 = 22;

/// `image` at exactly `width` x `height` pixels, both at least 1.
#[track_caller]
pub fn resize(image: &RgbImage, width: u32, height: u32) -> RgbImage {
    assert!(width > 0 && height > 0, "resize: cannot make an image of {width} x {height}");
    let (from_width, from_height) = image.dimensions();
    let rows = |pixels: Vec<u8>| {
        if width == from_width { pixels } else { resize_rows(&pixels, from_width, &taps(from_width, width)) }
    };
    let columns = |pixels: Vec<u8>, width: u32| {
        if height == from_height { pixels } else { resize_columns(&pixels, width, &taps(from_height, height)) }
    };
    let pixels = image.as_raw().clone();
    let pixels = if columns_first(image.dimensions(), width, height) {
        rows(columns(pixels, from_width))
    } else {
        columns(rows(pixels), width)
    };
    RgbImage::from_raw(width, height, pixels).expect("both passes keep the layout")
}

/// Pillow since version 13 starts with the columns where the height loses more than twice the pixels of the width. Without a
/// change of aspect ratio that is so for tall images only, which earlier versions resized with roundings of their own.
fn columns_first((from_width, from_height): (u32, u32), width: u32, height: u32) -> bool {
    height < from_height
        && i64::from(from_height) - i64::from(height) > 2 * (i64::from(from_width) - i64::from(width))
}

/// The inputs of one output pixel along an axis.
struct Taps {
    first: usize,
    weights: Vec<i32>,
}

fn taps(from: u32, to: u32) -> Vec<Taps> {
    let scale = f64::from(from) / f64::from(to);
    let support = scale.max(1.0);
    let one_output = |index: u32| {
        let center = (f64::from(index) + 0.5) * scale;
        let first = (center - support + 0.5).max(0.0) as usize;
        let end = ((center + support + 0.5) as usize).min(from as usize);
        let triangle = |x: usize| (1.0 - ((x as f64 - center + 0.5) * (1.0 / support)).abs()).max(0.0);
        let total: f64 = (first..end).map(triangle).sum();
        let fixed = |x: usize| (triangle(x) / total * f64::from(1 << FRACTION_BITS) + 0.5) as i32;
        Taps { first, weights: (first..end).map(fixed).collect() }
    };
    (0..to).map(one_output).collect()
}

/// Half a unit, so that the shift in [`to_u8`] rounds.
const HALF: i32 = 1 << (FRACTION_BITS - 1);

fn to_u8(sum: i32) -> u8 {
    (sum >> FRACTION_BITS).clamp(0, 255) as u8
}

fn resize_rows(pixels: &[u8], width: u32, taps: &[Taps]) -> Vec<u8> {
    let stride = width as usize * 3;
    let mut out = Vec::with_capacity(pixels.len() / stride * taps.len() * 3);
    for row in pixels.chunks_exact(stride) {
        for tap in taps {
            let mut sums = [HALF; 3];
            for (pixel, weight) in row[tap.first * 3..].chunks_exact(3).zip(&tap.weights) {
                for (sum, &value) in sums.iter_mut().zip(pixel) {
                    *sum += i32::from(value) * weight;
                }
            }
            out.extend(sums.map(to_u8));
        }
    }
    out
}

fn resize_columns(pixels: &[u8], width: u32, taps: &[Taps]) -> Vec<u8> {
    let stride = width as usize * 3;
    let mut out = Vec::with_capacity(stride * taps.len());
    for tap in taps {
        let mut sums = vec![HALF; stride];
        for (row, weight) in pixels[tap.first * stride..].chunks_exact(stride).zip(&tap.weights) {
            for (sum, &value) in sums.iter_mut().zip(row) {
                *sum += i32::from(value) * weight;
            }
        }
        out.extend(sums.into_iter().map(to_u8));
    }
    out
}
