use crate::golden_json;
use mdetr_train::evaluators::coco::{Detection, GroundTruth};
use mdetr_train::evaluators::{Categories, CocoEvaluator, CocoStats};
use serde::Deserialize;
use std::collections::HashMap;

#[derive(Deserialize)]
struct Annotations {
    annotations: Vec<GroundTruth>,
}

#[derive(Deserialize)]
struct Expected {
    predictions: HashMap<i64, Predictions>,
    stats: Stats,
}

#[derive(Deserialize)]
struct Predictions {
    boxes: Vec<[f32; 4]>,
    scores: Vec<f32>,
    labels: Vec<i64>,
}

#[derive(Deserialize)]
struct Stats {
    class_agnostic: [f64; 12],
    #[serde(rename = "useCats")]
    separate: [f64; 12],
}

fn table(stats: CocoStats) -> [f64; 12] {
    let CocoStats { ap, ap50, ap75, ap_small, ap_medium, ap_large, ar1, ar10, ar100, ar_small, ar_medium, ar_large } =
        stats;
    [ap, ap50, ap75, ap_small, ap_medium, ap_large, ar1, ar10, ar100, ar_small, ar_medium, ar_large]
}

#[test]
fn the_twelve_numbers_are_pycocotools() {
    let Annotations { annotations } = golden_json("evaluators/coco/annotations.json");
    let Expected { predictions, stats } = golden_json("evaluators/coco/expected.json");
    for (categories, expected) in
        [(Categories::Ignored, stats.class_agnostic), (Categories::Separate, stats.separate)]
    {
        let mut evaluator = CocoEvaluator::new(annotations.clone(), categories);
        for (&image_id, found) in &predictions {
            let detections = found.boxes.iter().zip(&found.scores).zip(&found.labels);
            let detections = detections.map(|((&bbox, &score), &label)| Detection { bbox, score, label });
            evaluator.add(image_id, detections.collect());
        }
        let computed = table(evaluator.summarize());
        for (index, (computed, expected)) in computed.iter().zip(expected).enumerate() {
            assert!(
                (computed - expected).abs() < 1e-12,
                "{categories:?}, number {index}: {computed}, expected {expected}"
            );
        }
    }
}

#[test]
fn nothing_to_find_is_minus_one() {
    let evaluator = CocoEvaluator::new(vec![], Categories::Ignored);
    assert_eq!(table(evaluator.summarize()), [-1.0; 12]);
}
