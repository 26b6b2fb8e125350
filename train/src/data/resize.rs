//! Bilinear resizing with antialiasing, equal to Pillow's to the bit: the published numbers were made with its pixels.
//!
//! Each axis is a pass of its own and rounds to 8 bits. An output pixel is the average of the inputs under a triangle of one
//! output pixel's half-width (at least one input's), with weights in 22-bit fixed point.

use super::target::Region;
use image::RgbImage;
use std::ops::Range;

const FRACTION_BITS: u32 = 22;

/// `image` at exactly `width` x `height` pixels, both at least 1.
#[track_caller]
pub fn resize(image: &RgbImage, width: u32, height: u32) -> RgbImage {
    if image.dimensions() == (width, height) {
        return image.clone();
    }
    resize_part(image, width, height, Region { top: 0, left: 0, height, width })
}

/// A part of `image` at `width` x `height` pixels, made without the rest: a long picture can be immense at the scales of the
/// published crop.
#[track_caller]
pub fn resize_part(image: &RgbImage, width: u32, height: u32, part: Region) -> RgbImage {
    assert!(width > 0 && height > 0, "resize: cannot make an image of {width} x {height}");
    let (from_width, from_height) = image.dimensions();
    let stride = from_width as usize * 3;
    let columns = taps(from_width, width, part.left..part.left + part.width);
    let mut rows = taps(from_height, height, part.top..part.top + part.height);
    let pixels = if columns_first(image.dimensions(), width, height) {
        resize_rows(&resize_columns(image, stride, &rows), stride, &columns)
    } else {
        let needed = inputs(&rows);
        rows.iter_mut().for_each(|tap| tap.first -= needed.start);
        let narrow = resize_rows(&image.as_raw()[needed.start * stride..needed.end * stride], stride, &columns);
        resize_columns(&narrow, columns.len() * 3, &rows)
    };
    RgbImage::from_raw(part.width, part.height, pixels).expect("both passes keep the layout")
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

/// The taps of a range of the `to` output pixels.
fn taps(from: u32, to: u32, part: Range<u32>) -> Vec<Taps> {
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
    part.map(one_output).collect()
}

/// The inputs that any of some taps, one at least, needs.
fn inputs(taps: &[Taps]) -> Range<usize> {
    let last = &taps[taps.len() - 1];
    taps[0].first..last.first + last.weights.len()
}

/// Half a unit, so that the shift in [`to_u8`] rounds.
const HALF: i32 = 1 << (FRACTION_BITS - 1);

fn to_u8(sum: i32) -> u8 {
    (sum >> FRACTION_BITS).clamp(0, 255) as u8
}

fn resize_rows(pixels: &[u8], stride: usize, taps: &[Taps]) -> Vec<u8> {
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

fn resize_columns(pixels: &[u8], stride: usize, taps: &[Taps]) -> Vec<u8> {
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
