//! PNG, WebP, BMP, TIFF and PNM.

use super::{ENDS_EARLY, MAX_PIXELS, Picture, check_size, narrowed};
use anyhow::{Result, anyhow, ensure};
use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageError, ImageFormat, ImageReader, Limits, Luma, Rgb, RgbImage};
use std::io::{Cursor, ErrorKind};

/// The most memory that decoded pixels may take, in bytes: the largest picture with alpha, half of it with 16 bits.
const MAX_BYTES: u64 = 4 * MAX_PIXELS;

pub fn decode(bytes: &[u8], format: ImageFormat) -> Result<Picture> {
    if format == ImageFormat::WebP {
        // Its decoder calls what stops corrupt.
        let promised = bytes.get(4..8).map(|size| u32::from_le_bytes(size.try_into().expect("four bytes")));
        ensure!(promised.is_some_and(|size| u64::from(size) + 8 <= bytes.len() as u64), ENDS_EARLY);
    }
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    let mut limits = Limits::default();
    limits.max_alloc = Some(MAX_BYTES);
    reader.limits(limits);
    let mut decoder = reader.into_decoder().map_err(explained)?;
    let (width, height) = decoder.dimensions();
    check_size(width, height)?;
    ensure!(
        decoder.total_bytes() <= MAX_BYTES,
        "{width} x {height} pixels of {} bytes are more than the {MAX_BYTES} bytes that are read: reduce it to 8 bits",
        decoder.color_type().bytes_per_pixel()
    );
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    let pixels = rgb(DynamicImage::from_decoder(decoder).map_err(explained)?);
    let picture = Picture { pixels, orientation };
    Ok(match format {
        ImageFormat::Tiff => Picture { pixels: picture.upright(), orientation: Orientation::NoTransforms },
        _ => picture,
    })
}

fn rgb(image: DynamicImage) -> RgbImage {
    let (width, height) = (image.width(), image.height());
    match image {
        DynamicImage::ImageRgba8(image) => {
            let pixels = narrowed(image.into_raw(), |[r, g, b, _]| [r, g, b]);
            RgbImage::from_raw(width, height, pixels).expect("three bytes a pixel")
        }
        DynamicImage::ImageLuma16(image) => RgbImage::from_fn(width, height, |x, y| {
            let Luma([grey]) = image.get_pixel(x, y);
            Rgb([(*grey).min(255) as u8; 3])
        }),
        DynamicImage::ImageLumaA16(_) | DynamicImage::ImageRgb16(_) | DynamicImage::ImageRgba16(_) => {
            let image = image.into_rgb16();
            RgbImage::from_fn(width, height, |x, y| Rgb(image.get_pixel(x, y).0.map(|value| (value >> 8) as u8)))
        }
        other => other.into_rgb8(),
    }
}

fn explained(error: ImageError) -> anyhow::Error {
    match error {
        ImageError::IoError(error) if error.kind() == ErrorKind::UnexpectedEof => anyhow!(ENDS_EARLY),
        ImageError::Unsupported(kind) => anyhow!("{kind}: convert the picture to PNG"),
        other => other.into(),
    }
}
