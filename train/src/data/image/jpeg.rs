//! JPEG, by libjpeg.

use super::{ENDS_EARLY, Picture, caught, check_size, narrowed};
use anyhow::{Context, Result, ensure};
use image::RgbImage;
use image::metadata::Orientation;
use mozjpeg::{ColorSpace, Decompress, Marker};
use std::cell::Cell;
use std::io::{self, BufRead, Read};

pub fn decode(bytes: &[u8]) -> Result<Picture> {
    let ended = Cell::new(false);
    let decoded = caught(|| decompress(Whole { rest: bytes, ended: &ended }));
    ensure!(!ended.get(), ENDS_EARLY);
    decoded
}

/// Bytes that must not end before the picture does: libjpeg would fill what is missing with grey.
struct Whole<'a> {
    rest: &'a [u8],
    /// Whether more was asked for.
    ended: &'a Cell<bool>,
}

impl Read for Whole<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.rest.read(buffer)
    }
}

impl BufRead for Whole<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.ended.set(self.rest.is_empty());
        if self.rest.is_empty() { Err(io::Error::other(ENDS_EARLY)) } else { Ok(self.rest) }
    }

    fn consume(&mut self, amount: usize) {
        self.rest.consume(amount);
    }
}

fn decompress(bytes: Whole) -> Result<Picture> {
    let decoder = Decompress::builder().with_markers(&[Marker::APP(1)]).from_reader(bytes)?;
    let (width, height) = (u32::try_from(decoder.width())?, u32::try_from(decoder.height())?);
    check_size(width, height)?;
    let exif = decoder.markers().find_map(|marker| marker.data.strip_prefix(b"Exif\0\0"));
    let orientation = exif.and_then(Orientation::from_exif_chunk).unwrap_or(Orientation::NoTransforms);
    let pixels = if matches!(decoder.color_space(), ColorSpace::JCS_CMYK | ColorSpace::JCS_YCCK) {
        let cmyk = decoder.to_colorspace(ColorSpace::JCS_CMYK)?.read_scanlines::<[u8; 4]>()?;
        narrowed(cmyk.into_flattened(), rgb_of_inverted_cmyk)
    } else {
        decoder.rgb()?.read_scanlines::<[u8; 3]>()?.into_flattened()
    };
    let pixels =
        RgbImage::from_raw(width, height, pixels).context("there are fewer rows than the header promises")?;
    Ok(Picture { pixels, orientation })
}

/// Adobe stores CMYK inverted, and Pillow takes every CMYK JPEG for Adobe's.
fn rgb_of_inverted_cmyk([c, m, y, k]: [u8; 4]) -> [u8; 3] {
    let scaled = |a: u8, b: u8| {
        let product = u32::from(a) * u32::from(b) + 128;
        ((product + (product >> 8)) >> 8) as u8
    };
    [c, m, y].map(|ink| k - scaled(255 - ink, k))
}
