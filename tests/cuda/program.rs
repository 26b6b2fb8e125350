//! The program itself, on the simulator: training, evaluation and grounding of a small emoji run with `--device cuda`.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

use super::process;

/// The main job's configuration, smaller.
const TINY: &str = r#"{
  "run_name": "tiny", "seed": 3,
  "train_ann": "emoji/train.json", "val_ann": ["emoji/val.json"], "img_path": "emoji/images",
  "train_scales": [48], "val_scale": 48, "max_size": 48, "random_crop": false,
  "backbone": "conv5", "text_encoder_type": "words",
  "text_config": {"hidden_size": 16, "max_position_embeddings": 64, "vocab_size": 0},
  "enc_layers": 1, "dec_layers": 2, "dim_feedforward": 16, "hidden_dim": 32, "nheads": 1, "num_queries": 5,
  "dropout": 0.1, "pre_norm": true, "tie_key_query_init": true, "positions_at_input": true,
  "pretrain": {"easy_ann": "emoji/pretrain.json", "easy_steps": 1, "steps": 2, "lr": 1e-3, "batch_size": 4},
  "epochs": 1, "batch_size": 4, "num_workers": 2, "lr": 1e-3, "lr_backbone": 1e-3, "text_encoder_lr": 1e-3,
  "schedule": "warmup_hold_cosine", "clip_max_norm": 1.0, "ema": true, "ema_decay": 0.9
}"#;

/// The program with the simulator and NVRTC on the loader's path, under all checks.
fn mdetr(args: &[&str], dir: &Path) -> Output {
    command(args, dir).output().unwrap()
}

fn command(args: &[&str], dir: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mdetr"));
    command.args(args).current_dir(dir).env("LD_LIBRARY_PATH", process::library_path(None, None));
    command.env("MDETR_CACHE", concat!(env!("CARGO_TARGET_TMPDIR"), "/kernels"));
    command
}

#[track_caller]
fn success(args: &[&str], dir: &Path) -> String {
    let out = mdetr(args, dir);
    let complaints = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "{args:?}: {complaints}");
    assert!(!complaints.contains("simulator:"), "{args:?}: {complaints}");
    String::from_utf8(out.stdout).unwrap()
}

#[test]
fn trains_evaluates_and_grounds() {
    // A GPU's machine has no dataset's time to spend, nor its own NVRTC to hide.
    if std::env::var_os(super::GPU).is_some() || process::any_nvrtc().is_none() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    std::fs::write(dir.join("tiny.json"), TINY).unwrap();
    let data = ["--train", "12", "--pretrain", "8", "--val", "4", "--val-unseen", "2", "--size", "48"];
    success(&[&["data", "emoji", "--out", "emoji"], &data[..]].concat(), dir);
    for precision in ["--fp16", "--bf16", "--tf32"] {
        let name = &precision[2..];
        let args =
            ["train", "--config", "tiny.json", "--device", "cuda", "--alloc", "each", precision, "--run-name", name];
        let log: Value = serde_json::from_str(&success(&[&args[..], &["--max-steps", "3"]].concat(), dir)).unwrap();
        assert!(log["train_loss"].as_f64().unwrap().is_finite(), "{log}");
    }
    let args =
        ["train", "--config", "tiny.json", "--device", "cuda", "--graphs", "--epochs", "2", "--run-name", "graphs"];
    let log: Value = serde_json::from_str(&success(&args, dir)).unwrap();
    assert!(log["train_loss"].as_f64().unwrap().is_finite(), "{log}");
    let on_gpu = success(&["eval", "runs/fp16", "--device", "cuda"], dir);
    let on_cpu = success(&["eval", "runs/fp16", "--device", "cpu"], dir);
    let metrics = |text: &str| -> Value { serde_json::from_str(text.lines().next().unwrap()).unwrap() };
    let (gpu, cpu) = (metrics(&on_gpu), metrics(&on_cpu));
    assert!((gpu["ap50"].as_f64().unwrap() - cpu["ap50"].as_f64().unwrap()).abs() < 1e-6, "{gpu} {cpu}");
    let scene = ["-i", "emoji/images/val_000000.png", "-t", "a dog", "--top-k", "2"];
    let found = |device: &str| -> Value {
        let args = [&["ground", "runs/fp16", "--device", device], &scene[..]].concat();
        serde_json::from_str(&success(&args, dir)).unwrap()
    };
    let (gpu, cpu) = (found("cuda"), found("cpu"));
    let score = |v: &Value| v[0]["score"].as_f64().unwrap();
    assert!((score(&gpu) - score(&cpu)).abs() < 1e-4, "{gpu} {cpu}");

    // A GPU without enough memory: one line, and nothing that looks like a result.
    let weights = std::fs::read(dir.join("runs/fp16/checkpoint/model.safetensors")).unwrap();
    let train = ["train", "--config", "tiny.json", "--run-name", "fp16", "--resume", "auto", "--max-steps", "4"];
    for args in [&["eval", "runs/fp16"][..], &[&["ground", "runs/fp16"], &scene[..]].concat(), &train] {
        let args = [args, &["--device", "cuda"]].concat();
        let out = command(&args, dir).env("MDETR_SIM_MEMORY", "100000").output().unwrap();
        let message = String::from_utf8(out.stderr).unwrap();
        assert!(!out.status.success() && out.stdout.is_empty(), "{args:?}: {message}");
        let errors: Vec<&str> = message.lines().filter(|line| line.starts_with("error: ")).collect();
        assert!(errors.len() == 1 && errors[0].contains("OUT_OF_MEMORY"), "{args:?}: {message}");
    }
    assert_eq!(std::fs::read(dir.join("runs/fp16/checkpoint/model.safetensors")).unwrap(), weights);
}

#[test]
fn graphs_need_a_gpu_and_its_arena() {
    for (args, reason) in [
        (&["--device", "cpu"][..], "the CPU trains without --graphs"),
        (&["--device", "cuda", "--accumulate", "2"], "steps of one batch"),
        (&["--device", "cuda", "--alloc", "each"], "leave one of --graphs and --alloc each out"),
    ] {
        let out = mdetr(&[&["train", "--graphs"], args].concat(), Path::new("."));
        let message = String::from_utf8(out.stderr).unwrap();
        assert!(!out.status.success() && out.stdout.is_empty());
        let errors: Vec<&str> = message.lines().filter(|line| line.starts_with("error: ")).collect();
        assert!(errors.len() == 1 && errors[0].contains(reason), "{message}");
    }
}

#[test]
fn a_missing_device_is_one_line() {
    let out = mdetr(&["train", "--device", "cuda:7"], Path::new("."));
    let message = String::from_utf8(out.stderr).unwrap();
    assert!(!out.status.success() && out.stdout.is_empty());
    assert_eq!(message.trim_end(), "error: there is no GPU 7: the driver knows 1");
}
