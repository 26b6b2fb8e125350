use crate::{golden, golden_json, tiny_tokenizer};
use mdetr_train::data::coco::{Annotation, ImageRecord};
use mdetr_train::data::{Dataset, DatasetConfig, ImageFolders, Split, Target, Tokenizer, TransformConfig};
use mdetr_train::evaluators::coco::GroundTruth;
use serde_json::{Value, json};

pub fn config(split: Split) -> DatasetConfig {
    DatasetConfig {
        folders: ImageFolders::one(golden("preprocess")),
        split,
        transforms: TransformConfig { val_scale: 60, ..TransformConfig::default() },
        max_tokens: 512,
        skip_bad: false,
    }
}

/// Writes an annotation file and reads it.
pub fn load(file: &Value, config: DatasetConfig) -> anyhow::Result<Dataset> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("final.json");
    std::fs::write(&path, serde_json::to_vec(file)?)?;
    Dataset::load(&path, Tokenizer::roberta_base(), config)
}

pub fn two_captions() -> Value {
    json!({
        "info": [], "licenses": [],
        "images": [
            {"id": 7, "file_name": "p0.png", "height": "120", "width": "160", "caption": "a man 😀 in a blue shirt",
             "dataset_name": "flickr", "original_img_id": 36979, "sentence_id": 2, "tokens_negative": [[0, 23]],
             "tokens_positive_eval": [[[0, 5]], [[11, 23]]]},
            {"id": 3, "file_name": "p4_gray.png", "caption": "nothing", "original_img_id": "n16"},
        ],
        "annotations": [
            {"id": 1, "image_id": 7, "category_id": 1, "iscrowd": 0, "bbox": [10, 20, 30, 40], "tokens_positive": [[0, 7]]},
            {"id": 2, "image_id": 7, "category_id": 1, "iscrowd": 1, "bbox": [10, 20, 30, 40], "tokens_positive": [[0, 5]]},
            {"id": 3, "image_id": 7, "category_id": 2, "iscrowd": 0, "area": 5.5, "bbox": [-10, 60, 90, 400], "tokens_positive": [[8, 23]]},
            {"id": 4, "image_id": 7, "category_id": 1, "iscrowd": 0, "bbox": [200, 20, 30, 40], "tokens_positive": [[0, 5]]},
        ],
        "categories": [{"supercategory": "object", "id": 1, "name": "object"}],
    })
}

#[test]
fn an_example_is_decoded_resized_and_tokenized() {
    let dataset = load(&two_captions(), config(Split::Val)).unwrap();
    assert_eq!(dataset.len(), 2);
    assert_eq!(dataset.record(0).0.id, 3, "records are in the order of their ids");
    let example = dataset.example(1, 0).unwrap();
    assert_eq!((example.height, example.width, example.pixels.len()), (60, 80, 60 * 80 * 3));
    let target = &example.target;
    assert_eq!((target.image_id, target.size, target.orig_size), (7, [60, 80], [120, 160]));
    assert_eq!((target.original_img_id.as_deref(), target.sentence_id), (Some("36979"), Some(2)));
    let boxes: Vec<[f32; 4]> = target.objects.iter().map(|object| object.bbox).collect();
    assert_eq!(boxes, [[25.0 / 160.0, 40.0 / 120.0, 30.0 / 160.0, 40.0 / 120.0], [0.25, 0.75, 0.5, 0.5]]);
    let areas: Vec<f32> = target.objects.iter().map(|object| object.area).collect();
    assert_eq!(areas, [1200.0 / 4.0, 5.5 / 4.0], "a missing area is width x height");
    // "a", " man", two tokens of the emoji, " in", " a", " blue", " shirt"
    assert_eq!(example.positive_tokens, [vec![1, 2, 3, 4], vec![5, 6, 7, 8]]);
    assert_eq!(example.align_tokens, example.positive_tokens);
    let truths: Vec<GroundTruth> = dataset.record(1).1.iter().map(GroundTruth::from).collect();
    assert_eq!(
        truths.iter().map(|truth| (truth.area, truth.iscrowd)).collect::<Vec<_>>()[1..3],
        [(1200.0, 1), (5.5, 0)]
    );
    let blank = dataset.example(0, 0).unwrap();
    assert_eq!((blank.target.objects.len(), blank.target.original_img_id.as_deref()), (0, Some("n16")));
}

#[test]
fn training_examples_depend_on_the_seed_alone() {
    let dataset = load(&two_captions(), config(Split::Train)).unwrap();
    let first = dataset.example(1, 5).unwrap();
    assert_eq!(first.pixels, dataset.example(1, 5).unwrap().pixels);
    assert!((0..8).any(|seed| dataset.example(1, seed).unwrap().height != first.height));
}

#[test]
fn images_of_a_mixed_file_come_from_their_sources_folder() {
    let mut file = two_captions();
    file["images"][0]["data_source"] = json!("vg");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mixed.json");
    std::fs::write(&path, file.to_string()).unwrap();
    let folders = ImageFolders {
        default: golden("preprocess"),
        by_source: [("vg".to_owned(), folder.path().join("vg"))].into(),
    };
    let load =
        || Dataset::load(&path, tiny_tokenizer(), DatasetConfig { folders: folders.clone(), ..config(Split::Val) });
    let error = format!("{:#}", load().unwrap_err());
    assert!(error.contains("vg/p0.png") && !error.contains("image 3"), "{error}");
    std::fs::create_dir(folder.path().join("vg")).unwrap();
    std::fs::copy(golden("preprocess/p0.png"), folder.path().join("vg/p0.png")).unwrap();
    let dataset = load().unwrap();
    assert!(dataset.example(0, 0).is_ok() && dataset.example(1, 0).is_ok());
}

/// Recorded from the published conversion; its `isfinal` is not filtered with the boxes, ours belongs to the object.
#[test]
fn annotations_become_the_published_target() {
    let recorded: Value = golden_json::<Value>("preprocess/transforms.json")["convert"].clone();
    let image: ImageRecord =
        serde_json::from_value(json!({"id": 1, "file_name": "x.png", "caption": recorded["caption"]})).unwrap();
    let with_ids = recorded["annotations"].as_array().unwrap().iter().enumerate().map(|(id, annotation)| {
        let mut annotation = annotation.clone();
        annotation["id"] = json!(id);
        annotation["image_id"] = json!(1);
        serde_json::from_value(annotation).unwrap()
    });
    let annotations: Vec<Annotation> = with_ids.collect();
    let target = Target::new(&image, &annotations, 64, 48);
    let objects = &target.objects;
    assert_eq!(json!(objects.iter().map(|object| object.bbox).collect::<Vec<_>>()), recorded["boxes"]);
    assert_eq!(json!(objects.iter().map(|object| object.label).collect::<Vec<_>>()), recorded["labels"]);
    assert_eq!(json!(objects.iter().map(|object| object.area as i64).collect::<Vec<_>>()), recorded["area"]);
    assert_eq!(
        json!(objects.iter().map(|object| &object.tokens_positive).collect::<Vec<_>>()),
        recorded["tokens_positive"]
    );
    assert_eq!(objects.iter().map(|object| object.isfinal).collect::<Vec<_>>(), [true, false, true]);
}
