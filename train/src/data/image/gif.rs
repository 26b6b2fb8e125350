//! The first picture of a GIF.

use super::{ENDS_EARLY, Picture, check_size};
use ::gif::{DecodeOptions, DecodingError, Frame};
use anyhow::{Context, Result, anyhow};
use image::metadata::Orientation;
use image::{Rgb, RgbImage};

/// What the picture leaves of the screen is transparent, or else of the palette's first colour. A picture that reaches beyond
/// the screen widens it.
pub fn decode(bytes: &[u8]) -> Result<Picture> {
    let mut decoder = DecodeOptions::new().read_info(bytes).map_err(explained)?;
    let Frame { left, top, width, height, transparent, .. } =
        *decoder.next_frame_info().map_err(explained)?.context("there is no picture in the file")?;
    let [left, top, width, height] = [left, top, width, height].map(u32::from);
    let (screen_width, screen_height) = (u32::from(decoder.width()), u32::from(decoder.height()));
    let size = (screen_width.max(left + width), screen_height.max(top + height));
    check_size(size.0, size.1)?;
    let mut indices = vec![0; decoder.buffer_size()]; // (height, width)
    decoder.read_into_buffer(&mut indices).map_err(explained)?;

    let palette = decoder.palette().map_err(explained)?.as_chunks::<3>().0;
    // Pillow's palettes are grey where a file's is too short.
    let color = |index: u8| Rgb(palette.get(usize::from(index)).copied().unwrap_or([index; 3]));
    let mut pixels = RgbImage::from_pixel(size.0, size.1, color(transparent.unwrap_or(0)));
    for (y, row) in (top..).zip(indices.chunks_exact(width.max(1) as usize)) {
        for (x, &index) in (left..).zip(row) {
            pixels.put_pixel(x, y, color(index));
        }
    }
    Ok(Picture { pixels, orientation: Orientation::NoTransforms })
}

fn explained(error: DecodingError) -> anyhow::Error {
    match error {
        DecodingError::UnexpectedEof => anyhow!(ENDS_EARLY),
        other => other.into(),
    }
}
