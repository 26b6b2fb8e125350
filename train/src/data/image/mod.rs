//! Image files to 8-bit RGB with Pillow's pixels, and to the network's f32.
//!
//! The published program sees what `Image.open(path).convert("RGB")` gives: the first picture of an animation, grey and
//! palettes as colours, without alpha. Colours of 16 bits keep their high byte, grey of 16 bits is cut off at 255. A TIFF is
//! turned by its orientation, any other file is as the camera held it.

mod gif;
mod jpeg;
mod other;

use anyhow::{Context, Result, bail, ensure};
use image::metadata::Orientation;
use image::{DynamicImage, ImageFormat, RgbImage};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

/// Channel means of ImageNet, of values in [0, 1].
pub const MEAN: [f32; 3] = [0.485, 0.456, 0.406];
/// Channel standard deviations of ImageNet.
pub const STD: [f32; 3] = [0.229, 0.224, 0.225];

/// The largest picture that is read, as by Pillow: a few bytes can promise any size.
pub const MAX_PIXELS: u64 = 2 * 89_478_485;

const ENDS_EARLY: &str = "the file ends early: fetch it again";

/// Decodes an image file as the published program does, which ignores EXIF orientation.
///
/// A pixel takes 3 bytes; while it is decoded 4 with alpha, up to 9 in a progressive JPEG and 14 with 16 bits. Errors name the
/// file.
pub fn read(path: &Path) -> Result<RgbImage> {
    Ok(open(path)?.pixels)
}

/// Decodes an image file and turns it as its EXIF orientation says, which for a quarter turn takes a copy. Errors name the
/// file.
pub fn read_upright(path: &Path) -> Result<RgbImage> {
    Ok(open(path)?.upright())
}

fn open(path: &Path) -> Result<Picture> {
    let bytes = std::fs::read(path).with_context(|| format!("cannot read image {}", path.display()))?;
    decode(&bytes).with_context(|| format!("cannot decode image {}", path.display()))
}

/// What an image file holds.
pub struct Picture {
    /// As they are stored.
    pub pixels: RgbImage,
    /// What turns them upright.
    pub orientation: Orientation,
}

impl Picture {
    /// The pixels, turned.
    pub fn upright(self) -> RgbImage {
        let mut image = DynamicImage::ImageRgb8(self.pixels);
        image.apply_orientation(self.orientation);
        image.into_rgb8()
    }
}

/// Decodes the bytes of an image file of any supported format.
pub fn decode(bytes: &[u8]) -> Result<Picture> {
    ensure!(!bytes.is_empty(), "the file is empty");
    match image::guess_format(bytes) {
        Ok(ImageFormat::Jpeg) => jpeg::decode(bytes),
        Ok(ImageFormat::Gif) => caught(|| gif::decode(bytes)),
        Ok(format) if format.reading_enabled() => caught(|| other::decode(bytes, format)),
        _ => bail!("expected a JPEG, PNG, GIF, WebP, BMP, TIFF or PNM picture: convert it to one of these formats"),
    }
}

/// Makes an error of a decoder's panic: libjpeg reports by unwinding what it cannot decode, and others panic over some files
/// that they should refuse.
fn caught(decode: impl FnOnce() -> Result<Picture>) -> Result<Picture> {
    catch_unwind(AssertUnwindSafe(decode)).unwrap_or_else(|panic| {
        let message = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
        bail!("the file is broken: {}", message.unwrap_or("its decoder gives no reason"))
    })
}

/// Fails if a header promises nothing, or more than [`MAX_PIXELS`].
fn check_size(width: u32, height: u32) -> Result<()> {
    ensure!(width > 0 && height > 0, "the picture has {width} x {height} pixels: expected at least one");
    ensure!(
        u64::from(width) * u64::from(height) <= MAX_PIXELS,
        "{width} x {height} pixels are more than the {MAX_PIXELS} that are read: scale the picture down"
    );
    Ok(())
}

/// Makes RGB of four channels, in place: a second copy of a large picture is too much.
fn narrowed(mut pixels: Vec<u8>, rgb: impl Fn([u8; 4]) -> [u8; 3]) -> Vec<u8> {
    let count = pixels.len() / 4;
    for i in 0..count {
        let four = [0, 1, 2, 3].map(|channel| pixels[4 * i + channel]);
        pixels[3 * i..3 * i + 3].copy_from_slice(&rgb(four));
    }
    pixels.truncate(3 * count);
    pixels
}

/// `(x / 255 - mean) / std`, as (height, width, 3).
pub fn normalize(image: &RgbImage) -> Vec<f32> {
    let table: [[f32; 256]; 3] =
        std::array::from_fn(|c| std::array::from_fn(|value| (value as f32 / 255.0 - MEAN[c]) / STD[c]));
    let pixels =
        image.pixels().flat_map(|pixel| std::array::from_fn::<f32, 3, _>(|c| table[c][usize::from(pixel[c])]));
    pixels.collect()
}
