//! Reading the records.

use std::path::Path;

use mdetr_kernels::{Device, Tensor};
use mdetr_train::data::Tokenizer;
use mdetr_train::data::positive_map::span_tokens_by_first_caption;
use mdetr_train::dump::RecordedCase;
use safetensors::SafeTensors;
use serde_json::Value;

use super::goldens::golden;

/// A JSON file.
pub fn json(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))).unwrap()
}

/// A JSON array of numbers.
pub fn floats(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect()
}

/// A recorded tensor's shape and values.
pub fn recorded(file: &SafeTensors, name: &str) -> Option<Vec<f64>> {
    let view = file.tensor(name).ok()?;
    Some(match view.dtype() {
        safetensors::Dtype::F32 => {
            view.data().chunks(4).map(|b| f64::from(f32::from_le_bytes(b.try_into().unwrap()))).collect()
        }
        safetensors::Dtype::U8 => view.data().iter().map(|&b| f64::from(b)).collect(),
        other => panic!("{name} holds {other:?}"),
    })
}

/// The recorded position encodings of the valid cells, (sum of h * w, C).
pub fn recorded_positions(dir: &Path) -> Option<Tensor> {
    let bytes = std::fs::read(dir.join("outputs.safetensors")).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let shape = file.tensor("pos_embed").ok()?.shape().to_vec(); // (B, C, h, w)
    let (values, padded) = (recorded(&file, "pos_embed")?, recorded(&file, "feat_mask")?);
    let cells = shape[2] * shape[3];
    let valid = (0..padded.len()).filter(|&i| padded[i] == 0.0);
    let channels = shape[1];
    let rows: Vec<f64> = valid
        .flat_map(|i| (0..channels).map(move |c| (i / cells * channels + c) * cells + i % cells))
        .map(|at| values[at])
        .collect();
    Some(Tensor::from_slice(&rows, &[rows.len() / channels, channels], Device::Cpu))
}

/// Flat index of (B, C, h, w).
pub fn valid_in_grid(valid: &[bool], shape: &[usize], i: usize) -> bool {
    let cells = shape[2] * shape[3];
    valid[i / (shape[1] * cells) * cells + i % cells]
}

/// Flat index of (S, B, C): S is the grid's cells, then text.
pub fn valid_in_sequence(valid: &[bool], shape: &[usize], i: usize) -> bool {
    let cells = valid.len() / shape[1];
    let (s, b) = (i / (shape[1] * shape[2]), i / shape[2] % shape[1]);
    s >= cells || valid[b * cells + s]
}

/// The published alignment loss looks a span that starts or ends on a space up in the batch's first caption.
pub fn impose_published_fallback(case: &mut RecordedCase) {
    let dir = golden("tokenizer");
    let tokenizer = Tokenizer::from_files(&dir.join("vocab.json"), &dir.join("merges.txt")).unwrap();
    let captions: Vec<_> =
        case.json["captions"].as_array().unwrap().iter().map(|c| tokenizer.encode(c.as_str().unwrap())).collect();
    let tokens = case.batch.text.shape()[1];
    let mut map = Vec::new();
    for (encoding, boxes) in captions.iter().zip(case.json["tokens_positive"].as_array().unwrap()) {
        for spans in boxes.as_array().unwrap() {
            let spans: Vec<[usize; 2]> = serde_json::from_value(spans.clone()).unwrap();
            let mut row = vec![0.0f32; tokens];
            span_tokens_by_first_caption(encoding, &captions[0], &spans).iter().for_each(|&t| row[t] = 1.0);
            map.extend(row);
        }
    }
    let targets = case.targets.as_mut().unwrap();
    targets.align_map = Tensor::from_slice(&map, targets.align_map.shape(), Device::Cpu);
}
