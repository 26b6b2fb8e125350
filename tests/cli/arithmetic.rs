//! What a command computes with: levels of vector instructions, half types.

use std::process::{Command, Output};

use serde_json::Value;

use super::{WORKSPACE, lines, scene, success};

fn at_level(level: &str, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mdetr"));
    command.args(args).current_dir(WORKSPACE.path()).env("MDETR_SIMD", level).output().unwrap()
}

#[test]
fn a_level_that_is_none_is_an_error() {
    let out = at_level("avx1024", &["params", "runs/tiny"]);
    assert_eq!((out.status.code(), out.stdout.len()), (Some(2), 0));
    let message = String::from_utf8(out.stderr).unwrap();
    assert!(message.starts_with("error: MDETR_SIMD is \"avx1024\", expected "), "{message}");
    assert_eq!(message.lines().count(), 1, "{message}");
}

/// The least that all machines of this kind have trains the same model, and the run says that it did.
#[test]
fn the_lowest_level_trains_as_the_best_does() {
    let lowest = if cfg!(target_arch = "x86_64") { "sse2" } else { "neon" };
    let out = at_level(lowest, &["train", "--config", "tiny.json", "--max-steps", "3", "--run-name", "lowest"]);
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let read = |run: &str, file: &str| {
        lines(&std::fs::read_to_string(WORKSPACE.path().join("runs").join(run).join(file)).unwrap()).remove(0)
    };
    assert_eq!(read("lowest", "environment.jsonl")["simd"], lowest);
    let [loss, want] = ["lowest", "tiny"].map(|run| read(run, "log.txt")["train_loss"].as_f64().unwrap());
    assert!((loss - want).abs() < 1e-4 * want, "{loss} of {want}");
}

/// Scores and boxes in bfloat16 are those of f32 but for its rounding.
#[test]
fn ground_and_eval_in_bfloat16() {
    let (image, caption) = scene();
    let ground = |options: &[&str]| -> Vec<Value> {
        let args = ["ground", "runs/tiny", "-i", &image, "-t", &caption, "--threshold", "0"];
        serde_json::from_str(&success(&[&args[..], options].concat(), WORKSPACE.path())).unwrap()
    };
    let scores = |found: &[Value]| -> Vec<f64> { found.iter().map(|d| d["score"].as_f64().unwrap()).collect() };
    let [exact, half] = [scores(&ground(&[])), scores(&ground(&["--bf16"]))];
    let off = exact.iter().zip(&half).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
    assert!(off > 0.0 && off < 0.05, "{exact:?}, {half:?}");
    let recall = |options: &[&str]| {
        let metrics = lines(&success(&[&["eval", "runs/tiny"], options].concat(), WORKSPACE.path())).remove(0);
        metrics["upper_bound"].as_f64().unwrap()
    };
    assert!((recall(&[]) - recall(&["--bf16"])).abs() < 0.5);
}
