//! Pixels, rectangles and frames on an RGB picture; what lies outside is cut off.

use image::{Rgb, RgbImage};

/// A rectangle in pixels; its edges may lie outside of the picture.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Rect {
    pub left: f32,
    pub top: f32,
    pub right: f32,
    pub bottom: f32,
}

impl Rect {
    pub fn overlaps(&self, other: &Self) -> bool {
        self.left < other.right && other.left < self.right && self.top < other.bottom && other.top < self.bottom
    }

    /// The rectangle grown by `by` pixels on all sides.
    pub fn grown(&self, by: f32) -> Self {
        Self { left: self.left - by, top: self.top - by, right: self.right + by, bottom: self.bottom + by }
    }
}

/// How a frame is drawn.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Stroke {
    Solid,
    Dashed,
}

/// Lays `color` over a pixel, as opaque as `coverage` (0 to 1).
pub(super) fn blend(image: &mut RgbImage, x: i64, y: i64, color: Rgb<u8>, coverage: f32) {
    let (Ok(x), Ok(y)) = (u32::try_from(x), u32::try_from(y)) else { return };
    if let Some(below) = image.get_pixel_mut_checked(x, y) {
        for (below, above) in below.0.iter_mut().zip(color.0) {
            let mixed = f32::from(*below) + (f32::from(above) - f32::from(*below)) * coverage.clamp(0.0, 1.0);
            *below = mixed.round() as u8;
        }
    }
}

/// Fills the pixels whose centres lie in `rect`.
pub(super) fn fill(image: &mut RgbImage, rect: &Rect, color: Rgb<u8>) {
    let pixels = |from: f32, to: f32, end: u32| from.round().max(0.0) as u32..(to.round().max(0.0) as u32).min(end);
    for y in pixels(rect.top, rect.bottom, image.height()) {
        for x in pixels(rect.left, rect.right, image.width()) {
            image.put_pixel(x, y, color);
        }
    }
}

/// Draws the edge of `rect`, `width` pixels wide, inside of it.
pub(super) fn frame(image: &mut RgbImage, rect: &Rect, width: f32, stroke: Stroke, color: Rgb<u8>) {
    let Rect { left, top, right, bottom } = *rect;
    for (from, to) in dashes(left, right, width, stroke) {
        fill(image, &Rect { left: from, right: to, top, bottom: top + width }, color);
        fill(image, &Rect { left: from, right: to, top: bottom - width, bottom }, color);
    }
    for (from, to) in dashes(top, bottom, width, stroke) {
        fill(image, &Rect { left, right: left + width, top: from, bottom: to }, color);
        fill(image, &Rect { left: right - width, right, top: from, bottom: to }, color);
    }
}

/// The painted parts of an edge: all of it, or dashes that begin and end at its corners.
fn dashes(from: f32, to: f32, width: f32, stroke: Stroke) -> Vec<(f32, f32)> {
    let length = 4.0 * width.max(1.0);
    let gaps = match stroke {
        Stroke::Solid => 0,
        Stroke::Dashed => ((to - from - length) / (1.8 * length)).round().max(0.0) as usize,
    };
    let period = if gaps == 0 { 0.0 } else { (to - from - length) / gaps as f32 };
    match gaps {
        0 => vec![(from, to)],
        _ => (0..=gaps).map(|i| (from + i as f32 * period, from + i as f32 * period + length)).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_cover_their_edges_and_dashes_leave_gaps() {
        let rect = Rect { left: 3.0, top: 5.0, right: 60.0, bottom: 45.0 };
        let blue = Rgb([0, 0, 255]);
        for (stroke, expected) in [(Stroke::Solid, 57..58), (Stroke::Dashed, 25..45)] {
            let mut image = RgbImage::new(64, 64);
            frame(&mut image, &rect, 2.0, stroke, blue);
            for (x, y) in [(3, 5), (59, 5), (3, 44), (59, 44), (4, 6)] {
                assert_eq!(*image.get_pixel(x, y), blue, "{stroke:?} {x} {y}");
            }
            let painted = (0..64).filter(|&x| *image.get_pixel(x, 5) == blue).count();
            assert!(expected.contains(&painted), "{stroke:?}: {painted}");
            for (x, y) in [(2, 5), (60, 5), (3, 4), (3, 45), (30, 20)] {
                assert_eq!(*image.get_pixel(x, y), Rgb([0; 3]), "{stroke:?} {x} {y}");
            }
        }
    }
}
