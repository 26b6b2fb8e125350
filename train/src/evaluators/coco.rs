//! Average precision and recall of boxes as COCO defines them (Lin et al., arXiv 1405.0312; pycocotools' `bbox`).
//!
//! Detections of an image, best first, each take the free ground-truth box of greatest IoU, at ten IoU thresholds from 0.5
//! to 0.95. Precision is made monotone and read at 101 recalls. Crowds and boxes outside the size range are ignored:
//! they are neither to be found nor wrong to find.

use crate::data::coco::Annotation;
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};

/// An annotated box.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct GroundTruth {
    /// The image it is in.
    pub image_id: i64,
    /// Kind of object.
    pub category_id: i64,
    /// x, y, width, height in pixels.
    pub bbox: [f64; 4],
    /// Pixels of the object, which decide its size range.
    pub area: f64,
    /// A group: may be found any number of times, or not at all. 0 or 1.
    #[serde(default)]
    pub iscrowd: u8,
}

impl From<&Annotation> for GroundTruth {
    fn from(annotation: &Annotation) -> Self {
        Self {
            image_id: annotation.image_id,
            category_id: annotation.category_id,
            bbox: annotation.bbox,
            area: annotation.area(),
            iscrowd: annotation.iscrowd.into(),
        }
    }
}

/// A predicted box.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Detection {
    /// x0, y0, x1, y1 in pixels of the original image.
    pub bbox: [f32; 4],
    /// Higher is surer.
    pub score: f32,
    /// Kind of object.
    pub label: i64,
}

/// Whether a detection must have the category of the box that it finds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Categories {
    /// All categories count as one.
    Ignored,
    /// Categories are evaluated one by one and averaged.
    Separate,
}

/// The twelve numbers of COCO's table, in [0, 1], or -1 where there is nothing to find.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CocoStats {
    /// Mean precision over thresholds 0.5 to 0.95.
    pub ap: f64,
    /// Precision at IoU 0.5.
    pub ap50: f64,
    /// Precision at IoU 0.75.
    pub ap75: f64,
    /// Of areas up to 32 x 32 pixels.
    pub ap_small: f64,
    /// Of areas from 32 x 32 to 96 x 96 pixels.
    pub ap_medium: f64,
    /// Of areas from 96 x 96 pixels.
    pub ap_large: f64,
    /// Recall with one detection an image.
    pub ar1: f64,
    /// Recall with 10 detections an image.
    pub ar10: f64,
    /// Recall with 100 detections an image.
    pub ar100: f64,
    /// Recall of small areas.
    pub ar_small: f64,
    /// Recall of medium areas.
    pub ar_medium: f64,
    /// Recall of large areas.
    pub ar_large: f64,
}

const THRESHOLDS: usize = 10;
const RECALLS: usize = 101;
const MAX_DETECTIONS: usize = 100;
/// Least and greatest area of: all, small, medium, large.
const AREAS: [[f64; 2]; 4] = [[0.0, 1e10], [0.0, 1024.0], [1024.0, 9216.0], [9216.0, 1e10]];

/// Collects detections image by image.
#[derive(Debug)]
pub struct CocoEvaluator {
    categories: Categories,
    ground_truth: BTreeMap<i64, Vec<GroundTruth>>,
    detections: BTreeMap<i64, Vec<Detection>>,
}

/// A detection of one image and category, after matching at every threshold.
struct Judged {
    score: f32,
    /// Rank among the image's detections.
    rank: usize,
    verdicts: [Verdict; THRESHOLDS],
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Right,
    Wrong,
    Ignored,
}

impl CocoEvaluator {
    /// An evaluator over the annotations of a data set. Only images that get [`Self::add`] count.
    pub fn new(mut ground_truth: Vec<GroundTruth>, categories: Categories) -> Self {
        ground_truth.sort_by_key(|truth| truth.category_id); // the order that settles ties where categories are ignored
        let mut by_image: BTreeMap<i64, Vec<GroundTruth>> = BTreeMap::new();
        for truth in ground_truth {
            by_image.entry(truth.image_id).or_default().push(truth);
        }
        Self { categories, ground_truth: by_image, detections: BTreeMap::new() }
    }

    /// Sets the detections of an image; an image without any must be added too, or what it shows is not missed.
    pub fn add(&mut self, image_id: i64, mut detections: Vec<Detection>) {
        detections.sort_by_key(|found| found.label);
        self.detections.insert(image_id, detections);
    }

    /// Matches and averages.
    pub fn summarize(&self) -> CocoStats {
        let curves: [Vec<Curve>; 4] = AREAS
            .map(|area| self.category_ids().into_iter().filter_map(|category| self.curve(category, area)).collect());
        let precision = |area: usize| mean(curves[area].iter().flat_map(|curve| curve.precision.iter().flatten()));
        let precision_at = |threshold: usize| mean(curves[0].iter().flat_map(|curve| &curve.precision[threshold]));
        let recall = |area: usize, limit: usize| mean(curves[area].iter().flat_map(|curve| &curve.recall[limit]));
        CocoStats {
            ap: precision(0),
            ap50: precision_at(0),
            ap75: precision_at(5),
            ap_small: precision(1),
            ap_medium: precision(2),
            ap_large: precision(3),
            ar1: recall(0, 0),
            ar10: recall(0, 1),
            ar100: recall(0, 2),
            ar_small: recall(1, 2),
            ar_medium: recall(2, 2),
            ar_large: recall(3, 2),
        }
    }

    /// The categories to average over; none stands for all as one.
    fn category_ids(&self) -> Vec<Option<i64>> {
        match self.categories {
            Categories::Ignored => vec![None],
            Categories::Separate => {
                let ids: BTreeSet<i64> =
                    self.ground_truth.values().flatten().map(|truth| truth.category_id).collect();
                ids.into_iter().map(Some).collect()
            }
        }
    }

    /// Precision and recall of a category, or none if the evaluated images show nothing of it in this size range.
    fn curve(&self, category: Option<i64>, area: [f64; 2]) -> Option<Curve> {
        let (mut judged, mut to_find) = (Vec::new(), 0);
        for (image_id, detections) in &self.detections {
            let truths = self.ground_truth.get(image_id).map_or(&[][..], Vec::as_slice);
            let truths: Vec<&GroundTruth> =
                truths.iter().filter(|truth| category.is_none_or(|id| id == truth.category_id)).collect();
            let detections: Vec<Detection> =
                detections.iter().filter(|found| category.is_none_or(|id| id == found.label)).copied().collect();
            to_find += truths.iter().filter(|truth| !is_ignored(truth, area)).count();
            judged.extend(judge(&truths, detections, area));
        }
        judged.sort_by(|a, b| b.score.total_cmp(&a.score));
        (to_find > 0).then(|| Curve::new(&judged, to_find))
    }
}

/// Of one category and size range.
struct Curve {
    /// At each threshold and recall.
    precision: [[f64; RECALLS]; THRESHOLDS],
    /// With 1, 10 and 100 detections an image, at each threshold.
    recall: [[f64; THRESHOLDS]; 3],
}

impl Curve {
    /// `judged` is sorted by falling score.
    fn new(judged: &[Judged], to_find: usize) -> Self {
        let outcomes = |threshold: usize, limit: usize| {
            judged.iter().filter(move |found| found.rank < limit).map(move |found| found.verdicts[threshold])
        };
        let right =
            |threshold, limit| outcomes(threshold, limit).filter(|&verdict| verdict == Verdict::Right).count();
        let recall = |limit| std::array::from_fn(|threshold| right(threshold, limit) as f64 / to_find as f64);
        Self {
            precision: std::array::from_fn(|threshold| interpolated(outcomes(threshold, MAX_DETECTIONS), to_find)),
            recall: [1, 10, MAX_DETECTIONS].map(recall),
        }
    }
}

/// Precision at recalls 0, 0.01 ... 1: the greatest at that recall or a higher one, 0 where it is never reached.
fn interpolated(verdicts: impl Iterator<Item = Verdict>, to_find: usize) -> [f64; RECALLS] {
    let (mut right, mut wrong) = (0.0, 0.0);
    let mut points: Vec<(f64, f64)> = Vec::new();
    for verdict in verdicts {
        right += f64::from(u8::from(verdict == Verdict::Right));
        wrong += f64::from(u8::from(verdict == Verdict::Wrong));
        points.push((right / to_find as f64, right / (right + wrong + f64::EPSILON)));
    }
    for index in (1..points.len()).rev() {
        points[index - 1].1 = points[index - 1].1.max(points[index].1);
    }
    std::array::from_fn(|step| {
        let first = points.partition_point(|&(recall, _)| recall < step as f64 * 0.01);
        points.get(first).map_or(0.0, |&(_, precision)| precision)
    })
}

/// Matches the detections of one image and category.
fn judge(truths: &[&GroundTruth], mut detections: Vec<Detection>, area: [f64; 2]) -> Vec<Judged> {
    detections.sort_by(|a, b| b.score.total_cmp(&a.score));
    detections.truncate(MAX_DETECTIONS);
    let mut truths: Vec<(&GroundTruth, bool)> =
        truths.iter().map(|&truth| (truth, is_ignored(truth, area))).collect();
    truths.sort_by_key(|&(_, ignored)| ignored);
    let boxes: Vec<[f64; 4]> = detections.iter().map(|found| xywh(found.bbox)).collect();
    let ious: Vec<Vec<f64>> =
        boxes.iter().map(|&found| truths.iter().map(|(truth, _)| iou(found, truth)).collect()).collect();
    let mut judged: Vec<Judged> = detections
        .iter()
        .enumerate()
        .map(|(rank, found)| Judged { score: found.score, rank, verdicts: [Verdict::Wrong; THRESHOLDS] })
        .collect();
    for threshold in 0..THRESHOLDS {
        let mut taken = vec![false; truths.len()];
        for ((found, bbox), ious) in judged.iter_mut().zip(&boxes).zip(&ious) {
            let chosen = best_free(&truths, &taken, ious, iou_threshold(threshold));
            let size = bbox[2] * bbox[3];
            found.verdicts[threshold] = match chosen {
                Some(at) if truths[at].1 => Verdict::Ignored,
                Some(_) => Verdict::Right,
                None if size < area[0] || size > area[1] => Verdict::Ignored,
                None => Verdict::Wrong,
            };
            if let Some(at) = chosen {
                taken[at] = true;
            }
        }
    }
    judged
}

/// The free ground truth of greatest IoU, the later of equals; an ignored one only if no other reaches the threshold.
/// Crowds are always free.
fn best_free(truths: &[(&GroundTruth, bool)], taken: &[bool], ious: &[f64], threshold: f64) -> Option<usize> {
    let mut best = None;
    let mut least = threshold;
    for (at, &(truth, ignored)) in truths.iter().enumerate() {
        if taken[at] && truth.iscrowd == 0 {
            continue;
        }
        if ignored && best.is_some_and(|best: usize| !truths[best].1) {
            break;
        }
        if ious[at] >= least {
            (best, least) = (Some(at), ious[at]);
        }
    }
    best
}

/// As `numpy.linspace(0.5, 0.95, 10)` rounds them.
fn iou_threshold(index: usize) -> f64 {
    if index + 1 == THRESHOLDS { 0.95 } else { 0.5 + index as f64 * ((0.95 - 0.5) / (THRESHOLDS - 1) as f64) }
}

fn is_ignored(truth: &GroundTruth, area: [f64; 2]) -> bool {
    truth.iscrowd != 0 || truth.area < area[0] || truth.area > area[1]
}

/// The subtraction is in f32, as in the published evaluator.
fn xywh([x0, y0, x1, y1]: [f32; 4]) -> [f64; 4] {
    [x0, y0, x1 - x0, y1 - y0].map(f64::from)
}

/// Intersection over union; over the detection alone where the truth is a crowd.
fn iou(found: [f64; 4], truth: &GroundTruth) -> f64 {
    let overlap = |axis: usize| {
        let end = (found[axis] + found[axis + 2]).min(truth.bbox[axis] + truth.bbox[axis + 2]);
        (end - found[axis].max(truth.bbox[axis])).max(0.0)
    };
    let intersection = overlap(0) * overlap(1);
    if intersection == 0.0 {
        return 0.0;
    }
    let area = found[2] * found[3];
    let union = if truth.iscrowd != 0 { area } else { area + truth.bbox[2] * truth.bbox[3] - intersection };
    intersection / union
}

fn mean<'a>(values: impl Iterator<Item = &'a f64>) -> f64 {
    let (sum, count) = values.fold((0.0, 0), |(sum, count), value| (sum + value, count + 1));
    if count == 0 { -1.0 } else { sum / f64::from(count) }
}
