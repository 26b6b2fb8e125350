//! What cuBLASLt and cuDNN did on a real GPU, against the simulator's stand-ins.
//!
//! With `MDETR_GPU` and `MDETR_RECORD` set, a file of that name gets the card, each kind of call that was made with whether the
//! library does it, and of every result of the ops that call them its sums and a few values; operands come from the cases'
//! seeds. Files of `tests/recorded` have to be reproduced wherever the tests run.

use std::collections::BTreeMap;
use std::path::Path;

use mdetr_kernels::case::Case;
use mdetr_kernels::cuda::Cuda;
use mdetr_kernels::registry::{Entry, OPS};
use mdetr_kernels::{DType, Device, Tensor};
use serde_json::{Map, Value, json};

use super::conformance::{Run, is_quick, tolerance};

/// Names the file to write.
const RECORD: &str = "MDETR_RECORD";

/// Those that call a library.
const RECORDED_OPS: [&str; 2] = ["linear", "conv2d"];

/// Values kept of a result.
const VALUES: usize = 8;

/// A card, `results` by name, and `answers` by call.
fn record(cuda: &'static Cuda, ops: &[&str]) -> Value {
    let mut results = Map::new();
    for op in OPS.iter().filter(|op| ops.contains(&op.name)) {
        record_op(&mut results, op.name, op, cuda);
        for (role, variant) in op.other_variants().into_iter().filter(|(_, variant)| variant.starts_with("cudnn")) {
            cuda.choose(role, Some(variant));
            record_op(&mut results, &format!("{} by {variant}", op.name), op, cuda);
            cuda.choose(role, None);
        }
    }
    cuda.check().unwrap();
    let answers: BTreeMap<String, bool> =
        cuda.product_answers().into_iter().chain(cuda.convolution_answers()).collect();
    json!({"card": cuda.name(), "results": results, "answers": answers})
}

fn record_op(results: &mut Map<String, Value>, title: &str, op: &Entry, cuda: &'static Cuda) {
    let cases: Vec<Case> = (op.cases)().into_iter().filter(|c| !c.only_for_benches && is_quick(c)).collect();
    for (dtype, tf32) in [(DType::F32, false), (DType::F32, true), (DType::F16, false), (DType::BF16, false)] {
        cuda.allow_tf32(tf32);
        for case in cases.iter().filter(|case| dtype == DType::F32 || case.in_half) {
            let format = if tf32 { "TF32".into() } else { format!("{dtype:?}") };
            let name = format!("{title} ({}) in {format}", case.name);
            // Two factors are rounded to 10 bits.
            let tolerance = tolerance(case, dtype) + if tf32 { 2f64.powi(-10) } else { 0.0 };
            let run = Run::fast(case, Device::Cuda(cuda), dtype);
            let outputs = run.forward().tensors;
            let rounded: Vec<DType> = outputs.iter().map(Tensor::dtype).collect();
            for (i, y) in outputs.iter().enumerate() {
                results.insert(format!("{name}: output {i}"), summary(y, tolerance));
            }
            for (what, before) in [("gradient", None), ("accumulated gradient", Some(0.5))] {
                let grads = run.backward(&rounded, before, |_| true);
                for (input, grad) in case.inputs.iter().zip(&grads) {
                    let Some(grad) = grad else { continue };
                    results.insert(format!("{name}: {what} of {}", input.name), summary(grad, 4.0 * tolerance));
                }
            }
        }
    }
    cuda.allow_tf32(false);
}

/// Length, sum, sum of magnitudes, largest magnitude, some values, in 7 digits, and what each may be off by, relatively to
/// the largest.
fn summary(t: &Tensor, tolerance: f64) -> Value {
    let values = t.to_f64_vec();
    let magnitude: f64 = values.iter().map(|v| v.abs()).sum();
    let largest = values.iter().fold(0f64, |m, v| m.max(v.abs()));
    // From first to last.
    let count = VALUES.min(values.len());
    let some: Vec<f64> = (0..count).map(|i| values[i * (values.len() - 1) / (count - 1).max(1)]).collect();
    let short = |v: f64| -> f64 { format!("{v:.6e}").parse().expect("a number, infinity or NaN") };
    json!({
        "len": values.len(), "sum": short(values.iter().sum()), "magnitude": short(magnitude),
        "largest": short(largest), "values": some.into_iter().map(short).collect::<Vec<f64>>(), "tolerance": tolerance,
    })
}

/// Where two records differ by more than rounding.
fn differences(recorded: &Value, here: &Value) -> Vec<String> {
    let object = |record: &Value, key: &str| record[key].as_object().cloned().unwrap_or_default();
    let mut found = Vec::new();
    let answers = object(here, "answers");
    for (call, does_it) in object(recorded, "answers") {
        match answers.get(&call) {
            Some(here) if *here == does_it => {}
            Some(here) => found.push(format!("{call}: done by the card: {does_it}, here: {here}")),
            None => found.push(format!("{call}: not asked here: record anew")),
        }
    }
    let results = object(here, "results");
    for (name, recorded) in object(recorded, "results") {
        match results.get(&name) {
            None => found.push(format!("{name}: not computed here: record anew")),
            Some(here) => found.extend(difference(&recorded, here).map(|what| format!("{name}: {what}"))),
        }
    }
    found
}

fn difference(recorded: &Value, here: &Value) -> Option<String> {
    let number = |summary: &Value, key: &str| summary[key].as_f64().unwrap_or(f64::NAN);
    let values = |summary: &Value| -> Vec<f64> {
        summary["values"].as_array().into_iter().flatten().map(|v| v.as_f64().unwrap_or(f64::NAN)).collect()
    };
    if recorded["len"] != here["len"] {
        return Some(format!("{} values on the card, {} here: record anew", recorded["len"], here["len"]));
    }
    let (tolerance, largest) = (number(here, "tolerance"), number(recorded, "largest").max(1e-2));
    let sums = ["sum", "magnitude", "largest"].map(|key| {
        let scale = if key == "largest" { largest } else { number(recorded, "magnitude").max(1e-2) };
        (number(recorded, key), number(here, key), scale)
    });
    let values = values(recorded).into_iter().zip(values(here)).map(|(recorded, here)| (recorded, here, largest));
    let mut off = values.chain(sums).filter(|(recorded, here, scale)| {
        let is_close = (recorded - here).abs() <= tolerance * scale;
        !is_close
    });
    off.next().map(|(recorded, here, _)| format!("{recorded} on the card, {here} here"))
}

fn write(path: &Path, record: &Value) {
    std::fs::create_dir_all(path.parent().expect("a file in a folder")).unwrap();
    std::fs::write(path, record.to_string() + "\n").unwrap();
}

fn read(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

#[test]
fn a_card_is_recorded() {
    let Some(path) = std::env::var_os(RECORD).filter(|_| super::is_real()) else { return };
    super::on_gpu("library_record::a_card_is_recorded", |cuda| write(path.as_ref(), &record(cuda, &RECORDED_OPS)));
}

#[test]
fn recorded_cards_are_reproduced() {
    let folder = super::recorded::golden_path("../recorded");
    let files = std::fs::read_dir(folder).into_iter().flatten().map(|file| file.unwrap().path());
    let recorded: Vec<Value> = files.map(|path| read(&path)).collect();
    if recorded.is_empty() {
        return;
    }
    super::on_gpu("library_record::recorded_cards_are_reproduced", |cuda| {
        let here = record(cuda, &RECORDED_OPS);
        for recorded in &recorded {
            let found = differences(recorded, &here);
            assert!(found.is_empty(), "{}:\n  {}", recorded["card"], found.join("\n  "));
        }
    });
}

/// What is done to a part of a record.
type Change = fn(&mut Value);

/// A record made here is reproduced; one in which a card did something else is not.
#[test]
fn other_answers_and_other_numbers_are_found() {
    super::on_gpu("library_record::other_answers_and_other_numbers_are_found", |cuda| {
        let here = record(cuda, &["linear"]);
        let folder = std::env::temp_dir().join(format!("mdetr-record-{}", std::process::id()));
        write(&folder.join("card.json"), &here);
        let recorded = read(&folder.join("card.json"));
        std::fs::remove_dir_all(folder).unwrap();
        assert_eq!(differences(&recorded, &here), Vec::<String>::new());

        let result = "linear (odd sizes) in F16: output 0";
        let call = recorded["answers"].as_object().unwrap().keys().next().unwrap();
        let planted: [(&str, &str, Change, &str); 5] = [
            ("results", result, |r| r["values"][3] = json!(r["values"][3].as_f64().unwrap() + 0.1), "on the card"),
            ("results", result, |r| r["sum"] = json!(0.9 * r["magnitude"].as_f64().unwrap()), "on the card"),
            ("results", result, |r| r["len"] = json!(1), "1 values on the card"),
            ("answers", call, |a| *a = json!(!a.as_bool().unwrap()), "done by the card: "),
            ("answers", "a call that nobody makes", |a| *a = json!(true), "not asked here"),
        ];
        for (part, name, change, words) in planted {
            let mut other = recorded.clone();
            change(&mut other[part][name]);
            let found = differences(&other, &here);
            assert!(matches!(&found[..], [one] if one.contains(name) && one.contains(words)), "{words}: {found:?}");
        }
    });
}
