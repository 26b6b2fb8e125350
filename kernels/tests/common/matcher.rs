//! The matcher against recorded problems of the published one and of SciPy.

use mdetr_kernels::assignment::{MatchCost, assign, linear_sum_assignments};
use mdetr_kernels::boxes::{generalized_iou, to_corners};
use mdetr_kernels::{DType, Device, Tensor};
use serde_json::Value;

use crate::recorded::{Goldens, json};

fn indices(v: &Value) -> Vec<usize> {
    v.as_array().unwrap().iter().map(|i| i.as_u64().unwrap() as usize).collect()
}

/// SciPy's own indices.
pub fn linear_sum_agrees(device: Device) {
    for (id, problem) in json("matcher/lsap.json").iter().enumerate() {
        let [rows, columns] = ["n", "m"].map(|k| problem[k].as_u64().unwrap() as usize);
        let cost: Vec<f64> = problem["cost"]
            .as_array()
            .unwrap()
            .iter()
            .flat_map(|row| row.as_array().unwrap().iter().map(|c| c.as_f64().unwrap()))
            .collect();
        let mut want = vec![-1; rows];
        for (row, column) in indices(&problem["rows"]).into_iter().zip(indices(&problem["cols"])) {
            want[row] = column as i32;
        }
        let cost = Tensor::from_slice(&cost, &[1, rows, columns], device);
        let got = linear_sum_assignments(&cost).to_device(Device::Cpu);
        assert_eq!(got.as_slice::<i32>(), want, "problem {id}: {rows} x {columns}");
    }
}

/// The published matcher, a batch a problem; each batch also stands as a second decoder layer with its queries rotated by one,
/// which must rotate its matches.
pub fn agrees(device: Device, dtype: DType) {
    let goldens = Goldens::open("matcher/matcher.safetensors");
    for problem in json("matcher/matcher.json") {
        let id = problem["id"].as_u64().unwrap();
        let get = |part: &str| goldens.get(&format!("{id}.{part}"));
        let counts = indices(&problem["n_targets"]);
        let images: Vec<i32> = counts.iter().enumerate().flat_map(|(i, &n)| vec![i as i32; n]).collect();
        let target_boxes: Vec<f64> =
            (0..counts.len()).flat_map(|i| get(&format!("target{i}")).to_f64_vec()).collect();
        let targets = Tensor::from_slice(&target_boxes, &[images.len(), 4], Device::Cpu);
        let image_of_target = Tensor::from_slice(&images, &[images.len()], Device::Cpu);
        let weight = |name: &str| problem["weights"][name].as_f64().unwrap();
        let weights = MatchCost { class: weight("cost_class"), bbox: weight("cost_bbox"), giou: weight("cost_giou") };
        let (logits, boxes, map) = (get("logits"), get("boxes"), get("positive_map"));
        let queries = logits.shape()[1];
        let layers = |t: &Tensor| two_layers(t).to_dtype(dtype).to_device(device);
        let cast = |t: &Tensor| t.to_dtype(dtype).to_device(device);
        let matches = assign(
            &layers(&logits),
            &layers(&boxes),
            &cast(&map),
            &cast(&targets),
            &image_of_target.to_device(device),
            weights,
        )
        .to_device(Device::Cpu);
        let (first, second) = matches.as_slice::<i32>().split_at(images.len());
        let mut offset = 0;
        for (image, &n) in counts.iter().enumerate() {
            let what = format!("problem {id}, image {image}, {dtype:?}");
            let [q, t] = [0, 1].map(|i| indices(&problem["indices"][image][i]));
            let matched = |m: &[i32]| -> Vec<(usize, usize)> {
                m[offset..offset + n]
                    .iter()
                    .enumerate()
                    .filter(|m| *m.1 >= 0)
                    .map(|(t, &q)| (q as usize, t))
                    .collect()
            };
            let mut first = matched(first);
            first.sort_unstable();
            let ties = problem["ties"].as_bool().unwrap();
            if !ties {
                assert_eq!(first, q.into_iter().zip(t).collect::<Vec<_>>(), "{what}");
                let mut second: Vec<_> = matched(second).into_iter().map(|(q, t)| ((q + 1) % queries, t)).collect();
                second.sort_unstable();
                assert_eq!(first, second, "{what}, rotated");
            }
            assert_eq!(first.len(), n.min(queries), "{what}");
            let row = |t: &Tensor, i: usize| -> Vec<f64> {
                let k = t.last_axis();
                t.as_slice::<f64>()[i * k..(i + 1) * k].to_vec()
            };
            let total: f64 = first
                .iter()
                .map(|&(q, t)| {
                    let (q, t) = (image * queries + q, offset + t);
                    cost(&row(&logits, q), &row(&boxes, q), &row(&map, t), &row(&targets, t), weights)
                })
                .sum();
            let want = problem["matched_cost"][image].as_f64().unwrap();
            assert!((total - want).abs() < 1e-5 * want.abs().max(1.0), "{what}: cost {total}, published {want}");
            offset += n;
        }
    }
}

/// (B, Q, C) -> (2, B, Q, C); in the second layer row q is row q + 1 of the first.
fn two_layers(t: &Tensor) -> Tensor {
    let &[b, q, c] = t.shape() else { panic!("three axes") };
    let values = t.to_f64_vec();
    let mut both = values.clone();
    for image in values.chunks(q * c) {
        both.extend_from_slice(&image[c..]);
        both.extend_from_slice(&image[..c]);
    }
    Tensor::from_slice(&both, &[2, b, q, c], Device::Cpu)
}

/// The definition, of one query and one target.
fn cost(logits: &[f64], box_: &[f64], positive: &[f64], target: &[f64], weights: MatchCost) -> f64 {
    let sum: f64 = logits.iter().map(|x| x.exp()).sum();
    let probability: f64 = logits.iter().zip(positive).map(|(x, p)| x.exp() / sum * p).sum();
    let distance: f64 = box_.iter().zip(target).map(|(a, b)| (a - b).abs()).sum();
    let corners = |b: &[f64]| to_corners::<f64>(b.try_into().unwrap());
    let giou = generalized_iou(corners(box_), corners(target));
    weights.bbox * distance - weights.class * probability - weights.giou * giou
}
