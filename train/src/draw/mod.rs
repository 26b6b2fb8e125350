//! Pictures for people: images with boxes and captions, contact sheets, training curves.
//!
//! All of them are RGB images in memory; [`save_png`] writes one. One font and one palette, safe for colour-blind
//! readers, serve all.

mod annotate;
mod curves;
mod palette;
mod shapes;
mod sheet;
#[cfg(test)]
mod tests;
mod text;

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use image::{ImageFormat, RgbImage};

pub use annotate::{Highlight, LabelledBox, annotate};
pub use curves::{Chart, Curve, curves};
pub use palette::color;
pub use sheet::{Panel, sheet};

/// Writes `image` to `path` as PNG. A reader finds the earlier file or the whole new one, never a part.
///
/// # Errors
/// If the folder of `path` cannot be written to.
pub fn save_png(image: &RgbImage, path: &Path) -> Result<()> {
    let mut partial = path.as_os_str().to_owned();
    partial.push(".partial");
    image
        .save_with_format(&partial, ImageFormat::Png)
        .and_then(|()| Ok(fs::rename(&partial, path)?))
        .with_context(|| format!("cannot write the picture {}", path.display()))
}
