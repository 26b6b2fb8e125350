//! The program as its users run it: data, training, evaluation, grounding, dumps, and bad input.

#[path = "cli/arithmetic.rs"]
mod arithmetic;
#[path = "cli/pictures.rs"]
mod pictures;
#[path = "cli/wild.rs"]
mod wild;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::LazyLock;

use serde_json::Value;
use tempfile::TempDir;

/// A folder with a small emoji dataset and a model trained on it for three steps.
static WORKSPACE: LazyLock<TempDir> = LazyLock::new(|| {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("tiny.json"), TINY).unwrap();
    let data = ["--train", "16", "--pretrain", "16", "--val", "6", "--val-unseen", "4", "--size", "64"];
    success(&[&["data", "emoji", "--out", "emoji"], &data[..]].concat(), dir.path());
    success(&["train", "--config", "tiny.json", "--max-steps", "3"], dir.path());
    dir
});

/// Every part of the main job's configuration, smaller.
const TINY: &str = r#"{
  "run_name": "tiny", "seed": 3,
  "train_ann": "emoji/train.json", "val_ann": ["emoji/val.json", "emoji/val_unseen.json"], "img_path": "emoji/images",
  "train_scales": [64], "val_scale": 64, "max_size": 64, "random_crop": false,
  "backbone": "conv5", "text_encoder_type": "words",
  "text_config": {"hidden_size": 16, "max_position_embeddings": 64, "vocab_size": 0},
  "enc_layers": 1, "dec_layers": 2, "dim_feedforward": 16, "hidden_dim": 16, "nheads": 2, "num_queries": 5,
  "dropout": 0.1, "pre_norm": true, "tie_key_query_init": true, "positions_at_input": true,
  "pretrain": {"easy_ann": "emoji/pretrain.json", "easy_steps": 2, "steps": 3, "lr": 1e-3, "batch_size": 4},
  "epochs": 2, "batch_size": 4, "num_workers": 2, "lr": 1e-3, "lr_backbone": 1e-3, "text_encoder_lr": 1e-3,
  "schedule": "warmup_hold_cosine", "clip_max_norm": 1.0, "ema": true, "ema_decay": 0.9
}"#;

fn mdetr(args: &[&str], dir: &Path) -> Output {
    Command::new(env!("CARGO_BIN_EXE_mdetr")).args(args).current_dir(dir).output().unwrap()
}

/// Standard output of a command that succeeds.
#[track_caller]
fn success(args: &[&str], dir: &Path) -> String {
    let out = mdetr(args, dir);
    assert!(out.status.success(), "{args:?}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).unwrap()
}

/// The one message of a command that fails as it should: an exit status, nothing on stdout, no panic.
#[track_caller]
fn failure(args: &[&str]) -> String {
    let out = mdetr(args, WORKSPACE.path());
    let message = String::from_utf8(out.stderr).unwrap();
    assert!(!out.status.success(), "{args:?} succeeded");
    assert!(out.stdout.is_empty(), "{args:?} printed {}", String::from_utf8_lossy(&out.stdout));
    assert!(!message.contains("panicked"), "{args:?}: {message}");
    message
}

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"))).collect()
}

fn file(name: &str, content: &str) -> PathBuf {
    let path = WORKSPACE.path().join(name);
    std::fs::write(&path, content).unwrap();
    path
}

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens").join(name)
}

/// The first validation scene and its caption.
fn scene() -> (String, String) {
    let text = std::fs::read(WORKSPACE.path().join("emoji/val.json")).unwrap();
    let json: Value = serde_json::from_slice(&text).unwrap();
    let image = &json["images"][0];
    (format!("emoji/images/{}", image["file_name"].as_str().unwrap()), image["caption"].as_str().unwrap().into())
}

#[test]
fn a_run_leaves_what_it_promises() {
    let run = WORKSPACE.path().join("runs/tiny");
    for name in
        ["checkpoint/model.safetensors", "checkpoint/ema.safetensors", "checkpoint/config.json", "config.json"]
    {
        assert!(run.join(name).is_file(), "{name}");
    }
    for picture in ["curves.png", "scenes.png"] {
        assert!(image::open(run.join(picture)).unwrap().width() > 300, "{picture}");
    }
    let log = lines(&std::fs::read_to_string(run.join("log.txt")).unwrap());
    assert_eq!(log.len(), 1, "three steps are less than an epoch of four");
    for key in
        ["epoch", "n_parameters", "train_lr", "train_loss", "train_loss_ce", "train_loss_giou_0", "train_grad_norm"]
    {
        assert!(log[0][key].is_number(), "{key}");
    }
    assert!(log[0]["test_val_recall@1"].is_number() && log[0]["test_val_unseen_ap50"].is_number());
}

#[test]
fn training_in_a_half_type_logs_what_it_skips() {
    let log_of = |name: &str| {
        let log = std::fs::read_to_string(WORKSPACE.path().join("runs").join(name).join("log.txt")).unwrap();
        lines(&log).remove(0)
    };
    for flag in ["--fp16", "--bf16"] {
        let name = &flag[2..];
        let args = ["train", "--config", "tiny.json", "--max-steps", "3", "--run-name", name, flag];
        success(&args, WORKSPACE.path());
        let (log, exact) = (log_of(name), log_of("tiny"));
        let [loss, want] = [&log, &exact].map(|log| log["train_loss"].as_f64().unwrap());
        assert!(loss != want && (loss - want).abs() < 0.05 * want, "{name}: {loss} of {want}");
        let skipped = log.get("skipped_steps").map(|v| v.as_i64().unwrap());
        assert_eq!(skipped.is_some(), name == "fp16", "{log}");
        if let Some(skipped) = skipped {
            assert_eq!(log["loss_scale"].as_f64().unwrap(), 65536.0 * 0.5f64.powi(skipped as i32));
        }
        let config = std::fs::read_to_string(WORKSPACE.path().join("runs").join(name).join("config.json")).unwrap();
        assert_eq!(serde_json::from_str::<Value>(&config).unwrap()["precision"], name);
    }
}

#[test]
fn training_repeats_bit_by_bit_on_any_number_of_threads() {
    let train = |name: &str, workers: &str, threads: &str| {
        let args =
            ["train", "--config", "tiny.json", "--max-steps", "3", "--run-name", name, "--num-workers", workers];
        let mut command = Command::new(env!("CARGO_BIN_EXE_mdetr"));
        let out =
            command.args(args).current_dir(WORKSPACE.path()).env("RAYON_NUM_THREADS", threads).output().unwrap();
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        std::fs::read(WORKSPACE.path().join("runs").join(name).join("checkpoint/model.safetensors")).unwrap()
    };
    assert_eq!(train("once", "1", "1"), train("again", "3", "3"));
}

#[test]
fn eval_prints_an_object_a_dataset() {
    let metrics = lines(&success(&["eval", "runs/tiny"], WORKSPACE.path()));
    let names: Vec<&str> = metrics.iter().map(|m| m["dataset"].as_str().unwrap()).collect();
    assert_eq!(names, ["val", "val_unseen"]);
    assert_eq!(metrics[0]["n"], 6);
    for key in ["recall@1", "recall@5", "recall@10", "ap", "ap50"] {
        assert!(metrics[0][key].as_f64().is_some_and(|v| v <= 1.0), "{key}");
    }
    let shuffled = lines(&success(
        &["eval", "runs/tiny/checkpoint", "--shuffle-captions", "--max-images", "2"],
        WORKSPACE.path(),
    ));
    assert_eq!(shuffled[0]["n"], 2);
}

/// Without a subcommand, as the published program takes it; the first file stands for a published dataset.
#[test]
fn published_commands_train_and_evaluate() {
    let dir = WORKSPACE.path();
    std::fs::create_dir_all(dir.join("ann")).unwrap();
    for (from, to) in [
        ("train", "finetune_refcoco_train"),
        ("val", "finetune_refcoco_val"),
        ("val_unseen", "finetune_refcoco_testA"),
    ] {
        std::fs::copy(dir.join(format!("emoji/{from}.json")), dir.join(format!("ann/{to}.json"))).unwrap();
    }
    let coco = dir.join("coco/train2014");
    std::fs::create_dir_all(&coco).unwrap();
    for image in std::fs::read_dir(dir.join("emoji/images")).unwrap() {
        let image = image.unwrap();
        std::fs::copy(image.path(), coco.join(image.file_name())).unwrap();
    }
    let official = r#"{"combine_datasets": ["refexp"], "combine_datasets_val": ["refexp"],
        "refexp_dataset_name": "refcoco", "coco_path": "coco", "refexp_ann_path": "ann/"}"#;
    file("refcoco.json", official);
    let mut model: Value = serde_json::from_str(TINY).unwrap();
    for key in ["run_name", "train_ann", "val_ann", "img_path", "pretrain", "ema"] {
        model.as_object_mut().unwrap().remove(key);
    }
    file("model.json", &model.to_string());
    let train =
        ["--config", "model.json", "--dataset_config", "refcoco.json", "--epochs", "1", "--output_dir", "refcoco"];
    success(&train, dir);
    let log = lines(&std::fs::read_to_string(dir.join("refcoco/log.txt")).unwrap());
    assert!(log[0]["test_refexp_recall@1"].is_number(), "{}", log[0]);
    for (args, n) in [
        (&[][..], 6),
        (&["--test", "--test_type", "testA"], 4),
        (&["--val_ann", "emoji/val.json", "--img_p", "emoji/images", "--max-im", "2"], 2),
    ] {
        let command = if n == 2 { vec!["eval", "refcoco"] } else { vec!["--resume", "refcoco", "--eval"] };
        let metrics = lines(&success(&[&command, args].concat(), dir));
        assert_eq!((metrics.len(), &metrics[0]["n"]), (1, &n.into()), "{args:?}");
    }
}

#[test]
fn ground_prints_a_list_for_a_pair() {
    let (image, caption) = scene();
    let everything = ["ground", "runs/tiny", "-i", &image, "-t", &caption, "--threshold", "0"];
    let list: Value = serde_json::from_str(&success(&everything, WORKSPACE.path())).unwrap();
    let list = list.as_array().unwrap();
    assert_eq!(list.len(), 5, "one a query");
    for d in list {
        let span: [usize; 2] = serde_json::from_value(d["span"].clone()).unwrap();
        let slice: String = caption.chars().skip(span[0]).take(span[1] - span[0]).collect();
        assert_eq!(d["label"], slice.as_str());
        for side in ["xmin", "ymin", "xmax", "ymax"] {
            assert!((0.0..=64.0).contains(&d["box"][side].as_f64().unwrap()), "{d}");
        }
    }
    let nothing = ["ground", "runs/tiny", "-i", &image, "-t", &caption, "--threshold", "2"];
    assert_eq!(success(&nothing, WORKSPACE.path()).trim(), "[]");
}

#[test]
fn ground_ranks_queries_for_a_phrase() {
    let (image, _) = scene();
    let caption = "a dog and a big dog";
    let args =
        ["ground", "runs/tiny", "-i", &image, "-t", caption, "--phrase", "dog", "--span", "12:15", "--top-k", "2"];
    let list: Value = serde_json::from_str(&success(&args, WORKSPACE.path())).unwrap();
    let list = list.as_array().unwrap();
    assert_eq!(list.len(), 4, "two for each");
    assert_eq!(list[0]["spans"], serde_json::json!([[2, 5], [16, 19]]), "every occurrence");
    assert_eq!((&list[2]["label"], &list[2]["span"]), (&"big".into(), &serde_json::json!([12, 15])));
    assert!(list[0]["score"].as_f64() >= list[1]["score"].as_f64());
}

/// A pair alone gives what it gives among others: text is encoded once a caption, and images are kept.
#[test]
fn ground_gives_the_same_alone_and_among_others() {
    let (image, caption) = scene();
    let options = ["--threshold", "0", "--jsonl"];
    let alone =
        success(&[&["ground", "runs/tiny", "-i", &image, "-t", &caption], &options[..]].concat(), WORKSPACE.path());
    let all = [&["ground", "runs/tiny", "-i", &image, &image, "-t", "a cat", &caption], &options[..]].concat();
    let all: Vec<String> = success(&all, WORKSPACE.path()).lines().map(String::from).collect();
    assert_eq!(all.len(), 4);
    assert_eq!((all[1].as_str(), all[3].as_str()), (alone.trim(), alone.trim()));
}

#[test]
fn dump_meets_the_recorded_case() {
    let case = golden("tiny/base");
    let out =
        success(&["dump", "recipe", "--case", case.to_str().unwrap(), "-o", "base.safetensors"], WORKSPACE.path());
    let summary: Value = serde_json::from_str(&out).unwrap();
    let recorded: Value = serde_json::from_slice(&std::fs::read(case.join("case.json")).unwrap()).unwrap();
    assert_eq!(summary["hungarian"], recorded["hungarian"]);
    let (got, want) =
        (summary["losses"]["loss_ce"].as_f64().unwrap(), recorded["losses"]["loss_ce"].as_f64().unwrap());
    assert!((got - want).abs() < 1e-4 * want);
    let bytes = std::fs::read(WORKSPACE.path().join("base.safetensors")).unwrap();
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    for (name, stats) in recorded["output_stats"].as_object().unwrap() {
        let shape: Vec<usize> = serde_json::from_value(stats["shape"].clone()).unwrap();
        assert_eq!(file.tensor(name).unwrap_or_else(|_| panic!("{name}")).shape(), shape, "{name}");
    }
    assert_eq!(file.tensor("valid").unwrap().shape(), [2, 4, 4]);
}

#[test]
fn dump_of_an_image_and_a_caption() {
    let (image, caption) = scene();
    success(&["dump", "runs/tiny", "-i", &image, "-t", &caption, "-o", "one.safetensors"], WORKSPACE.path());
    let (case, tokenizer) = (golden("tiny/base/case.json"), golden("tokenizer"));
    let recipe =
        ["dump", "recipe", "--model-config", case.to_str().unwrap(), "--tokenizer", tokenizer.to_str().unwrap()];
    success(&[&recipe[..], &["-i", &image, "-t", &caption, "-o", "two.safetensors"]].concat(), WORKSPACE.path());
    for (name, queries) in [("one.safetensors", 5), ("two.safetensors", 12)] {
        let bytes = std::fs::read(WORKSPACE.path().join(name)).unwrap();
        let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        assert_eq!(file.tensor("pred_logits").unwrap().shape(), [1, queries, 256]);
    }
}

#[test]
fn params_counts_the_published_model() {
    let list = lines(&success(&["params"], WORKSPACE.path()));
    let (total, list) = list.split_last().unwrap();
    let count: u64 = list.iter().map(|p| p["count"].as_u64().unwrap()).sum();
    assert_eq!(total["total"].as_u64(), Some(count));
    let query = list.iter().find(|p| p["name"] == "query_embed.weight").unwrap();
    assert_eq!((&query["shape"], &query["group"]), (&serde_json::json!([100, 256]), &"base".into()));
    let frozen = list.iter().find(|p| p["name"] == "backbone.0.body.layer1.0.conv1.weight").unwrap();
    assert_eq!((&frozen["trainable"], &frozen["group"]), (&false.into(), &"backbone".into()));
}

#[test]
fn bad_input_is_one_message() {
    let (image, caption) = scene();
    let long = "word ".repeat(300);
    file("broken.json", "{\"epochs\": ");
    file("empty.json", "{}");
    file(
        "bad_ann.json",
        r#"{"images": [{"id": 1, "file_name": "x.png", "caption": "a dog"}],
        "annotations": [{"id": 7, "image_id": 2, "category_id": 1, "bbox": [0, 0, 1, 1], "tokens_positive": [[0, 99]]}]}"#,
    );
    file(
        "no_image.json",
        r#"{"images": [{"id": 1, "file_name": "gone.png", "caption": "a dog"}], "annotations": []}"#,
    );
    let images = serde_json::json!({"images": [{"id": 5, "file_name": "x.png", "caption": "word ".repeat(99)}], "annotations": []});
    file("long_ann.json", &images.to_string());
    file("x.png", "text");
    file("truncated.json", r#"{"images": [], "annota"#);
    let tiny = |extra: &[&'static str]| [&["train", "--config", "tiny.json", "--run-name", "bad"], extra].concat();
    let ground = |i: &str, t: &str| failure(&["ground", "runs/tiny", "-i", i, "-t", t]);
    for (message, parts) in [
        (failure(&["train", "--config", "absent.json"]), vec!["absent.json"]),
        (failure(&["train", "--config", "broken.json"]), vec!["broken.json", "JSON"]),
        (failure(&tiny(&["--set", "epochs"])), vec!["KEY=VALUE"]),
        (failure(&tiny(&["--set", "backbone=vgg"])), vec!["vgg", "resnet101"]),
        (failure(&tiny(&["--set", "nheads=3"])), vec!["hidden_dim 16", "3 heads"]),
        (failure(&tiny(&["--train-ann", "absent.json"])), vec!["absent.json"]),
        (
            failure(&tiny(&["--train-ann", "bad_ann.json", "--batch-size", "1"])),
            vec!["bad_ann.json", "annotation 7 of image 2", "image_id 2", "2 problem(s)", "no file", "--skip-bad"],
        ),
        (
            failure(&tiny(&["--train-ann", "no_image.json", "--batch-size", "1", "--set", "pretrain=null"])),
            vec!["gone.png"],
        ),
        (
            failure(&tiny(&["--train-ann", "long_ann.json", "--batch-size", "1", "--img-path", "."])),
            vec!["long_ann.json", "image 5", "at most 64"],
        ),
        (
            failure(&["eval", "runs/tiny", "--val-ann", "long_ann.json", "--img-path", "."]),
            vec!["long_ann.json", "image 5"],
        ),
        (failure(&tiny(&["--train-ann", "truncated.json"])), vec!["truncated.json", "is the file truncated?"]),
        (failure(&tiny(&["--batch-size", "1000"])), vec!["16 images", "batch_size 1000"]),
        (failure(&["train", "--config", "empty.json"]), vec!["--train-ann", "--dataset-config"]),
        (failure(&["train", "--config", "no_image.json"]), vec!["no_image.json", "no setting \"images\"", "nearest"]),
        (failure(&tiny(&["--set", "epoch=3"])), vec!["epoch=3", "\"epochs\""]),
        (failure(&tiny(&["--epochs", "many"])), vec!["--epochs", "many", "a whole number"]),
        (failure(&tiny(&["--lern_rate", "3"])), vec!["--lern-rate"]),
        (failure(&tiny(&["--mask", "3"])), vec!["ambiguous", "--masks", "--mask-model"]),
        (failure(&tiny(&["--do_qa", "--ngpus", "8"])), vec!["do_qa", "question heads", "ngpus"]),
        (failure(&["--config", "tiny.json", "--eval"]), vec!["which checkpoint"]),
        (
            failure(&["eval", "runs/tiny", "--hidden_dim", "32", "--dropout", "0.5"]),
            vec!["runs/tiny has hidden_dim 16, not 32"],
        ),
        (
            failure(&["eval", "runs/tiny", "--flickr_ann_path", "gone", "--flickr_img_path", "gone"]),
            vec!["gone/final_flickr_separateGT_val.json"],
        ),
        (failure(&["eval", "absent"]), vec!["absent", "does not exist"]),
        (failure(&["eval", "emoji"]), vec!["emoji", "neither a checkpoint"]),
        (failure(&["ground", "runs/tiny"]), vec!["-i", "-t"]),
        (ground("absent.png", &caption), vec!["absent.png"]),
        (ground(&image, &long), vec!["303 tokens, at most 64", "from word 63 on, \"word word", "--chunk"]),
        (ground(&image, &"🍎 ".repeat(99)), vec!["tokens, at most 64", "\"🍎 🍎"]),
        (failure(&["ground", "runs/tiny", "-i", &image, "-t", "a dog", "--phrase", "cat"]), vec!["cat", "a dog"]),
        (
            failure(&["ground", "runs/tiny", "-i", &image, "-t", "a dog", "--span", "3:99"]),
            vec!["3:99", "5 code points"],
        ),
        (failure(&["ground", "runs/tiny", "-i", &image, "-t", "a dog", "--span", "1:2"]), vec!["1:2", "only spaces"]),
        (failure(&["ground", "runs/tiny", "-i", &image, "-t", "a dog", "--phrase", " "]), vec!["\" \" is blank"]),
        (failure(&["dump", "recipe", "-i", &image, "-t", "a dog", "-o", "x"]), vec!["--model-config"]),
        (failure(&["data", "emoji", "--out", "."]), vec!["emoji", "another folder"]),
    ] {
        for part in parts {
            assert!(message.contains(part), "{part:?} is not in: {message}");
        }
    }
}

#[test]
fn numbers_that_are_not_finite_stop_the_run() {
    let args = [
        "train",
        "--config",
        "tiny.json",
        "--run-name",
        "diverges",
        "--lr",
        "1e30",
        "--set",
        "clip_max_norm=0",
        "--set",
        "pretrain=null",
    ];
    let message = failure(&args);
    assert!(message.contains("step 1") && message.contains("images "), "{message}");
    assert!(message.contains("loss") || message.contains("gradient of"), "{message}");
}
