//! What a command computes with: levels of vector instructions.

use std::process::{Command, Output};

use super::{WORKSPACE, lines};

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
