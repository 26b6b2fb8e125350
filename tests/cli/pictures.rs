//! Pictures as users have them: turned by the camera, thin, immense, broken.

use std::process::Command;

use serde_json::{Value, json};

use super::{WORKSPACE, file, golden, lines, mdetr, scene, success};

/// Saves a grey PNG and gives its path.
fn grey_png(name: &str, width: u32, height: u32) -> String {
    let path = WORKSPACE.path().join(name);
    image::GrayImage::from_fn(width, height, |x, y| image::Luma([(x ^ y) as u8])).save(&path).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn boxes_are_those_of_the_upright_picture() {
    for (orientation, size) in [(1, [23, 17]), (3, [23, 17]), (6, [17, 23]), (7, [17, 23])] {
        let image = golden(&format!("pictures/exif_{orientation}.jpg"));
        let args = ["ground", "runs/tiny", "--jsonl", "-t", "a dog", "--threshold", "0", "--save", "upright", "-i"];
        let found = &lines(&success(&[&args[..], &[image.to_str().unwrap()]].concat(), WORKSPACE.path()))[0];
        assert_eq!(json!([found["width"], found["height"]]), json!(size));
        assert!(
            found["detections"].as_array().unwrap().iter().all(|d| d["box"]["ymax"].as_f64() <= Some(size[1].into()))
        );
        let picture = WORKSPACE.path().join(format!("upright/0000_exif_{orientation}.png"));
        let picture = image::open(picture).unwrap();
        assert_eq!(picture.width() % size[0], 0, "the drawn picture is {} wide", picture.width());
    }
}

/// They can be searched, drawn, trained on with crops, and evaluated on.
#[test]
fn thin_pictures_work() {
    let sizes = [(1, 1), (20000, 10), (10, 20000), (1, 5000), (5000, 1)];
    let names = sizes.map(|(width, height)| format!("thin_{width}x{height}.png"));
    for ((width, height), name) in sizes.into_iter().zip(&names) {
        let image = grey_png(name, width, height);
        let args = ["ground", "runs/tiny", "--jsonl", "-t", "a dog", "--top-k", "1", "--save", "thin", "-i", &image];
        let found = &lines(&success(&args, WORKSPACE.path()))[0];
        assert_eq!((&found["width"], &found["height"]), (&json!(width), &json!(height)));
        assert!(found["detections"][0]["box"]["xmax"].as_f64() <= Some(width.into()), "{found}");
    }
    let image = |(id, name)| json!({"id": id, "file_name": name, "caption": "a dog"});
    let bbox = |(id, (width, height)): (usize, (u32, u32))| {
        let bbox = [0.0, 0.0, f64::from(width), f64::from(height)];
        json!({"id": id, "image_id": id, "category_id": 1, "bbox": bbox, "tokens_positive": [[2, 5]]})
    };
    let images: Vec<Value> = names.iter().enumerate().map(image).collect();
    let annotations: Vec<Value> = sizes.into_iter().enumerate().map(bbox).collect();
    file("thin.json", &json!({"images": images, "annotations": annotations}).to_string());
    let data = ["--train-ann", "thin.json", "--val-ann", "thin.json", "--img-path", ".", "--random-crop"];
    let args = ["train", "--config", "tiny.json", "--run-name", "thin", "--set", "pretrain=null", "--max-steps", "4"];
    let log: Value = serde_json::from_str(&success(&[&args[..], &data].concat(), WORKSPACE.path())).unwrap();
    assert!(log["train_loss"].as_f64().is_some_and(f64::is_finite), "{log}");
    assert_eq!(log["test_thin_n"], 5);
}

/// It is there in RGB once, and while decoding beside the grey of its file: 400 of 500 MB.
#[test]
fn a_hundred_megapixels_need_no_second_copy() {
    let image = grey_png("immense.png", 10_000, 10_000);
    let (_, caption) = scene();
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -v 512000; exec \"$0\" \"$@\"", env!("CARGO_BIN_EXE_mdetr"), "ground", "runs/tiny"]);
    command.args(["--jsonl", "-i", &image, "-t", &caption, "--device", "cpu"]).current_dir(WORKSPACE.path());
    let out = command.env("MALLOC_ARENA_MAX", "1").env("RAYON_NUM_THREADS", "2").output().unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    assert_eq!(lines(&String::from_utf8(out.stdout).unwrap())[0]["width"], 10_000);
}

#[test]
fn what_is_no_picture_is_refused_with_the_reason() {
    let cut = |name: &str, from: &str| {
        let bytes = std::fs::read(golden("pictures").join(from)).unwrap();
        std::fs::write(WORKSPACE.path().join(name), &bytes[..bytes.len() / 2]).unwrap();
    };
    cut("cut.jpg", "baseline.jpg");
    cut("cut.png", "rgba.png");
    cut("cut.gif", "animated.gif");
    file("text.jpg", "no picture");
    file("empty.png", "");
    std::fs::create_dir_all(WORKSPACE.path().join("folder.png")).unwrap();
    let bomb = golden("pictures/bomb.png");
    let cases = [
        ("cut.jpg", "the file ends early"),
        ("cut.png", "the file ends early"),
        ("cut.gif", "the file ends early"),
        ("text.jpg", "expected a JPEG, PNG, GIF, WebP, BMP, TIFF or PNM picture"),
        ("empty.png", "the file is empty"),
        ("folder.png", "Is a directory"),
        ("gone.png", "No such file"),
        (bomb.to_str().unwrap(), "60000 x 60000 pixels are more than the 178956970 that are read"),
    ];
    let pairs = cases.map(|(image, _)| json!({"image": image, "caption": "a dog"}).to_string());
    file("broken.jsonl", &pairs.join("\n"));
    let out = mdetr(&["ground", "runs/tiny", "--pairs", "broken.jsonl"], WORKSPACE.path());
    assert_eq!(out.status.code(), Some(1), "{}", String::from_utf8_lossy(&out.stderr));
    let results = lines(&String::from_utf8(out.stdout).unwrap());
    assert_eq!(results.len(), cases.len());
    for (result, (image, reason)) in results.iter().zip(cases) {
        let error = result["error"].as_str().unwrap();
        assert!(error.contains(image) && error.contains(reason), "{error}");
    }
}
