//! What is accepted of annotation files, what is noted, and what is refused or left out.

use crate::dataset::{config, load, two_captions};
use mdetr_train::data::coco::parse;
use mdetr_train::data::problems::{Problems, Reason};
use mdetr_train::data::{Dataset, DatasetConfig, Split};
use serde_json::{Value, json};

/// Sets `value` where `pointer` points to; removes the key if there is none.
fn changed(pointer: &str, value: Option<Value>) -> Value {
    let mut file = two_captions();
    let (parent, key) = pointer.rsplit_once('/').unwrap();
    match (file.pointer_mut(parent).unwrap(), value) {
        (Value::Array(list), Some(value)) => list[key.parse::<usize>().unwrap()] = value,
        (Value::Object(map), Some(value)) => _ = map.insert(key.to_owned(), value),
        (Value::Object(map), None) => _ = map.remove(key).unwrap(),
        (parent, value) => panic!("{pointer}: {parent} {value:?}"),
    }
    file
}

fn reasons(problems: &Problems) -> Vec<(Reason, usize)> {
    problems.by_reason.iter().map(|(reason, count)| (*reason, *count)).collect()
}

/// Every row: what is changed in a good file, the problem, what the message says, and how many images and annotations are left
/// of 2 and 4 when such rows are skipped.
#[test]
fn bad_rows_are_refused_by_id_or_left_out() {
    let long = json!("word ".repeat(600));
    type Case = (&'static str, Option<Value>, Reason, &'static str, [usize; 2]);
    let cases: Vec<Case> = vec![
        ("/images/1/id", Some(json!(7)), Reason::DuplicateId, "image 7: the id occurs twice", [0, 0]),
        ("/images/0/file_name", Some(json!("gone.jpg")), Reason::MissingImage, "image 7: there is no file ", [1, 0]),
        ("/images/0/caption", None, Reason::Malformed, "image 7: missing field `caption` (line 1, column ", [1, 0]),
        (
            "/images/0/caption",
            Some(json!(5)),
            Reason::Malformed,
            "image 7: invalid type: integer `5`, expected a string",
            [1, 0],
        ),
        ("/annotations/0/id", None, Reason::Malformed, "annotations[0]: missing field `id`", [2, 3]),
        ("/images/1/caption", Some(long), Reason::CaptionTooLong, "image 3: the caption has 603 tokens", [1, 4]),
        ("/images/1/caption", Some(json!("🐶 ".repeat(300))), Reason::CaptionTooLong, "reads at most 512", [1, 4]),
        (
            "/images/0/tokens_positive_eval/1/0/1",
            Some(json!(99)),
            Reason::SpanOutOfRange,
            "image 7: tokens_positive_eval: the span [11, 99] is not within the caption's 23",
            [1, 0],
        ),
        (
            "/annotations/2/id",
            Some(json!(1)),
            Reason::DuplicateId,
            "annotation 1 of image 7: the id occurs twice",
            [2, 3],
        ),
        (
            "/annotations/2/image_id",
            Some(json!(99)),
            Reason::UnknownImage,
            "annotation 3 of image 99: image_id 99 is not among",
            [2, 3],
        ),
        (
            "/annotations/0/bbox/2",
            Some(json!(-1)),
            Reason::BoxNegative,
            "annotation 1 of image 7: bbox is [10.0, 20.0, -1.0, 40.0]",
            [2, 3],
        ),
        (
            "/annotations/0/bbox/2",
            Some(json!("30")),
            Reason::Malformed,
            "annotation 1: invalid type: string \"30\", expected a number (line 1, column ",
            [2, 3],
        ),
        (
            "/annotations/0/bbox/2",
            Some(Value::Null),
            Reason::Malformed,
            "annotation 1: invalid type: null, expected a number",
            [2, 3],
        ),
        (
            "/annotations/0/bbox",
            Some(json!([1, 2, 3])),
            Reason::Malformed,
            "annotation 1: invalid length 3, expected an array of length 4",
            [2, 3],
        ),
        ("/annotations/0/bbox", None, Reason::Malformed, "annotation 1: missing field `bbox`", [2, 3]),
        (
            "/annotations/0/iscrowd",
            Some(json!([])),
            Reason::Malformed,
            "annotation 1: expected 0, 1, false or true, found []",
            [2, 3],
        ),
        (
            "/annotations/0/tokens_positive",
            None,
            Reason::SpansMissing,
            "annotation 1 of image 7: tokens_positive is missing",
            [2, 3],
        ),
        (
            "/annotations/0/tokens_positive",
            Some(Value::Null),
            Reason::SpansMissing,
            "tokens_positive is missing",
            [2, 3],
        ),
        (
            "/annotations/0/tokens_positive/0/1",
            Some(json!(24)),
            Reason::SpanOutOfRange,
            "the span [0, 24] is not within the caption's 23",
            [2, 3],
        ),
        (
            "/annotations/0/tokens_positive/0/1",
            Some(json!(u64::MAX)),
            Reason::SpanOutOfRange,
            "is not within the caption's 23",
            [2, 3],
        ),
        (
            "/annotations/0/tokens_positive/0/0",
            Some(json!(8)),
            Reason::SpanOutOfRange,
            "the span [8, 7] ends before it begins",
            [2, 3],
        ),
        (
            "/annotations/0/tokens_positive/0/0",
            Some(json!(-1)),
            Reason::Malformed,
            "annotation 1: invalid value: integer `-1`",
            [2, 3],
        ),
        (
            "/annotations/0/tokens_positive",
            Some(json!([[0, 5], [5, 6]])),
            Reason::SpanBlank,
            "the span [5, 6] covers only spaces",
            [2, 3],
        ),
        (
            "/annotations/0/tokens_positive",
            Some(json!([[2, 2]])),
            Reason::SpanBlank,
            "the span [2, 2] covers nothing",
            [2, 3],
        ),
    ];
    for (pointer, value, reason, message, left) in cases {
        let file = changed(pointer, value);
        let error = format!("{:#}", load(&file, config(Split::Train)).unwrap_err());
        for part in [message, "final.json: ", "1 problem(s)", "--skip-bad"] {
            let is_pair = reason == Reason::DuplicateId && part == "1 problem(s)" && error.contains("2 problem(s)");
            assert!(error.contains(part) || is_pair, "{pointer}: {part:?} is not in {error}");
        }
        let skipping = DatasetConfig { skip_bad: true, ..config(Split::Train) };
        let dataset = match load(&file, skipping) {
            Ok(dataset) => dataset,
            Err(error) => {
                assert!(left == [0, 0] && error.to_string().contains("no image is left"), "{pointer}: {error}");
                continue;
            }
        };
        let report = dataset.report();
        assert_eq!([report.good_images, report.good_annotations], left, "{pointer}");
        assert_eq!(reasons(&report.problems), [(reason, 1)], "{pointer}");
        let annotations: usize = (0..dataset.len()).map(|i| dataset.record(i).1.len()).sum();
        assert_eq!([dataset.len(), annotations], left, "{pointer}");
        assert!((0..dataset.len()).all(|index| dataset.example(index, 0).is_ok()), "{pointer}");
    }
}

/// Every row: what is changed, and the notes on annotation 1, or on the image. The published program takes these files too.
#[test]
fn what_the_published_program_takes_is_accepted_and_noted() {
    let long = format!("{} end", "word ".repeat(300));
    let cases: Vec<(&str, Option<Value>, Option<Reason>, usize)> = vec![
        ("/annotations/0/bbox", Some(json!([10, 20, 30, 40])), None, 2),
        ("/annotations/0/bbox", Some(json!([-5, 20, 30, 40])), Some(Reason::BoxClamped), 2),
        ("/annotations/0/bbox", Some(json!([10, -1e300, 30, 2e300])), Some(Reason::BoxDropped), 1),
        ("/annotations/0/bbox", Some(json!([10, 20, 0, 40])), Some(Reason::BoxDropped), 1),
        ("/annotations/0/bbox", Some(json!([-50, 20, 30, 40])), Some(Reason::BoxDropped), 1),
        ("/annotations/0/iscrowd", Some(json!(1)), Some(Reason::Crowd), 1),
        ("/annotations/0/iscrowd", None, None, 2),
        ("/annotations/0/iscrowd", Some(json!(false)), None, 2),
        ("/annotations/0/area", Some(json!(7.5)), None, 2),
        ("/annotations/0/tokens_positive", Some(json!([])), Some(Reason::BoxWithoutWords), 2),
        ("/annotations/0/tokens_positive", Some(json!([[1, 3], [3, 5]])), None, 2),
        ("/annotations/0/segmentation", Some(json!([[1, 2, 3]])), None, 2),
        ("/images/0/width", Some(json!(12.5)), None, 2),
        ("/images/0/caption", Some(json!(long)), Some(Reason::CaptionBeyondColumns), 2),
        ("/images/0/caption", Some(json!("a\u{301} man 😀👨‍👩‍👧 in a blue shirt")), None, 2),
    ];
    let notes = |file: &Value| {
        let dataset = load(file, config(Split::Train)).unwrap();
        let boxes = dataset.example(1, 0).unwrap().target.objects.len();
        (dataset.report().notes.by_reason.clone(), boxes)
    };
    let usual = [(Reason::BoxClamped, 1), (Reason::Crowd, 1), (Reason::ImageWithoutBoxes, 1)];
    for (pointer, value, reason, boxes) in cases {
        let (mut by_reason, kept) = notes(&changed(pointer, value.clone()));
        if let Some(reason) = reason {
            let count = by_reason.get(&reason).copied().unwrap_or_default();
            assert!(count > 0, "{pointer} {value:?}: {by_reason:?}");
            by_reason.insert(reason, count - 1);
            by_reason.retain(|_, count| *count > 0);
        }
        assert_eq!(by_reason.into_iter().collect::<Vec<_>>(), usual, "{pointer} {value:?}");
        assert_eq!(kept, boxes, "{pointer} {value:?}");
    }
}

#[test]
fn blank_captions_and_images_without_boxes_are_examples() {
    for (caption, note) in [("", true), (" \t ", true), ("🍎", false), ("e\u{301}", false)] {
        let mut file = two_captions();
        file["annotations"] = json!([]);
        file["images"][0]["caption"] = json!(caption);
        file["images"][0]["tokens_positive_eval"] = json!([]);
        let dataset = load(&file, config(Split::Train)).unwrap();
        let notes = &dataset.report().notes.by_reason;
        assert_eq!(notes.get(&Reason::CaptionBlank), note.then_some(&1), "{caption:?}");
        assert_eq!(notes[&Reason::ImageWithoutBoxes], 2, "{caption:?}");
        let example = dataset.example(1, 0).unwrap();
        assert!(example.target.objects.is_empty() && example.encoding.ids.len() >= 2, "{caption:?}");
    }
}

#[test]
fn evaluation_needs_no_spans_and_clevrs_files_call_them_tokens() {
    let without = changed("/annotations/0/tokens_positive", None);
    assert!(load(&without, config(Split::Val)).is_ok());
    let mut file = two_captions();
    let annotation = file["annotations"][0].as_object_mut().unwrap();
    let spans = annotation.remove("tokens_positive").unwrap();
    annotation.insert("tokens".into(), spans.clone());
    let dataset = load(&file, config(Split::Train)).unwrap();
    assert_eq!(json!(dataset.record(1).1[0].tokens_positive), spans);
}

#[test]
fn twenty_problems_are_shown_and_all_are_counted() {
    let mut file = two_captions();
    file["annotations"] = json!(vec![file["annotations"][0].clone(); 30]);
    file["annotations"][29]["bbox"] = json!("none");
    let error = format!("{:#}", load(&file, config(Split::Val)).unwrap_err());
    assert_eq!(error.matches("annotation 1 of image 7: the id occurs twice").count(), 20, "{error}");
    for part in ["29 problem(s)", "and 9 more (1 malformed, 28 duplicate_id)"] {
        assert!(error.contains(part), "{error}");
    }
}

/// Every row: a file, and what the error says.
#[test]
fn what_is_no_annotation_file_says_why() {
    let whole = two_captions().to_string();
    let deep = "[".repeat(100_000);
    for (file, message) in [
        ("", "the file is empty"),
        (" \n", "the file is empty"),
        ("\x1f\u{8b}", "the file is not JSON"),
        ("images", "the file is not JSON: expected value at line 1 column 1"),
        ("{\"images\": [],\n\"annotations\": [}", "the file is not JSON: expected value at line 2 column 17"),
        (&whole[..whole.len() / 2], "is the file truncated?"),
        ("[]", "an object with the lists `images` and `annotations`"),
        ("{\"annotations\": []}", "missing field `images`"),
        ("{\"images\": {}, \"annotations\": []}", "invalid type: map, expected a sequence"),
        (&deep, "truncated"),
        (&format!("{{\"images\": [{deep}"), "truncated"),
    ] {
        let error = format!("{:#}", parse(file.as_bytes().to_vec()).unwrap_err());
        assert!(error.contains(message), "{message:?} is not in {error}");
    }
    let error = parse(vec![0x1f, 0x8b, 8, 0]).unwrap_err().to_string();
    assert!(error.contains("gunzip"), "{error}");
}

#[test]
fn python_numbers_and_numbers_beyond_floats_are_problems_of_their_rows() {
    let row = |id: i64, number: &str| {
        format!(
            r#"{{"id": {id}, "image_id": 1, "category_id": 1, "bbox": [{number}, 0, 1, 1], "tokens_positive": []}}"#
        )
    };
    let rows =
        [row(1, "NaN"), row(2, "-Infinity"), row(3, "1e999"), row(4, "123456789012345678901234567890"), row(5, "1")];
    let image = r#"{"id": 1, "file_name": "p0.png", "caption": "NaN", "sentence_id": null}"#;
    let text = format!("{{\"images\": [{image}],\n \"annotations\": [\n{}]}}", rows.join(",\n"));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("python.json");
    std::fs::write(&path, text).unwrap();
    let tokenizer = mdetr_train::data::Tokenizer::roberta_base();
    let dataset = Dataset::read(&path, tokenizer, config(Split::Train)).unwrap();
    let problems = &dataset.report().problems;
    assert_eq!(reasons(problems), [(Reason::Malformed, 1), (Reason::BoxNotFinite, 2)]);
    let details: Vec<&str> = problems.first.iter().map(|problem| problem.detail.as_str()).collect();
    assert!(details[0].contains("[NaN, 0.0") && details[1].contains("[-inf, 0.0"), "{details:?}");
    assert_eq!(details[2], "number out of range (line 5, column 57)");
    assert_eq!(dataset.record(0).0.caption, "NaN");
    assert_eq!(dataset.report().good_annotations, 2);
}

#[test]
fn decoding_finds_unreadable_images_once_a_file() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("broken.png"), "text").unwrap();
    std::fs::copy(crate::golden("preprocess/p0.png"), folder.path().join("p0.png")).unwrap();
    let mut file = two_captions();
    file["images"][1]["file_name"] = json!("broken.png");
    let mut other = file["images"][1].clone();
    other["id"] = json!(8);
    file["images"].as_array_mut().unwrap().push(other);
    let folders = mdetr_train::data::ImageFolders::one(folder.path());
    let dataset = load(&file, DatasetConfig { folders, ..config(Split::Val) }).unwrap();
    let decoded = std::sync::Mutex::new(Vec::new());
    let unreadable = dataset.unreadable_images(&|done, total| decoded.lock().unwrap().push((done, total)));
    assert_eq!(unreadable.iter().map(|(image, _)| image.id).collect::<Vec<_>>(), [3, 8]);
    assert!(unreadable[0].1.contains("broken.png"), "{unreadable:?}");
    let mut decoded = decoded.into_inner().unwrap();
    decoded.sort_unstable();
    assert_eq!(decoded, [(1, 2), (2, 2)]);
}
