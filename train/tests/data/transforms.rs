use crate::{Tensors, golden_json};
use mdetr_train::data::image::normalize;
use mdetr_train::data::target::Region;
use mdetr_train::data::transforms::Sample;
use mdetr_train::data::{CropConfig, Object, Target, TransformConfig};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use serde::Deserialize;
use std::collections::HashMap;

#[derive(Deserialize)]
struct Recorded {
    n_boxes: usize,
}

/// The recorded input: four boxes, each with its own span.
fn input(tensors: &Tensors) -> Sample {
    let (boxes, areas) = (tensors.f32("in.boxes"), tensors.f32("in.area"));
    let spans = [[0, 3], [4, 8], [9, 12], [13, 16]];
    let objects = boxes.as_chunks::<4>().0.iter().zip(areas).zip(spans).enumerate();
    let image = tensors.image("src_u8_hwc");
    let size = [image.height(), image.width()];
    let target = Target {
        image_id: 1,
        caption: "the left man and the right-most dog, leftover bright lights".to_owned(),
        objects: objects
            .map(|(label, ((&bbox, area), span))| Object {
                bbox,
                label: label as i64,
                area,
                isfinal: false,
                tokens_positive: vec![span],
            })
            .collect(),
        size,
        orig_size: size,
        dataset_name: None,
        original_img_id: None,
        sentence_id: None,
        original_id: None,
        task_id: None,
    };
    Sample { image, target }
}

#[test]
fn crops_flips_and_resizes_are_the_published_ones() {
    let tensors = Tensors::open("preprocess/transforms.safetensors");
    let recorded: HashMap<String, serde_json::Value> = golden_json("preprocess/transforms.json");
    let crop = |top, left, height, width| {
        move |s: Sample| {
            let shorter = s.image.width().min(s.image.height());
            s.resize_and_crop(shorter, |_| Region { top, left, height, width })
        }
    };
    type Step = Box<dyn Fn(Sample) -> Sample>;
    let cases: [(&str, Step); 7] = [
        ("crop_10_8_30_40", Box::new(crop(10, 8, 30, 40))),
        ("crop_0_0_24_32", Box::new(crop(0, 0, 24, 32))),
        ("centercrop_31x33", Box::new(crop(8, 16, 31, 33))),
        ("hflip", Box::new(Sample::flip)),
        ("resize_96", Box::new(|s: Sample| s.resize_shorter(96, None))),
        ("resize_30_max40", Box::new(|s: Sample| s.resize_shorter(30, Some(40)))),
        ("resize_wh_50x70", Box::new(|s: Sample| s.resize(50, 70))),
    ];
    for (name, step) in cases {
        let Sample { image, target } = step(input(&tensors));
        let expected: Recorded = serde_json::from_value(recorded[name].clone()).unwrap();
        assert_eq!(target.objects.len(), expected.n_boxes, "{name}");
        assert_eq!(image, tensors.image(&format!("{name}.image_u8_hwc")), "{name}");
        assert_eq!(target.size, [image.height(), image.width()], "{name}");
        let boxes: Vec<f32> = target.objects.iter().flat_map(|object| object.bbox).collect();
        assert_eq!(boxes, tensors.f32(&format!("{name}.boxes")), "{name}");
        let areas: Vec<f32> = target.objects.iter().map(|object| object.area).collect();
        assert_eq!(areas, tensors.f32(&format!("{name}.area")), "{name}");
    }
}

/// The published crop keeps the spans of dropped boxes, and its flip swaps substrings and leaves all spans in place.
#[test]
fn spans_follow_crops_and_flips() {
    let tensors = Tensors::open("preprocess/transforms.safetensors");
    let words = |sample: &Sample| -> Vec<String> {
        let caption: Vec<char> = sample.target.caption.chars().collect();
        let span = |object: &Object| object.tokens_positive[0];
        sample
            .target
            .objects
            .iter()
            .map(|object| caption[span(object)[0]..span(object)[1]].iter().collect())
            .collect()
    };
    assert_eq!(words(&input(&tensors)), ["the", "left", "man", "and"]);
    let mut cropped = input(&tensors);
    cropped.target = cropped.target.crop(Region { top: 10, left: 8, height: 30, width: 40 });
    let kept: Vec<i64> = cropped.target.objects.iter().map(|object| object.label).collect();
    assert_eq!((kept, words(&cropped)), (vec![0, 1, 3], vec!["the".into(), "left".into(), "and".into()]));
    let flipped = input(&tensors).flip();
    assert_eq!(flipped.target.caption, "the right man and the left-most dog, leftover bright lights");
    assert_eq!(words(&flipped), ["the", "right", "man", "and"]);
}

fn filled(width: u32, height: u32, boxes: &[[f32; 4]]) -> Sample {
    let mut sample = input(&Tensors::open("preprocess/transforms.safetensors"));
    sample.image = image::RgbImage::from_fn(width, height, |x, y| image::Rgb([x as u8, y as u8, 9]));
    sample.target.size = [height, width];
    let object = sample.target.objects[0].clone();
    sample.target.objects = boxes.iter().map(|&bbox| Object { bbox, ..object.clone() }).collect();
    sample
}

#[test]
fn training_draws_are_repeatable_and_cautious_ones_keep_every_box() {
    let small = |cautious| TransformConfig {
        train_scales: vec![48, 64],
        val_scale: 64,
        max_size: 100,
        crop: Some(CropConfig { scales: vec![40, 50], min_size: 38, max_size: 100 }),
        cautious,
    };
    let run = |config: &TransformConfig, seed| {
        let sample = filled(90, 60, &[[1.0, 2.0, 30.0, 40.0], [60.0, 20.0, 88.0, 59.0]]);
        config.train(sample, &mut ChaCha8Rng::seed_from_u64(seed))
    };
    let (mut flips, mut crops, mut losses, mut sizes) = (0, 0, 0, std::collections::BTreeSet::new());
    for seed in 0..200 {
        let (cautious, free) = (run(&small(true), seed), run(&small(false), seed));
        assert_eq!(run(&small(false), seed).target, free.target);
        assert_eq!(cautious.target.objects.len(), 2, "seed {seed}");
        assert!(cautious.target.caption.starts_with("the left man"));
        for sample in [&cautious, &free] {
            let [height, width] = sample.target.size;
            assert_eq!([height, width], [sample.image.height(), sample.image.width()]);
            assert!(height.max(width) <= 100);
        }
        sizes.insert(cautious.target.size.into_iter().min());
        flips += usize::from(free.target.caption.starts_with("the right man"));
        losses += usize::from(free.target.objects.len() < 2);
        crops += usize::from(f64::from(free.target.size[1]) / f64::from(free.target.size[0]) < 1.45);
    }
    assert!((60..140).contains(&flips) && (40..140).contains(&crops) && losses > 0, "{flips} {crops} {losses}");
    assert!(sizes.len() >= 2, "{sizes:?}");
}

/// Resize, crop, flip, then normalise, as recorded in one.
#[test]
fn normalised_boxes_and_pixels_are_the_published_ones() {
    let tensors = Tensors::open("preprocess/transforms.safetensors");
    let Sample { image, mut target } =
        input(&tensors).resize_and_crop(96, |_| Region { top: 5, left: 7, height: 80, width: 90 }).flip();
    target.normalize();
    let boxes: Vec<f32> = target.objects.iter().flat_map(|object| object.bbox).collect();
    assert_eq!(boxes, tensors.f32("resize96_crop_hflip.norm_boxes"));
    let pixels = normalize(&image);
    let planes: Vec<f32> = (0..3).flat_map(|c| pixels[c..].iter().step_by(3).copied()).collect();
    assert!(planes == tensors.f32("resize96_crop_hflip.norm_image"), "a pixel differs");
}

#[test]
fn the_default_is_the_published_recipe() {
    let config = TransformConfig::default();
    config.check().unwrap();
    assert_eq!(config.train_scales, [480, 512, 544, 576, 608, 640, 672, 704, 736, 768, 800]);
    let empty = TransformConfig { train_scales: vec![], ..config };
    assert!(empty.check().unwrap_err().to_string().contains("train_scales"));
}
