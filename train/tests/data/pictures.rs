//! Pictures as they come.

use crate::dataset::{config, load};
use crate::{Tensors, golden};
use image::RgbImage;
use mdetr_train::data::image::{decode, read, read_upright};
use mdetr_train::data::{DatasetConfig, ImageFolders, Split};
use serde_json::json;
use std::collections::BTreeSet;

/// Decoded with roundings of their own.
const A_LEVEL_OFF: [&str; 3] = ["cmyk.tiff", "rgb_16bit.ppm", "rgb_jpeg.tiff"];

/// Every kind of file, as stored and upright.
#[test]
fn wild_pictures_have_pillows_pixels() {
    let tensors = Tensors::open("pictures/pictures.safetensors");
    let names = tensors.names();
    let mut wrong = Vec::new();
    let files: BTreeSet<&str> = names.iter().map(|name| name.trim_end_matches(".upright")).collect();
    for file in files {
        let path = golden("pictures").join(file);
        let turned = format!("{file}.upright");
        let upright = if names.contains(&turned) { &turned } else { file };
        for (picture, expected) in [(read(&path), file), (read_upright(&path), upright)] {
            match picture {
                Ok(picture) => {
                    let off = u8::from(A_LEVEL_OFF.contains(&file));
                    wrong.extend(difference(expected, &picture, &tensors.image(expected), off));
                }
                Err(error) => wrong.push(format!("{error:#}")),
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// What differs by more than `off` levels.
fn difference(name: &str, ours: &RgbImage, pillows: &RgbImage, off: u8) -> Option<String> {
    if ours.dimensions() != pillows.dimensions() {
        return Some(format!("{name}: {:?}, Pillow {:?}", ours.dimensions(), pillows.dimensions()));
    }
    let differ = |(a, b): (&u8, &u8)| a.abs_diff(*b) > off;
    let mut pairs = ours.enumerate_pixels().zip(pillows.pixels());
    let ((x, y, a), b) = pairs.find(|((.., a), b)| a.0.iter().zip(&b.0).any(differ))?;
    Some(format!("{name}: {a:?} at ({x}, {y}), Pillow {b:?}"))
}

/// Wherever a file is cut off, its reader learns of it.
#[test]
fn files_that_end_early_say_so() {
    let mut wrong = Vec::new();
    for name in [
        "baseline.jpg",
        "progressive.jpg",
        "cmyk.jpg",
        "rgba.png",
        "interlaced.png",
        "plain.gif",
        "rgb.bmp",
        "rgb_lzw.tiff",
        "lossy.webp",
        "lossless.webp",
        "rgb.ppm",
    ] {
        let bytes = std::fs::read(golden("pictures").join(name)).unwrap();
        for kept in [bytes.len() / 2, bytes.len() / 4 * 3, bytes.len() / 8, 30] {
            match decode(&bytes[..kept]) {
                Ok(_) => wrong.push(format!("{name}: {kept} of {} bytes are a picture", bytes.len())),
                Err(error) if format!("{error:#}").contains("the file ends early") => (),
                Err(error) => wrong.push(format!("{name}: {kept} of {} bytes: {error:#}", bytes.len())),
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// A file is refused by its header, before memory is taken.
#[test]
fn immense_promises_are_refused() {
    let read = |name: &str| std::fs::read(golden("pictures").join(name)).unwrap();
    let at = |bytes: &[u8], marker: &[u8]| bytes.windows(marker.len()).position(|window| window == marker).unwrap();
    let mut jpeg = read("progressive.jpg");
    let header = at(&jpeg, &[0xff, 0xc2]) + 5; // height, width
    jpeg[header..header + 4].copy_from_slice(&[0xff, 0x00, 0xff, 0x00]);
    let mut gif = read("animated.gif");
    gif[6..10].copy_from_slice(&[0xff; 4]);
    let mut bmp = read("rgb.bmp");
    bmp[18..26].copy_from_slice(&[60, 0xea, 0, 0, 60, 0xea, 0, 0]);
    let mut ppm = b"P6 60000 60000 255\n".to_vec();
    ppm.resize(5000, 0);
    for bytes in [read("bomb.png"), jpeg, gif, bmp, ppm] {
        let error = format!("{:#}", decode(&bytes).map(|picture| picture.pixels.dimensions()).unwrap_err());
        assert!(error.contains("pixels are more than the 178956970 that are read"), "{error}");
    }
}

/// Here by a palette whose length is no multiple of three.
#[test]
fn files_that_break_their_decoder_are_refused() {
    let error = format!("{:#}", read(&golden("pictures/broken_palette.png")).unwrap_err());
    assert!(error.contains("broken_palette.png: the file is broken"), "{error}");
}

#[test]
fn kinds_that_are_not_read_are_to_be_converted() {
    for name in ["la.tiff", "p.tiff"] {
        let error = format!("{:#}", read(&golden("pictures").join(name)).unwrap_err());
        assert!(error.contains(name) && error.contains("convert the picture to PNG"), "{error}");
    }
}

#[test]
fn datasets_hold_pictures_as_stored() {
    let file = json!({"images": [{"id": 1, "file_name": "exif_6.jpg", "caption": "a dog"}], "annotations": []});
    let folders = ImageFolders::one(golden("pictures"));
    let dataset = load(&file, DatasetConfig { folders, ..config(Split::Val) }).unwrap();
    assert_eq!(dataset.image(0).unwrap().dimensions(), (23, 17));
}
