//! Runs that stop and go on: by a limit of steps, by signals, by being killed, by a disk that is full.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

/// A folder with a small emoji dataset.
static WORKSPACE: LazyLock<TempDir> = LazyLock::new(|| {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("small.json"), SMALL).unwrap();
    let counts = ["--train", "16", "--pretrain", "16", "--val", "6", "--val-unseen", "4", "--size", "64"];
    let out = mdetr(&[&["data", "emoji", "--out", "emoji"], &counts[..]].concat(), dir.path()).output().unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    dir
});

/// Three steps of warm-up, then epochs of four steps; dropout, augmentation and an average.
const SMALL: &str = r#"{
  "seed": 3, "train_ann": "emoji/train.json", "val_ann": "emoji/val.json", "img_path": "emoji/images",
  "train_scales": [48, 64], "val_scale": 64, "max_size": 64, "random_crop": true,
  "backbone": "conv5", "text_encoder_type": "words",
  "text_config": {"hidden_size": 16, "max_position_embeddings": 64, "vocab_size": 0},
  "enc_layers": 1, "dec_layers": 2, "dim_feedforward": 16, "hidden_dim": 16, "nheads": 2, "num_queries": 5,
  "dropout": 0.1, "pre_norm": true, "tie_key_query_init": true, "positions_at_input": true,
  "pretrain": {"easy_ann": "emoji/pretrain.json", "easy_steps": 2, "steps": 3, "lr": 1e-3, "batch_size": 4},
  "epochs": 3, "batch_size": 4, "num_workers": 2, "lr": 1e-3, "lr_backbone": 1e-3, "text_encoder_lr": 1e-3,
  "schedule": "warmup_hold_cosine", "clip_max_norm": 1.0, "ema": true, "ema_decay": 0.9
}"#;

fn mdetr(args: &[&str], dir: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mdetr"));
    command.args(args).current_dir(dir).stdin(Stdio::null());
    command
}

/// `mdetr train` of the small configuration into `runs/NAME`.
fn train(name: &str, settings: &[&str]) -> Command {
    let mut command = mdetr(&["train", "--config", "small.json", "--run-name", name], WORKSPACE.path());
    command.args(settings.iter().flat_map(|setting| ["--set", setting]));
    command
}

fn stderr(out: &Output) -> String {
    String::from_utf8_lossy(&out.stderr).into_owned()
}

#[track_caller]
fn success(mut command: Command) -> String {
    let out = command.output().unwrap();
    assert!(out.status.success(), "{command:?}: {}", stderr(&out));
    stderr(&out)
}

/// The message of a command that fails as it should.
#[track_caller]
fn failure(mut command: Command) -> String {
    let out = command.output().unwrap();
    let message = stderr(&out);
    assert_eq!(out.status.code(), Some(1), "{command:?}: {message}");
    assert!(out.stdout.is_empty() && !message.contains("panicked"), "{command:?}: {message}");
    message
}

fn run_dir(name: &str) -> PathBuf {
    WORKSPACE.path().join("runs").join(name)
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// Whether two runs have the same weights, averages and moments, bit for bit, and the same log but for times.
#[track_caller]
fn assert_same(name: &str, expected: &str) {
    for file in ["model.safetensors", "ema.safetensors", "state.safetensors"] {
        let [a, b] = [name, expected].map(|run| std::fs::read(run_dir(run).join("checkpoint").join(file)).unwrap());
        assert!(a == b, "{file} of {name} and of {expected}");
    }
    let [a, b] = [name, expected].map(|run| {
        let log = std::fs::read_to_string(run_dir(run).join("log.txt")).unwrap();
        let without_times = |line: &str| {
            let mut entry: serde_json::Map<String, Value> = serde_json::from_str(line).unwrap();
            entry.retain(|key, _| !key.contains("seconds") && !key.contains("per_second"));
            Value::from(entry)
        };
        log.lines().map(without_times).collect::<Vec<_>>()
    });
    assert_eq!(a, b, "log.txt of {name} and of {expected}");
}

/// Where the latest checkpoint of a run is: (phase, epoch, step); nothing while there is none.
fn position(name: &str) -> Option<(String, u64, u64)> {
    let text = std::fs::read(run_dir(name).join("checkpoint/state.json")).ok()?;
    let state: Value = serde_json::from_slice(&text).ok()?;
    let position = &state["position"];
    Some((position["phase"].as_str()?.into(), position["epoch"].as_u64()?, position["step"].as_u64()?))
}

/// Waits until a run has saved at or after a place.
fn wait_for(name: &str, child: &mut Child, (phase, epoch, step): (&str, u64, u64)) {
    let start = Instant::now();
    let is_there =
        || position(name).is_some_and(|p| (p.0 != "warm_up", p.1, p.2) >= (phase != "warm_up", epoch, step));
    while !is_there() {
        assert!(child.try_wait().unwrap().is_none(), "{name} ended before {phase} {epoch} {step}");
        assert!(start.elapsed() < Duration::from_secs(120), "{name} does not come to {phase} {epoch} {step}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn a_resumed_run_is_the_uninterrupted_one_bit_by_bit() {
    for (kind, settings) in [
        ("plain", &[][..]),
        ("accumulate", &["accumulate=2", "batch_size=2"]),
        ("fp16", &["precision=fp16", "pretrain=null"]),
        ("sgd", &["optimizer=sgd"]),
    ] {
        let run = |name: &str, more: &[&str]| success(train(name, &[settings, more].concat()));
        let whole = format!("{kind}_whole");
        run(&whole, &["max_steps=6"]);
        for stop in ["max_steps=2", "max_steps=4"] {
            let name = format!("{kind}_{stop}");
            run(&name, &[stop]);
            let message = run(&name, &["max_steps=6", "resume=auto"]);
            assert!(message.contains("resuming from") && message.contains("max_steps"), "{message}");
            assert_same(&name, &whole);
        }
    }
}

#[test]
fn a_run_goes_on_in_its_own_configuration() {
    success(train("own_whole", &["max_steps=4"]));
    for (name, words) in [("own_path", ["--resume", "runs/own_path"]), ("own_auto", ["--resume", "auto"])] {
        success(train(name, &["max_steps=2"]));
        let words = [&["train", "--max-steps", "4", "--run-name", name], &words[..]].concat();
        success(mdetr(&words, WORKSPACE.path()));
        assert_same(name, "own_whole");
    }
}

#[test]
fn a_killed_run_goes_on_where_it_saved_last() {
    success(train("unkilled", &["save_every=2"]));
    let places = [("warm_up", 0, 1), ("training", 0, 1), ("training", 0, 4), ("training", 2, 1)];
    for (count, place) in places.into_iter().enumerate() {
        let mut child = train("killed", &["save_every=1", "resume=auto"]).stderr(Stdio::null()).spawn().unwrap();
        wait_for("killed", &mut child, place);
        child.kill().unwrap();
        child.wait().unwrap();
        let loads =
            mdetr(&["params", "--checkpoint", "runs/killed"], WORKSPACE.path()).stdout(Stdio::null()).status();
        assert!(loads.unwrap().success(), "after kill {count}");
    }
    success(train("killed", &["save_every=1", "resume=auto"]));
    assert_same("killed", "unkilled");
    let left = names(&run_dir("killed"));
    assert!(left.iter().all(|name| !name.ends_with(".new") && !name.ends_with(".old")), "{left:?}");
}

#[test]
fn signals_save_and_stop() {
    success(train("unstopped", &[]));
    for (signal, number) in [("TERM", 15), ("USR1", 10), ("INT", 2)] {
        // The checkpoint at the end of the warm-up is the sign that the run listens.
        let mut child = train(signal, &["num_workers=1"]).stderr(Stdio::piped()).spawn().unwrap();
        wait_for(signal, &mut child, ("training", 0, 0));
        let kill = format!("kill -{signal} {}", child.id());
        assert!(Command::new("sh").args(["-c", &kill]).status().unwrap().success());
        let out = child.wait_with_output().unwrap();
        let message = stderr(&out);
        assert_eq!(out.status.code(), Some(128 + number), "{message}");
        assert!(message.contains("--resume auto") && message.contains(&format!("SIG{signal}")), "{message}");
        assert!(!message.contains("error"), "{message}");
        success(train(signal, &["num_workers=1", "resume=auto"]));
        assert_same(signal, "unstopped");
    }
}

#[test]
fn a_write_that_fails_ends_the_run_and_leaves_the_last_checkpoint() {
    success(train("enough_room", &["max_steps=4"]));
    success(train("no_room", &["max_steps=2"]));
    // Files of at most 4 blocks of 512 bytes; without the signal a write returns an error.
    let resume = train("no_room", &["max_steps=4", "resume=auto"]);
    let mut limited = Command::new("sh");
    limited.args(["-c", "trap '' XFSZ; ulimit -f 16; exec \"$@\"", "sh"]).arg(resume.get_program());
    limited.args(resume.get_args()).current_dir(WORKSPACE.path());
    let message = failure(limited);
    for part in ["cannot write", "model.safetensors", "no_room/checkpoint is complete", "--resume auto"] {
        assert!(message.contains(part), "{part:?} is not in: {message}");
    }
    assert_eq!(position("no_room"), Some(("training".into(), 0, 2)));
    assert!(names(&run_dir("no_room")).iter().all(|name| !name.ends_with(".new")));
    success(resume);
    assert_same("no_room", "enough_room");
}

#[test]
fn checkpoints_are_numbered_and_the_best_is_kept() {
    let settings = ["pretrain=null", "epochs=6", "lr_drop=3", "train_scales=[32]", "val_scale=32"];
    success(train("numbered", &settings));
    let checkpoints = |name: &str| {
        let names = names(&run_dir(name)).into_iter();
        names.filter(|name| name.contains("checkpoint")).collect::<Vec<_>>()
    };
    let all =
        ["BEST_checkpoint", "checkpoint", "checkpoint0001", "checkpoint0002", "checkpoint0003", "checkpoint0005"];
    assert_eq!(checkpoints("numbered"), all);
    success(train("kept", &[&settings[..], &["keep=2"]].concat()));
    assert_eq!(checkpoints("kept"), [&all[..2], &all[4..]].concat());
    let files = ["config.json", "ema.safetensors", "model.safetensors", "state.json", "state.safetensors"];
    for checkpoint in all {
        assert_eq!(names(&run_dir("numbered").join(checkpoint)), files, "{checkpoint}");
    }
    // From a checkpoint in the middle, into a run of its own.
    let from = run_dir("numbered").join("checkpoint0002");
    success(train("branch", &[&settings[..], &[&format!("resume={}", from.display())]].concat()));
    assert_same("branch", "numbered");
}

#[test]
fn commands_say_which_weights_they_read() {
    success(train("weights", &["max_steps=1"]));
    let params =
        |args: &[&str]| mdetr(&[&["params", "--checkpoint", "runs/weights"], args].concat(), WORKSPACE.path());
    for (args, file) in [
        (&[][..], "checkpoint/ema.safetensors"),
        (&["--weights", "ema"], "checkpoint/ema.safetensors"),
        (&["--weights", "model"], "checkpoint/model.safetensors"),
    ] {
        let message = success(params(args));
        assert!(message.contains(file) && message.contains("step 1 of 4 of epoch 0"), "{message}");
    }
    success(train("no_average", &["max_steps=1", "ema=false", "pretrain=null"]));
    let no_average = mdetr(&["params", "--checkpoint", "runs/no_average", "--weights", "ema"], WORKSPACE.path());
    assert!(failure(no_average).contains("holds no moving average"));
}

#[test]
fn a_folder_holds_one_run() {
    success(train("taken", &["max_steps=2"]));
    let message = failure(train("taken", &["max_steps=2"]));
    for part in ["runs/taken holds a run", "--resume auto", "--run-name", "--overwrite"] {
        assert!(message.contains(part), "{part:?} is not in: {message}");
    }
    for (settings, parts) in [
        (&["hidden_dim=32"][..], &["hidden_dim", "16 -> 32", "--run-name"][..]),
        (&["text_config.hidden_size=8"], &["text_config"]),
        (&["batch_size=2"], &["step 2 of 4 of epoch 0", "batch_size", "4 -> 2"]),
        (&["optimizer=sgd"], &["keep the optimizer", "--load"]),
        (&["overwrite=true"], &["overwrite"]),
    ] {
        let message = failure(train("taken", &[settings, &["resume=auto"]].concat()));
        for part in parts {
            assert!(message.contains(part), "{part:?} is not in: {message}");
        }
    }
    for from in ["runs/absent", "emoji"] {
        assert!(failure(train("from", &[&format!("resume={from}")])).contains(from));
    }
    success(train("taken", &["max_steps=1", "overwrite=true"]));
    assert_eq!(position("taken"), Some(("training".into(), 0, 1)));
    // What the run needs is kept, what may change does.
    success(train("taken", &["max_steps=1", "resume=auto", "num_workers=1", "epochs=5", "eval_skip=2"]));
}

#[test]
fn two_programs_do_not_train_in_one_folder() {
    let mut first = train("shared", &["save_every=1"]).stderr(Stdio::null()).spawn().unwrap();
    wait_for("shared", &mut first, ("warm_up", 0, 1));
    assert!(failure(train("shared", &["resume=auto"])).contains("another program is training in"));
    first.kill().unwrap();
    first.wait().unwrap();
}
