//! Whole pictures: colours where they belong, and no panic on odd input.

use image::Rgb;
use proptest::prelude::*;

use super::*;

fn labelled(xyxy: [f32; 4], color: usize) -> LabelledBox {
    LabelledBox { xyxy, label: String::new(), score: None, color }
}

fn count(image: &RgbImage, wanted: Rgb<u8>) -> usize {
    image.pixels().filter(|&&pixel| pixel == wanted).count()
}

#[test]
fn edges_of_a_box_have_its_colour_and_its_inside_is_the_image() {
    let ground = Rgb([9, 8, 7]);
    let image = RgbImage::from_pixel(448, 224, ground);
    let out = annotate(&image, &[labelled([50.0, 60.0, 200.0, 160.0], 1)], "", &[]);
    assert_eq!(out.dimensions(), (448, 224)); // large enough, and no caption
    for (x, y) in [(50, 60), (100, 60), (199, 159), (50, 100), (199, 60)] {
        assert_eq!(*out.get_pixel(x, y), color(1), "{x} {y}");
    }
    for (x, y) in [(10, 10), (100, 100), (210, 100)] {
        assert_eq!(*out.get_pixel(x, y), ground, "{x} {y}");
    }
}

#[test]
fn small_images_are_enlarged_by_a_whole_factor_and_boxes_with_them() {
    let image = RgbImage::from_pixel(112, 112, Rgb([9, 8, 7]));
    let out = annotate(&image, &[labelled([10.0, 20.0, 50.0, 60.0], 2)], "", &[]);
    assert_eq!(out.dimensions(), (448, 448));
    for (x, y) in [(40, 80), (199, 239)] {
        assert_eq!(*out.get_pixel(x, y), color(2), "{x} {y}");
    }
}

#[test]
fn the_caption_strip_grows_with_the_text() {
    let image = RgbImage::new(448, 448);
    let height = |words: usize| annotate(&image, &[], &"umbrella ".repeat(words), &[]).height();
    assert!(height(0) == 448 && height(1) > 448 && height(30) > height(1) && height(90) > height(30));
}

#[test]
fn phrases_are_highlighted_in_the_colours_of_their_boxes() {
    let image = RgbImage::new(448, 448);
    let caption = "é a dog and a bus";
    let highlight = |span, color| Highlight { span, color };
    let both = annotate(&image, &[], caption, &[highlight([4, 7], 0), highlight([14, 17], 1)]);
    let (dog, bus) = (count(&both, color(0)), count(&both, color(1)));
    assert!(dog > 200 && bus > 200, "{dog} {bus}");
    let longer = annotate(&image, &[], caption, &[highlight([2, 17], 0)]);
    assert!(count(&longer, color(0)) > 3 * dog);
    assert_eq!(count(&annotate(&image, &[], caption, &[highlight([17, 40], 0)]), color(0)), 0);
}

#[test]
fn tags_do_not_hide_each_other() {
    let image = RgbImage::new(448, 448);
    let tagged =
        |color| LabelledBox { label: "dog".into(), score: Some(0.9), ..labelled([50.0, 90.0, 250.0, 300.0], color) };
    let alone = count(&annotate(&image, &[tagged(1)], "", &[]), color(1));
    let out = annotate(&image, &[tagged(0), tagged(1)], "", &[]);
    assert!(count(&out, color(1)) > alone / 2, "the second tag is hidden");
    assert!(count(&out, color(0)) > 300, "the first tag is hidden");
}

#[test]
fn a_sheet_shows_predictions_solid_and_truth_dashed() {
    let panel = |predicted, truth| Panel {
        image: RgbImage::new(112, 112),
        caption: "a dog".into(),
        highlights: vec![],
        predicted,
        truth,
    };
    let boxes = || vec![labelled([20.0, 20.0, 90.0, 90.0], 1)];
    let solid = count(&sheet(&[panel(boxes(), vec![])], 1), color(1));
    let dashed = count(&sheet(&[panel(vec![], boxes())], 1), color(1));
    assert!(dashed > solid / 3 && dashed < solid * 3 / 4, "{dashed} of {solid}");

    let panels = vec![panel(vec![], vec![]); 5];
    let (wide, high) = (sheet(&panels, 3), sheet(&panels, 2));
    assert!(wide.width() > high.width() && wide.height() < high.height());
}

#[test]
fn a_picture_is_saved_whole_or_not_at_all() {
    let folder = tempfile::tempdir().unwrap();
    let (image, path) = (RgbImage::from_pixel(3, 2, Rgb([1, 2, 3])), folder.path().join("scene.png"));
    save_png(&image, &path).unwrap();
    assert_eq!(image::open(&path).unwrap().into_rgb8(), image);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    let error = save_png(&image, &folder.path().join("missing/scene.png")).unwrap_err().to_string();
    assert!(error.contains("missing/scene.png"), "{error}");
}

prop_compose! {
    fn any_box()(
        xyxy in prop::array::uniform4(prop_oneof![-50.0..150.0_f32, any::<f32>()]),
        label in "\\PC{0,12}",
        score in prop::option::of(any::<f32>()),
        color in 0..9_usize,
    ) -> LabelledBox {
        LabelledBox { xyxy, label, score, color }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn any_input_draws(
        (width, height) in prop_oneof![Just((1, 1)), Just((0, 0)), Just((1, 90)), (1..120_u32, 1..120_u32)],
        boxes in prop::collection::vec(any_box(), 0..4),
        caption in any::<String>(),
        spans in prop::collection::vec((0..40_usize, 0..40_usize), 0..3),
        columns in 0..4_usize,
    ) {
        let image = RgbImage::new(width, height);
        let highlights: Vec<_> = spans.iter().map(|&(a, b)| Highlight { span: [a, b], color: a }).collect();
        let out = annotate(&image, &boxes, &caption, &highlights);
        prop_assert!(out.width() >= width && out.height() >= height);
        let panel = Panel { image, caption, highlights, predicted: boxes.clone(), truth: boxes };
        sheet(&[panel.clone(), panel], columns);
    }
}
