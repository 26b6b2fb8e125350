//! Parts of the model against recorded calls of the published code.

use std::path::Path;

use mdetr_kernels::{Device, Tensor};
use mdetr_model::box_ops::iou;
use mdetr_model::postprocess::postprocess;
use mdetr_model::ragged::valid_cells;
use safetensors::SafeTensors;

fn read(name: &str) -> Vec<u8> {
    std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/goldens").join(name)).unwrap()
}

/// A recorded f32 tensor.
fn tensor(file: &SafeTensors, name: &str) -> Tensor {
    let view = file.tensor(name).unwrap_or_else(|e| panic!("{name}: {e}"));
    let values: Vec<f32> = view.data().chunks(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect();
    Tensor::from_slice(&values, view.shape(), Device::Cpu)
}

#[test]
fn postprocessed_scores_and_boxes() {
    let bytes = read("postprocess/postprocess.safetensors");
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let sizes = file.tensor("pp.target_sizes").unwrap();
    let sizes: Vec<[usize; 2]> = sizes
        .data()
        .chunks(16)
        .map(|b| [0, 8].map(|at| i64::from_le_bytes(b[at..at + 8].try_into().unwrap()) as usize))
        .collect();
    let images = postprocess(&tensor(&file, "pp.pred_logits"), &tensor(&file, "pp.pred_boxes"), &sizes);
    let (scores, boxes) = (tensor(&file, "pp.out.scores"), tensor(&file, "pp.out.boxes"));
    let predictions: Vec<_> = images.into_iter().flatten().collect();
    assert_eq!(predictions.len(), scores.len());
    for (i, p) in predictions.iter().enumerate() {
        assert!((p.score - scores.as_slice::<f32>()[i]).abs() < 2e-6, "score {i}");
        for (got, want) in p.bbox.iter().zip(&boxes.as_slice::<f32>()[i * 4..]) {
            assert!((got - want).abs() <= 1e-6 * want.abs().max(100.0), "box {i}: {got} of {want}");
        }
    }
}

#[test]
fn intersection_over_union() {
    let bytes = read("postprocess/postprocess.safetensors");
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let (a, b) = (tensor(&file, "box.xyxy1"), tensor(&file, "box.xyxy2"));
    let want = tensor(&file, "box.iou");
    let row = |t: &Tensor, i: usize| std::array::from_fn(|k| t.as_slice::<f32>()[i * 4 + k]);
    let columns = b.shape()[0];
    for (at, want) in want.as_slice::<f32>().iter().enumerate() {
        let got = iou(row(&a, at / columns), row(&b, at % columns));
        // Two degenerate boxes have no overlap to speak of: the published code divides 0 by 0.
        assert!((got - want).abs() < 1e-6 || want.is_nan() && got == 0.0, "{at}: {got} of {want}");
    }
}

/// The padding mask shrunk by nearest neighbour: source rows of each cell as PyTorch picks them.
#[test]
fn valid_cells_of_a_padded_map() {
    let records: serde_json::Value = serde_json::from_slice(&read("ops/mask_nearest.json")).unwrap();
    for record in records.as_array().unwrap() {
        let (full, cells) = (record["full"].as_u64().unwrap() as usize, record["feat"].as_u64().unwrap() as usize);
        let sources: Vec<usize> =
            record["src_index"].as_array().unwrap().iter().map(|v| v.as_u64().unwrap() as usize).collect();
        for valid in 0..=full {
            let want = sources.iter().filter(|&&source| source < valid).count();
            assert_eq!(valid_cells(valid, full, cells), want, "{valid} of {full} pixels, {cells} cells");
        }
    }
}
