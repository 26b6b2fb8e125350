//! What a program can check of ARCHITECTURE.md's invariants and CONTRIBUTING.md's rules.

use std::fs;
use std::path::{Path, PathBuf};

use mdetr_kernels::registry::{NOT_DIFFERENTIABLE, OPS};
use serde_json::{Map, Value};

/// Every crate may depend on those before it.
const CRATES: [&str; 4] = ["kernels", "autograd", "model", "train"];

/// Where the repository's files are, besides its root; other folders are made by running things.
const FOLDERS: [&str; 12] = [
    ".ci", ".github", "autograd", "benches", "configs", "fuzz", "kernels", "model", "scripts", "src", "tests",
    "train",
];

/// Files that are data or copied as they are.
const DATA: [&str; 7] = [
    "tests/goldens/",
    "tests/recorded/",
    "train/assets/",
    "train/tests/data/jpeg/",
    "Cargo.lock",
    "fuzz/Cargo.lock",
    "LICENSE",
];

/// The only files, or folders of files, with unchecked code.
const UNCHECKED: [&str; 17] = [
    "kernels/src/buffer.rs",
    "kernels/src/cublas_lt.rs",
    "kernels/src/cuda.rs",
    "kernels/src/cuda_memory.rs",
    "kernels/src/cudnn.rs",
    "kernels/src/cudnn_plan.rs",
    "kernels/src/gemm.rs",
    "kernels/src/gemm_bf16.rs",
    "kernels/src/graphs.rs",
    "kernels/src/launch.rs",
    "kernels/src/nvrtc.rs",
    "kernels/src/prefetch.rs",
    "kernels/src/simd.rs",
    "kernels/src/staging.rs",
    "kernels/src/conv2d/winograd.rs",
    "kernels/src/conv2d/winograd_transforms.rs",
    "kernels/simulator/",
];

/// Tests that call C functions as programs with mistakes do.
const BREAKS_CONTRACTS: &str = "kernels/simulator/tests/";

/// What declares C entry points: they are as their library documents them, and what they do unchecked has its own reason.
const ENTRY_POINT: [&str; 2] = [concat!("#[un", "safe(no_mangle)]"), concat!("un", "safe extern \"C\" fn")];

/// Ops that are their own definition.
const WITHOUT_REFERENCE: [(&str, &str); 3] = [
    ("assignment", "an exact algorithm, held against SciPy's recorded choices"),
    ("cast", "a conversion of types, exact or to the nearest"),
    ("position_sine", "one version, which rounds step by step as the published code does"),
];

/// Ops without a file in kernels/tests/goldens.
const WITHOUT_RECORD: [(&str, &str); 10] = [
    ("add", "plain arithmetic: the definition is one line"),
    ("caption_contrastive_loss", "ours: there is no published code to record"),
    ("cast", "a conversion of types, exact or to the nearest"),
    ("contrastive_align_loss", "recorded within whole models: tests/parity"),
    ("dropout", "random: its masks are ours"),
    ("gather_rows", "copies rows: the definition is one line"),
    ("mean_rows", "plain arithmetic: the definition is one line"),
    ("position_learned", "recorded within a whole model: tests/parity, learned_pos"),
    ("residual_norm", "layer_norm of a sum, which is recorded; also within whole models: tests/parity"),
    ("weighted_sum", "plain arithmetic: the definition is one line"),
];

/// Recorded operators (by the beginning of their names) that no test reads.
const UNREAD_RECORDS: [(&str, &[&str]); 4] = [
    ("inside of other ops", &["cdist_l1", "log_softmax", "logsumexp", "softmax"]),
    ("EfficientNet backbones are to come", &["avgpool_", "dwconv", "same", "silu"]),
    ("mask heads are to come", &["bilinear_", "dice", "mh_attention_map", "nearest_", "sigmoid_focal"]),
    ("question heads are to come", &["bce_logits_none", "cross_entropy_mean"]),
];

struct Source {
    /// Relative to the repository's root.
    path: String,
    text: String,
}

fn at(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn read(path: &str) -> String {
    fs::read_to_string(at(path)).unwrap_or_else(|e| panic!("{path}: {e}"))
}

/// (path, whether it is a folder) of what lies in a folder.
fn entries(folder: &str) -> Vec<(String, bool)> {
    let prefix = if folder == "." { String::new() } else { format!("{folder}/") };
    let entries = fs::read_dir(at(folder)).unwrap_or_else(|e| panic!("{folder}: {e}")).map(Result::unwrap);
    entries.map(|e| (format!("{prefix}{}", e.file_name().to_str().unwrap()), e.path().is_dir())).collect()
}

/// The text files of a folder and of those below it.
fn files_below(folder: &str) -> Vec<Source> {
    let of_entry = |(path, is_folder): (String, bool)| {
        if is_folder { files_below(&path) } else { source(path).into_iter().collect() }
    };
    entries(folder).into_iter().flat_map(of_entry).collect()
}

/// A text file; nothing for pictures and other binary files.
fn source(path: String) -> Option<Source> {
    let text = fs::read_to_string(at(&path)).ok()?;
    Some(Source { path, text })
}

/// Every text file that is not data.
fn sources() -> Vec<Source> {
    let root = entries(".").into_iter().filter(|(_, is_folder)| !is_folder).filter_map(|(path, _)| source(path));
    let mut sources: Vec<Source> = FOLDERS.into_iter().flat_map(files_below).chain(root).collect();
    sources.retain(|s| !DATA.iter().any(|data| s.path.starts_with(data)) || s.path == "tests/goldens/README.md");
    assert!(sources.len() > 200, "only {} files found", sources.len());
    sources
}

/// Whether `word` occurs without being part of a longer name.
fn has_word(text: &str, word: &str) -> bool {
    let part_of_name = |c: char| c.is_alphanumeric() || c == '_';
    text.match_indices(word).any(|(at, _)| {
        !text[..at].ends_with(part_of_name)
            && (word.ends_with([':', '_']) || !text[at + word.len()..].starts_with(part_of_name))
    })
}

/// `layer_norm` to `LayerNorm`.
fn type_name(op: &str) -> String {
    op.split('_').map(|part| part[..1].to_uppercase() + &part[1..]).collect()
}

fn ops() -> Vec<&'static str> {
    OPS.iter().map(|op| op.name).chain(NOT_DIFFERENTIABLE.iter().copied()).collect()
}

#[track_caller]
fn assert_none(rule: &str, violations: Vec<String>) {
    assert!(violations.is_empty(), "{rule}:\n  {}", violations.join("\n  "));
}

#[test]
fn every_folder_of_kernels_is_a_registered_op_and_whole() {
    let folders: Vec<String> = entries("kernels/src").into_iter().filter(|(_, f)| *f).map(|(path, _)| path).collect();
    let functional = read("autograd/src/functional.rs");
    let mut violations = Vec::new();
    for folder in &folders {
        let op = folder.rsplit('/').next().unwrap();
        if !ops().contains(&op) {
            violations.push(format!("{folder} is not in kernels/src/registry.rs"));
        }
        let excused = WITHOUT_REFERENCE.iter().any(|(name, _)| *name == op);
        if at(folder).join("reference.rs").exists() == excused {
            violations.push(format!("{folder}: either has reference.rs, or is listed in WITHOUT_REFERENCE"));
        }
        let own = files_below(folder);
        for other in ops().into_iter().filter(|other| *other != op) {
            // `cast::<T>` is a function with a type.
            let users = own.iter().filter(|s| has_word(&s.text.replace("::<", " <"), &format!("{other}::")));
            violations.extend(users.map(|s| format!("{} uses the op {other}: an op is whole in its folder", s.path)));
        }
    }
    for op in ops().into_iter().filter(|op| !folders.iter().any(|f| f.ends_with(&format!("/{op}")))) {
        violations.push(format!("{op} is registered and has no folder"));
    }
    for op in OPS.iter().map(|op| op.name) {
        if !at(&format!("kernels/src/{op}/cases.rs")).exists() {
            violations.push(format!("kernels/src/{op} has no cases.rs"));
        }
        if !has_word(&functional, &format!("{op}::")) {
            violations.push(format!("autograd/src/functional.rs has no wrapper of {op}"));
        }
    }
    assert_none("an op is whole in its folder, listed once, and wrapped once", violations);
}

#[test]
fn every_op_is_held_against_records_and_every_record_is_read() {
    let mut violations = Vec::new();
    for op in ops() {
        let tests = source(format!("kernels/tests/goldens/{op}.rs"));
        let tested = tests.is_some_and(|s| s.text.contains("#[test]"));
        if tested == WITHOUT_RECORD.iter().any(|(name, _)| *name == op) {
            violations.push(format!("{op}: either has a test in kernels/tests/goldens, or is in WITHOUT_RECORD"));
        }
    }
    let tests = files_below("kernels/tests/goldens");
    let records: Map<String, Value> = serde_json::from_str(&read("tests/goldens/ops/ops.json")).unwrap();
    for record in records.keys() {
        let spellings = [format!("\"{record}\""), format!("\"{record}.")];
        let is_read = tests.iter().any(|s| spellings.iter().any(|spelling| s.text.contains(spelling)));
        let excused = UNREAD_RECORDS.iter().flat_map(|(_, names)| *names).any(|name| record.starts_with(name));
        if is_read == excused {
            violations.push(format!("the record {record}: either a test reads it, or it is in UNREAD_RECORDS"));
        }
    }
    assert_none("recorded behaviour holds the references", violations);
}

#[test]
fn devices_and_the_tape_name_no_op() {
    let neutral = files_below("autograd/src").into_iter().chain(source("kernels/src/device.rs".into()));
    let mut violations = Vec::new();
    for s in neutral.filter(|s| s.path != "autograd/src/functional.rs") {
        for op in ops() {
            let paths = [format!("{op}::"), format!("\"{op}\""), type_name(op)];
            let spellings = [&paths[..], &[format!("fn {op}"), format!("fn {op}_")]].concat();
            let found = spellings.iter().filter(|spelling| has_word(&s.text, spelling));
            violations.extend(found.map(|spelling| format!("{} says {spelling}", s.path)));
        }
    }
    assert_none("only autograd/src/functional.rs knows both variables and ops", violations);
}

#[test]
fn dependencies_run_one_way() {
    let mut violations = Vec::new();
    for (i, name) in CRATES.iter().enumerate() {
        let manifest = read(&format!("{name}/Cargo.toml"));
        for later in &CRATES[i..] {
            let lines = manifest.lines().filter(|line| !line.starts_with("name"));
            if lines.into_iter().any(|line| line.contains(&format!("mdetr-{later}"))) {
                violations.push(format!("{name} depends on {later}"));
            }
        }
    }
    assert_none(&CRATES.join(" <- "), violations);
}

#[test]
fn unchecked_code_is_in_few_places_and_explained() {
    let keyword = concat!("un", "safe");
    let mut violations = Vec::new();
    for s in sources().iter().filter(|s| s.path.ends_with(".rs")) {
        let lines: Vec<&str> = s.text.lines().map(str::trim).collect();
        for (i, line) in lines.iter().enumerate() {
            let code = line.split("//").next().unwrap().to_owned();
            if !has_word(&ENTRY_POINT.iter().fold(code, |code, part| code.replace(part, "")), keyword) {
                continue;
            }
            let above = lines[..i].iter().rev().take_while(|line| line.starts_with("//") || line.starts_with("#["));
            if !UNCHECKED.iter().any(|path| s.path.starts_with(path)) {
                violations.push(format!("{}:{}: not one of {UNCHECKED:?}", s.path, i + 1));
            } else if !s.path.starts_with(BREAKS_CONTRACTS)
                && !above.into_iter().any(|line| line.contains("SAFETY:") || line.contains("# Safety"))
            {
                violations.push(format!("{}:{}: no SAFETY line above", s.path, i + 1));
            }
        }
    }
    for crate_root in ["src/main.rs", "autograd/src/lib.rs", "model/src/lib.rs", "train/src/lib.rs"] {
        if !read(crate_root).contains(&format!("#![forbid({keyword}_code)]")) {
            violations.push(format!("{crate_root} does not forbid it"));
        }
    }
    assert_none("unchecked code lives in kernels, block by block with its reason", violations);
}

#[test]
fn files_are_short_finished_and_at_home_anywhere() {
    let unfinished = [
        concat!("to", "do!"),
        concat!("TO", "DO"),
        concat!("FIX", "ME"),
        concat!("db", "g!"),
        concat!("unimple", "mented!"),
        concat!("#[ig", "nore"),
    ];
    let personal = ["home", "root", "Users", "mnt", "tmp", "work", "workspace"].map(|folder| format!("/{folder}/"));
    let mut violations = Vec::new();
    for s in sources() {
        let count = s.text.lines().count();
        if count > 400 {
            violations.push(format!("{} has {count} lines: split it by idea at 400", s.path));
        }
        for (i, line) in s.text.lines().enumerate() {
            if let Some(word) = unfinished.iter().find(|word| line.contains(**word)) {
                violations.push(format!("{}:{}: {word}", s.path, i + 1));
            }
            for folder in &personal {
                let absolute =
                    |at: usize| !line[..at].ends_with(|c: char| c.is_alphanumeric() || "._-})".contains(c));
                if line.match_indices(folder.as_str()).any(|(at, _)| absolute(at)) {
                    violations.push(format!("{}:{}: {folder} is a folder of one machine", s.path, i + 1));
                }
            }
        }
    }
    assert_none("files are short, finished, and name no machine", violations);
}

#[test]
fn documents_point_at_what_exists() {
    let command = "scripts/test";
    let mut violations = Vec::new();
    for path in ["README.md", "CONTRIBUTING.md", ".ci/run"] {
        if !read(path).lines().any(|line| line.starts_with(command)) {
            violations.push(format!("no line of {path} is `{command}`"));
        }
    }
    for s in sources().iter().filter(|s| s.path.ends_with(".md") && !s.path.contains('/')) {
        for link in s.text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let target = link.split('#').next().unwrap();
            if !link.starts_with("http") && !target.is_empty() && !at(target).exists() {
                violations.push(format!("{} points at {link}", s.path));
            }
        }
    }
    assert_none("documents are true", violations);
}
