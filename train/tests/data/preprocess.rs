use crate::{Tensors, golden, golden_json};
use mdetr_train::data::image::{normalize, read};
use mdetr_train::data::resize::{resize, resize_part};
use mdetr_train::data::target::Region;
use mdetr_train::data::transforms::size_with_aspect_ratio;
use serde::Deserialize;
use sha2::{Digest, Sha256};

#[derive(Deserialize)]
struct Recorded {
    images: Vec<Image>,
    size_table: Vec<(u32, u32, u32, Option<u32>, u32, u32)>,
}

#[derive(Deserialize)]
struct Image {
    file: String,
    decoded_mode_rgb_shape: [u32; 3],
    decoded_sha256: String,
    resized_wh: (u32, u32),
    resized_u8_sha256: String,
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// (height, width, 3) to (3, height, width).
fn planes<T: Copy>(hwc: &[T]) -> Vec<T> {
    (0..3).flat_map(|c| hwc[c..].iter().step_by(3).copied()).collect()
}

#[test]
fn decoded_resized_and_normalised_pixels_are_pillows() {
    let tensors = Tensors::open("preprocess/preprocess.safetensors");
    for case in golden_json::<Recorded>("preprocess/preprocess.json").images {
        let stem = case.file.split('.').next().unwrap();
        let image = read(&golden("preprocess").join(&case.file)).unwrap();
        assert_eq!([image.height(), image.width(), 3], case.decoded_mode_rgb_shape, "{stem}");
        assert_eq!(sha256(&image), case.decoded_sha256, "{stem}");
        let size = size_with_aspect_ratio(image.width(), image.height(), 800, Some(1333));
        assert_eq!(size, case.resized_wh, "{stem}");
        let resized = resize(&image, size.0, size.1);
        let strided: Vec<u8> = planes(&resized).into_iter().step_by(997).collect();
        assert_eq!(strided, tensors.u8(&format!("{stem}.resized_u8_stride997")), "{stem}");
        assert_eq!(sha256(&resized), case.resized_u8_sha256, "{stem}");
        let strided: Vec<f32> = planes(&normalize(&resized)).into_iter().step_by(997).collect();
        assert_eq!(strided, tensors.f32(&format!("{stem}.tensor_stride997")), "{stem}");
    }
}

#[derive(Deserialize)]
struct Jpeg {
    file: String,
    width: u32,
    height: u32,
    sha256: String,
}

/// Written and read back by Pillow 13: chroma subsampling, odd sizes, progressive, grey, CMYK, restart markers.
#[test]
fn jpegs_of_all_kinds_have_pillows_pixels() {
    let folder = std::path::Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/jpeg"));
    let cases: Vec<Jpeg> = serde_json::from_slice(&std::fs::read(folder.join("pillow.json")).unwrap()).unwrap();
    for Jpeg { file, width, height, sha256: expected } in cases {
        let image = read(&folder.join(&file)).unwrap();
        assert_eq!((image.dimensions(), sha256(&image)), ((width, height), expected), "{file}");
    }
}

#[test]
fn resizing_is_pillows_in_both_directions() {
    let tensors = Tensors::open("preprocess/preprocess.safetensors");
    let source = tensors.image("resize.src_u8_hwc");
    for (width, height) in [(106, 74), (13, 37), (1, 1), (20, 60), (26, 18), (53, 37), (53, 9), (80, 20)] {
        let expected = tensors.image(&format!("resize.{width}x{height}_u8_hwc"));
        let resized = resize(&source, width, height);
        assert!(resized == expected, "{width} x {height}: a pixel differs");
        let part = Region { top: height / 3, left: width / 4, height: height - height / 2, width: width - width / 2 };
        let cut = image::imageops::crop_imm(&resized, part.left, part.top, part.width, part.height).to_image();
        assert!(resize_part(&source, width, height, part) == cut, "{width} x {height}: a part differs");
    }
}

#[test]
fn sizes_keep_the_aspect_ratio_as_published() {
    for (width, height, shorter, limit, out_width, out_height) in
        golden_json::<Recorded>("preprocess/preprocess.json").size_table
    {
        let size = size_with_aspect_ratio(width, height, shorter, limit);
        assert_eq!(size, (out_width, out_height), "{width} x {height} to {shorter}, at most {limit:?}");
    }
}

/// The first is the published program's, which cannot resize the others.
#[test]
fn the_thinnest_pictures_keep_a_pixel() {
    for (size, expected) in
        [((20000, 10), (2000, 1)), ((20000, 4), (1333, 1)), ((1, 20000), (1, 1333)), ((1, 100_000_000), (1, 1333))]
    {
        assert_eq!(size_with_aspect_ratio(size.0, size.1, 800, Some(1333)), expected, "{size:?}");
    }
}

#[test]
fn images_that_cannot_be_read_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let jpeg = std::fs::read(golden("preprocess/p3_jpeg.jpg")).unwrap();
    let cases: [(&str, &[u8]); 4] = [
        ("text.jpg", b"no image"),
        ("cut.jpg", &jpeg[..jpeg.len() / 2]),
        ("head.jpg", &jpeg[..30]),
        ("empty.png", b""),
    ];
    for (name, bytes) in cases {
        std::fs::write(folder.path().join(name), bytes).unwrap();
        let error = format!("{:#}", read(&folder.path().join(name)).map(|image| image.dimensions()).unwrap_err());
        assert!(error.contains(name), "{error}");
    }
    assert!(format!("{:#}", read(&folder.path().join("gone.png")).unwrap_err()).contains("gone.png"));
}
