//! Pairs and annotation files as they come: captions that are long or blank, images that are none, bad rows, no boxes.

use serde_json::{Value, json};

use super::{WORKSPACE, file, lines, mdetr, scene, success};

#[test]
fn blank_captions_name_nothing() {
    let (image, _) = scene();
    for blank in ["", " \n"] {
        let out = mdetr(&["ground", "runs/tiny", "-i", &image, "-t", blank, "--threshold", "0"], WORKSPACE.path());
        assert_eq!((out.status.success(), out.stdout.as_slice()), (true, &b"[]\n"[..]));
        assert!(String::from_utf8_lossy(&out.stderr).contains("is blank: it names nothing"));
    }
}

#[test]
fn ground_goes_on_after_a_bad_image() {
    let (image, caption) = scene();
    file("not_an_image.png", "text");
    let pair = |image: &str| serde_json::json!({"image": image, "caption": caption}).to_string();
    file("pairs.jsonl", &[pair("missing.png"), pair("not_an_image.png"), pair(&image)].join("\n"));
    let out = mdetr(&["ground", "runs/tiny", "--pairs", "pairs.jsonl", "--save", "pictures"], WORKSPACE.path());
    assert!(!out.status.success());
    let results = lines(&String::from_utf8(out.stdout).unwrap());
    assert!(results[0]["error"].as_str().unwrap().contains("missing.png"));
    assert!(results[1]["error"].as_str().unwrap().contains("not_an_image.png"));
    assert_eq!((&results[2]["width"], &results[2]["height"]), (&64.into(), &64.into()));
    assert!(results[2]["detections"].is_array());
    assert_eq!(std::fs::read_dir(WORKSPACE.path().join("pictures")).unwrap().count(), 1);
}

/// Spans count code points of the whole caption, and options hold for what all its parts find together.
#[test]
fn ground_splits_long_captions() {
    let (image, _) = scene();
    let caption = format!("{}a café 🍎 dog.", "a big dog and a cat, e\u{301}. ".repeat(12));
    let ground = |options: &[&str]| -> Vec<Value> {
        let args = ["ground", "runs/tiny", "-i", &image, "-t", &caption, "--chunk"];
        serde_json::from_str(&success(&[&args[..], options].concat(), WORKSPACE.path())).unwrap()
    };
    let slice = |[begin, end]: [usize; 2]| caption.chars().skip(begin).take(end - begin).collect::<String>();
    let all = ground(&["--threshold", "0"]);
    assert!(all.len() > 5 && all.len() % 5 == 0, "five queries a part: {}", all.len());
    assert!(all.is_sorted_by(|a, b| a["score"].as_f64() >= b["score"].as_f64()));
    let spans: Vec<[usize; 2]> = all.iter().map(|d| serde_json::from_value(d["span"].clone()).unwrap()).collect();
    for (d, span) in all.iter().zip(&spans) {
        assert_eq!(d["label"], slice(*span));
        assert!(d["spans"].as_array().unwrap().contains(&json!(span)), "{d}");
    }
    let middle = caption.chars().count() / 2 + 1;
    let halves = [0, 1].map(|half| spans.iter().filter(|span| span[0] / middle == half).count());
    assert!(halves.iter().all(|&n| n > 0), "every part finds words of its own: {spans:?}");

    assert_eq!(ground(&["--top-k", "3"]), all[..3]);
    assert!(ground(&["--threshold", "0", "--nms", "0.01"]).len() < all.len());
    let at = caption.chars().position(|c| c == '🍎').unwrap();
    let apple = ground(&["--phrase", "🍎 dog", "--top-k", "9"]);
    assert_eq!(apple.len(), 5, "one part holds it");
    assert_eq!(apple[0]["spans"], json!([[at, at + 5]]));
    assert_eq!(ground(&["--phrase", "cat", "--top-k", "99"]).len(), all.len(), "all parts hold it");
    let span = format!("{at}:{}", at + 1);
    assert_eq!(ground(&["--span", &span, "--top-k", "1"])[0]["label"], "🍎");
}

/// A whole run on images without boxes, and evaluations that leave bad rows out or find no phrase.
#[test]
fn images_without_boxes_train_and_bad_rows_are_skipped() {
    let read = |name: &str| -> Value {
        serde_json::from_slice(&std::fs::read(WORKSPACE.path().join("emoji").join(name)).unwrap()).unwrap()
    };
    let mut train = read("train.json");
    train["annotations"] = json!([]);
    file("no_boxes.json", &train.to_string());
    let mut val = read("val.json");
    val["images"].as_array_mut().unwrap().truncate(3);
    val["images"][0]["file_name"] = "gone.png".into();
    let ids: Vec<Value> = val["images"].as_array().unwrap().iter().map(|image| image["id"].clone()).collect();
    let annotations = val["annotations"].as_array_mut().unwrap();
    annotations.retain(|annotation| ids.contains(&annotation["image_id"]));
    let of_first = annotations.iter().filter(|annotation| annotation["image_id"] == ids[0]).count();
    annotations.last_mut().unwrap()["bbox"][2] = (-1).into();
    file("three.json", &val.to_string());

    let args = ["train", "--config", "tiny.json", "--run-name", "no_boxes", "--train-ann", "no_boxes.json"];
    let more = ["--val-ann", "three.json", "--skip-bad", "--set", "pretrain=null", "--max-steps", "2"];
    let out = mdetr(&[&args[..], &more].concat(), WORKSPACE.path());
    let message = String::from_utf8(out.stderr).unwrap();
    assert!(out.status.success(), "{message}");
    assert!(message.contains("three.json: rows left out: 1 missing_image, 1 box_negative"), "{message}");
    let log: Value = serde_json::from_slice(&out.stdout).unwrap();
    for key in ["train_loss", "train_loss_ce", "train_loss_bbox", "train_loss_giou", "train_grad_norm"] {
        assert!(log[key].as_f64().is_some_and(f64::is_finite), "{key}: {log}");
    }
    assert_eq!((&log["train_loss_bbox"], &log["train_loss_giou"]), (&json!(0.0), &json!(0.0)), "no boxes to find");
    assert_eq!((&log["test_three_n"], &log["test_three_n_skipped"]), (&json!(2), &json!(1)));
    assert_eq!(log["test_three_boxes_skipped"], of_first + 1);
    let nothing = lines(&success(&["eval", "runs/tiny", "--val-ann", "no_boxes.json"], WORKSPACE.path()));
    assert_eq!(
        (&nothing[0]["n"], &nothing[0]["n_skipped"], &nothing[0]["phrases"]),
        (&json!(16), &json!(0), &json!(0))
    );
}

#[test]
fn data_check_reports() {
    let check = |ann: &str, images: &str| {
        let args = ["data", "check", "--config", "tiny.json", "--decode", "--ann", ann, "--img-path", images];
        let out = mdetr(&args, WORKSPACE.path());
        let report: Value = serde_json::from_slice(&out.stdout).unwrap();
        (out.status.success(), report, String::from_utf8(out.stderr).unwrap())
    };
    let (is_good, report, _) = check("emoji/train.json", "emoji/images");
    assert!(is_good && report["images"] == 16 && report["good_images"] == 16, "{report}");
    let absent = json!({"image_without_boxes": report["notes"]["count"]});
    assert_eq!((&report["problems"]["count"], &report["notes"]["by_reason"]), (&json!(0), &absent));
    let captions = report["tokens"]["histogram"]["captions"].as_array().unwrap();
    assert_eq!(captions.iter().map(|n| n.as_u64().unwrap()).sum::<u64>(), 16);
    let [min, median, max] = ["min", "median", "max"].map(|key| report["tokens"][key].as_u64().unwrap());
    assert!(2 < min && min <= median && median <= max && max / 16 == captions.len() as u64 - 1, "{report}");

    file("broken.png", "text");
    file(
        "check.json",
        r#"{"images": [{"id": 1, "file_name": "broken.png", "caption": "a dog"},
                       {"id": 2, "file_name": "gone.png", "caption": ""}],
            "annotations": [{"id": 7, "image_id": 1, "category_id": 1, "bbox": [0, 0, NaN, 1], "tokens_positive": [[0, 5]]}]}"#,
    );
    let (is_good, report, message) = check("check.json", ".");
    let expected = json!({"missing_image": 1, "unreadable_image": 1, "box_not_finite": 1});
    assert!(!is_good && report["problems"]["by_reason"] == expected, "{report}");
    for part in
        ["image 1: cannot decode", "image 2: there is no file", "annotation 7 of image 1: bbox is [0.0, 0.0, NaN"]
    {
        assert!(message.contains(part), "{part:?} is not in: {message}");
    }
}

#[test]
fn data_show_draws_what_the_model_sees() {
    let show = |more: &[&str]| {
        let source = ["--ann", "emoji/train.json", "--img-path", "emoji/images", "--config", "tiny.json"];
        lines(&success(
            &[&["data", "show", "--save", "look", "--n", "3"], &source[..], more].concat(),
            WORKSPACE.path(),
        ))
    };
    let shown = show(&["--split", "val"]);
    assert_eq!(shown.len(), 3);
    for sample in &shown {
        assert!(image::open(WORKSPACE.path().join(sample["file"].as_str().unwrap())).unwrap().width() >= 448);
        assert_eq!((&sample["width"], &sample["height"]), (&json!(64), &json!(64)));
        for b in sample["boxes"].as_array().unwrap() {
            assert!(sample["caption"].as_str().unwrap().contains(b["label"].as_str().unwrap()), "{sample}");
            assert!(!b["tokens"].as_array().unwrap().is_empty(), "{sample}");
        }
    }
    assert_eq!(show(&["--split", "val"]), shown);
    assert_ne!(show(&["--split", "val", "--seed", "1"]), shown, "another choice");
    let mirrored = show(&["--set", "cautious=false"]);
    assert!(mirrored.iter().zip(&shown).any(|(a, b)| a["boxes"] != b["boxes"]), "half of them are mirrored");
}
