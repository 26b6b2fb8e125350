//! Sprites: decoding, and drawing at any side and angle.
//!
//! Pixels are premultiplied RGBA in `f32`, 0 to 1: an average over pixels is then right at transparent edges.

use anyhow::{Context, Result};
use image::ImageFormat;

use super::kinds::Kind;

/// Coverage from which a pixel counts as part of an object, for its box.
const VISIBLE: f32 = 0.25;

/// A picture cropped to what is drawn on it.
#[derive(Debug)]
pub(super) struct Sprite {
    width: usize,
    height: usize,
    /// Row-major, premultiplied.
    pixels: Vec<[f32; 4]>,
}

/// How a sprite is drawn.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pose {
    /// The longer side of the unrotated sprite, in pixels of the scene.
    pub side: f32,
    /// Rotation in radians.
    pub angle: f32,
    /// Factor on the colours.
    pub brightness: f32,
}

/// A sprite drawn in a pose: cropped so that its first and last rows and columns are visible.
#[derive(Debug)]
pub(super) struct Stamp {
    pub width: usize,
    pub height: usize,
    /// Row-major, premultiplied.
    pub pixels: Vec<[f32; 4]>,
}

impl Sprite {
    /// Decodes the picture of `kind`.
    ///
    /// # Errors
    /// If the picture does not decode, or shows nothing.
    pub fn decode(kind: &Kind) -> Result<Self> {
        let picture = image::load_from_memory_with_format(kind.png, ImageFormat::Png)
            .with_context(|| format!("emoji: the picture of {:?} does not decode", kind.name()))?
            .into_rgba8();
        let (width, height) = (picture.width() as usize, picture.height() as usize);
        let pixels = picture.pixels().map(|p| {
            let [r, g, b, a] = p.0.map(|v| f32::from(v) / 255.0);
            [r * a, g * a, b * a, a]
        });
        let (pixels, width, height) = crop(&pixels.collect::<Vec<_>>(), width, height, 1.0 / 255.0)
            .with_context(|| format!("emoji: the picture of {:?} is empty", kind.name()))?;
        Ok(Self { width, height, pixels })
    }

    /// Draws the sprite: each pixel is the mean of bilinear samples, enough of them that none of the sprite's is missed.
    ///
    /// Returns `None` if nothing of it would be visible, as at a side below a pixel.
    pub fn draw(&self, pose: Pose) -> Option<Stamp> {
        let scale = pose.side / self.width.max(self.height) as f32;
        let (sin, cos) = (libm::sinf(pose.angle), libm::cosf(pose.angle));
        let (w, h) = (self.width as f32 * scale, self.height as f32 * scale);
        let width = (w * cos.abs() + h * sin.abs()).ceil() as usize + 2;
        let height = (w * sin.abs() + h * cos.abs()).ceil() as usize + 2;

        let samples = (1.0 / scale).ceil().clamp(2.0, 8.0) as usize; // at least 2: smooth edges
        let weight = 1.0 / (samples * samples) as f32;
        let mut pixels = vec![[0.0; 4]; width * height];
        for (i, pixel) in pixels.iter_mut().enumerate() {
            for sample in 0..samples * samples {
                let offset = |k: usize| (k as f32 + 0.5) / samples as f32;
                let x = (i % width) as f32 + offset(sample % samples) - width as f32 / 2.0;
                let y = (i / width) as f32 + offset(sample / samples) - height as f32 / 2.0;
                let u = (x * cos + y * sin) / scale + self.width as f32 / 2.0;
                let v = (y * cos - x * sin) / scale + self.height as f32 / 2.0;
                let colour = self.bilinear(u, v);
                for c in 0..4 {
                    pixel[c] += colour[c] * weight;
                }
            }
            for c in 0..3 {
                pixel[c] = (pixel[c] * pose.brightness).min(pixel[3]);
            }
        }
        let (pixels, width, height) = crop(&pixels, width, height, VISIBLE)?;
        Some(Stamp { width, height, pixels })
    }

    /// The colour at (`u`, `v`), with pixel centres at halves; transparent outside.
    fn bilinear(&self, u: f32, v: f32) -> [f32; 4] {
        let (u, v) = (u - 0.5, v - 0.5);
        let (left, top) = (u.floor(), v.floor());
        let (fx, fy) = (u - left, v - top);
        let mut colour = [0.0; 4];
        for (dx, dy, weight) in
            [(0, 0, (1.0 - fx) * (1.0 - fy)), (1, 0, fx * (1.0 - fy)), (0, 1, (1.0 - fx) * fy), (1, 1, fx * fy)]
        {
            let (x, y) = (left as isize + dx, top as isize + dy);
            if (0..self.width as isize).contains(&x) && (0..self.height as isize).contains(&y) {
                let pixel = &self.pixels[y as usize * self.width + x as usize];
                for c in 0..4 {
                    colour[c] += pixel[c] * weight;
                }
            }
        }
        colour
    }
}

/// Crops to the tight box of the pixels with at least `coverage`: pixels, width and height, or `None` without any.
fn crop(pixels: &[[f32; 4]], width: usize, height: usize, coverage: f32) -> Option<(Vec<[f32; 4]>, usize, usize)> {
    let seen = |x: usize, y: usize| pixels[y * width + x][3] >= coverage;
    let row = |y: &usize| (0..width).any(|x| seen(x, *y));
    let column = |x: &usize| (0..height).any(|y| seen(*x, y));
    let (top, bottom) = ((0..height).find(row)?, (0..height).rfind(row)?);
    let (left, right) = ((0..width).find(column)?, (0..width).rfind(column)?);
    let cropped = (top..=bottom).flat_map(|y| &pixels[y * width + left..=y * width + right]).copied().collect();
    Some((cropped, right - left + 1, bottom - top + 1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::emoji::kinds::BASE;

    #[test]
    fn stamps_are_tight_and_keep_their_size() {
        for kind in BASE {
            let sprite = Sprite::decode(kind).unwrap();
            for (side, degrees) in [(5.0, 0.0), (13.0, 20.0), (40.0, -20.0), (100.0, 90.0)] {
                let pose = Pose { side, angle: f32::to_radians(degrees), brightness: 1.2 };
                let stamp = sprite.draw(pose).unwrap();
                let longer = stamp.width.max(stamp.height) as f32;
                assert!((0.75 * side - 2.0..=1.42 * side + 2.0).contains(&longer), "{kind:?}: {longer} for {side}");

                let seen = |x: usize, y: usize| stamp.pixels[y * stamp.width + x][3] >= VISIBLE;
                for y in [0, stamp.height - 1] {
                    assert!((0..stamp.width).any(|x| seen(x, y)));
                }
                for x in [0, stamp.width - 1] {
                    assert!((0..stamp.height).any(|y| seen(x, y)));
                }
                assert!(stamp.pixels.iter().all(|p| p[..3].iter().all(|&c| c <= p[3]) && p[3] <= 1.001));
            }
        }
    }

    #[test]
    fn a_quarter_turn_swaps_the_axes() {
        let sprite = Sprite { width: 2, height: 1, pixels: vec![[1.0, 0.0, 0.0, 1.0], [0.0, 1.0, 0.0, 1.0]] };
        let quarter = std::f32::consts::FRAC_PI_2;
        let stamp = sprite.draw(Pose { side: 20.0, angle: quarter, brightness: 1.0 }).unwrap();
        let at = |row: usize| stamp.pixels[row * stamp.width + stamp.width / 2];
        let (top, bottom) = (at(stamp.height / 4), at(3 * stamp.height / 4));
        assert!(stamp.height > stamp.width && top[0] > 0.9 && bottom[1] > 0.9, "{top:?} {bottom:?}");
        assert!(sprite.draw(Pose { side: 0.1, angle: 0.0, brightness: 1.0 }).is_none());
    }
}
