//! Image files to 8-bit RGB with Pillow's pixels, and to the network's f32.

use anyhow::{Context, Result, anyhow};
use image::{ImageReader, RgbImage};
use mozjpeg::{ColorSpace, Decompress};
use std::io::{self, BufRead, Cursor, Read};
use std::path::Path;

/// Channel means of ImageNet, of values in [0, 1].
pub const MEAN: [f32; 3] = [0.485, 0.456, 0.406];
/// Channel standard deviations of ImageNet.
pub const STD: [f32; 3] = [0.229, 0.224, 0.225];

/// Decodes an image file to RGB: grey is repeated, alpha dropped, 16 bits scaled to 8, EXIF orientation ignored.
///
/// Errors name the file.
pub fn read(path: &Path) -> Result<RgbImage> {
    let bytes = std::fs::read(path).with_context(|| format!("cannot read image {}", path.display()))?;
    decode(&bytes).with_context(|| format!("cannot decode image {}", path.display()))
}

/// Decodes the bytes of an image file of any supported format: see [`read`].
pub fn decode(bytes: &[u8]) -> Result<RgbImage> {
    if !bytes.starts_with(&[0xff, 0xd8]) {
        return Ok(ImageReader::new(Cursor::new(bytes)).with_guessed_format()?.decode()?.into_rgb8());
    }
    // libjpeg reports what it cannot decode by unwinding with a message.
    std::panic::catch_unwind(|| decode_jpeg(bytes)).unwrap_or_else(|message| match message.downcast::<String>() {
        Ok(message) => Err(anyhow!(message)),
        Err(panic) => std::panic::resume_unwind(panic),
    })
}

/// Bytes that must not end before the picture does: libjpeg would fill what is missing with grey.
struct Whole<'a>(&'a [u8]);

impl Read for Whole<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl BufRead for Whole<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.0.is_empty() { Err(io::Error::other("the file ends early")) } else { Ok(self.0) }
    }

    fn consume(&mut self, amount: usize) {
        self.0.consume(amount);
    }
}

fn decode_jpeg(bytes: &[u8]) -> Result<RgbImage> {
    let decoder = Decompress::new_reader(Whole(bytes))?;
    let (width, height) = (u32::try_from(decoder.width())?, u32::try_from(decoder.height())?);
    let four_channels = matches!(decoder.color_space(), ColorSpace::JCS_CMYK | ColorSpace::JCS_YCCK);
    let pixels = if four_channels {
        let cmyk = decoder.to_colorspace(ColorSpace::JCS_CMYK)?.read_scanlines::<[u8; 4]>()?;
        cmyk.into_iter().flat_map(rgb_of_inverted_cmyk).collect()
    } else {
        decoder.rgb()?.read_scanlines::<[u8; 3]>()?.into_flattened()
    };
    RgbImage::from_raw(width, height, pixels).context("libjpeg gave fewer rows than the header promises")
}

/// Adobe stores CMYK inverted, and Pillow takes every CMYK JPEG for Adobe's.
fn rgb_of_inverted_cmyk([c, m, y, k]: [u8; 4]) -> [u8; 3] {
    let scaled = |a: u8, b: u8| {
        let product = u32::from(a) * u32::from(b) + 128;
        ((product + (product >> 8)) >> 8) as u8
    };
    [c, m, y].map(|ink| k - scaled(255 - ink, k))
}

/// `(x / 255 - mean) / std`, as (height, width, 3).
pub fn normalize(image: &RgbImage) -> Vec<f32> {
    let table: [[f32; 256]; 3] =
        std::array::from_fn(|c| std::array::from_fn(|value| (value as f32 / 255.0 - MEAN[c]) / STD[c]));
    let pixels =
        image.pixels().flat_map(|pixel| std::array::from_fn::<f32, 3, _>(|c| table[c][usize::from(pixel[c])]));
    pixels.collect()
}
