//! Evaluation of a model on a dataset: class-agnostic COCO AP and phrase recall.

use std::sync::Arc;

use anyhow::Result;
use mdetr_autograd::{Parameters, Tape};
use mdetr_kernels::Precision;
use mdetr_kernels::cuda::Cuda;
use mdetr_model::Mdetr;
use mdetr_model::postprocess::{Prediction, postprocess};
use serde::Serialize;

use crate::collate::{Collated, Collator};
use crate::data::coco::{Annotation, ImageRecord};
use crate::data::positive_map::soft_tokens;
use crate::data::{Dataset, Span, Tokenizer};
use crate::evaluators::coco::{Categories, CocoEvaluator, Detection, GroundTruth};
use crate::evaluators::recall::PhraseRecall;
use crate::grounding::phrase_probability;
use crate::loader::{Loader, in_order};
use crate::progress::Progress;

/// What was measured on a dataset.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Metrics {
    /// The dataset's name.
    pub dataset: String,
    /// Images evaluated.
    pub n: usize,
    /// Images of the file that were left out as bad (`skip_bad`).
    pub n_skipped: usize,
    /// Boxes of the file that were left out, as bad or with their images.
    pub boxes_skipped: usize,
    /// Phrases with boxes.
    pub phrases: u64,
    /// Share of phrases whose best query has IoU >= 0.5 with one of their boxes.
    #[serde(rename = "recall@1")]
    pub recall_at_1: f64,
    /// Share with such a query among the best 5.
    #[serde(rename = "recall@5")]
    pub recall_at_5: f64,
    /// Share with such a query among the best 10.
    #[serde(rename = "recall@10")]
    pub recall_at_10: f64,
    /// Share with such a query at all.
    pub upper_bound: f64,
    /// COCO AP at IoU 0.50:0.95, categories ignored.
    pub ap: f64,
    /// At IoU 0.50.
    pub ap50: f64,
    /// At IoU 0.75.
    pub ap75: f64,
    /// Images evaluated in a second.
    pub images_per_second: f64,
}

/// Which caption each image is evaluated with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Captions {
    /// Its own.
    Own,
    /// Another image's, with as many phrases and none of its own: the k-th phrase of that caption stands for the image's
    /// k-th phrase. A model that finds boxes without reading scores as high as with its own captions.
    Shuffled,
}

/// How evaluation runs.
#[derive(Clone, Debug)]
pub struct EvalOptions {
    /// Images in a batch.
    pub batch_size: usize,
    /// Loader threads.
    pub workers: usize,
    /// Captions to use.
    pub captions: Captions,
    /// At most so many images.
    pub max_images: Option<usize>,
    /// What the model computes in; its parameters have the copies for it.
    pub precision: Precision,
}

/// Runs `model` with `parameters` (its own, or their moving average) over `dataset`. Stops when it is asked to.
pub fn evaluate(
    model: &Mdetr,
    parameters: &Parameters,
    name: &str,
    dataset: &Arc<Dataset>,
    tokenizer: &Tokenizer,
    options: &EvalOptions,
) -> Result<Metrics> {
    let n = dataset.len().min(options.max_images.unwrap_or(usize::MAX));
    let truth = (0..n).flat_map(|i| dataset.record(i).1.iter().map(GroundTruth::from)).collect();
    let mut coco = CocoEvaluator::new(truth, Categories::Ignored);
    let mut recall = PhraseRecall::default();
    let start = std::time::Instant::now();
    predict_all(model, parameters, name, dataset, tokenizer, options, |index, predictions, phrases| {
        coco.add(dataset.record(index).0.id, detections(predictions));
        for phrase in phrases {
            recall.add(&phrase.truth, &phrase.ranked.iter().map(|&(_, bbox)| bbox).collect::<Vec<_>>());
        }
    })?;
    let (coco, recall, report) = (coco.summarize(), recall.result(), dataset.report());
    Ok(Metrics {
        dataset: name.into(),
        n,
        n_skipped: report.images - report.good_images,
        boxes_skipped: report.annotations - report.good_annotations,
        phrases: recall.phrases,
        recall_at_1: recall.recall_at_1,
        recall_at_5: recall.recall_at_5,
        recall_at_10: recall.recall_at_10,
        upper_bound: recall.upper_bound,
        ap: coco.ap,
        ap50: coco.ap50,
        ap75: coco.ap75,
        images_per_second: n as f64 / start.elapsed().as_secs_f64(),
    })
}

/// A phrase that has boxes, and what a model makes of it.
#[derive(Clone, Debug)]
pub struct Phrase {
    /// Where the image's own caption says it.
    pub spans: Vec<Span>,
    /// Its true boxes, xyxy in pixels.
    pub truth: Vec<[f32; 4]>,
    /// Every query's probability that it means the phrase and its box, the best first.
    pub ranked: Vec<(f32, [f32; 4])>,
}

/// Gives `visit` the index, the predictions and the phrases of every image, in order, as evaluation has them.
pub fn predict_all(
    model: &Mdetr,
    parameters: &Parameters,
    name: &str,
    dataset: &Arc<Dataset>,
    tokenizer: &Tokenizer,
    options: &EvalOptions,
    mut visit: impl FnMut(usize, &[Prediction], Vec<Phrase>),
) -> Result<()> {
    let collator = Collator::new(&model.config, tokenizer.pad_id());
    let n = dataset.len().min(options.max_images.unwrap_or(usize::MAX));
    let plan = in_order(n, options.batch_size);
    let mut progress = Progress::new(&format!("evaluating {name}"), plan.len());
    for (indices, collated) in plan.iter().zip(Loader::new(dataset, &collator, plan.clone(), 0, options.workers)) {
        crate::signals::check()?;
        let collated = collated?;
        let captions: Vec<usize> = indices.iter().map(|&i| options.captions.of(i, dataset)).collect();
        let Predicted { predictions, phrases } =
            predict(model, parameters, options.precision, &collated, &captions, dataset, tokenizer, &collator)?;
        for ((&index, predictions), columns) in indices.iter().zip(&predictions).zip(&phrases) {
            visit(index, predictions, ranked_phrases(dataset.record(index), predictions, columns));
        }
        progress.step(&[]);
    }
    progress.finish();
    Ok(())
}

impl Captions {
    /// The record whose caption image `index` is evaluated with.
    fn of(self, index: usize, dataset: &Dataset) -> usize {
        match self {
            Captions::Own => index,
            Captions::Shuffled => {
                let n = dataset.len();
                let own = phrase_texts(dataset.record(index));
                let is_wrong = |other: &usize| {
                    let texts = phrase_texts(dataset.record(*other));
                    texts.len() == own.len() && texts.iter().all(|text| !own.contains(text))
                };
                (1..n).map(|step| (index + n / 2 + step) % n).find(is_wrong).unwrap_or(index)
            }
        }
    }
}

/// The phrases to ground: those that the record lists, or those that its annotations name.
fn eval_phrases((record, annotations): (&ImageRecord, &[Annotation])) -> Vec<Vec<Span>> {
    if let Some(phrases) = &record.tokens_positive_eval {
        return phrases.clone();
    }
    let mut phrases: Vec<Vec<Span>> = Vec::new();
    for spans in annotations.iter().filter_map(|a| a.tokens_positive.as_ref()) {
        if !phrases.contains(spans) {
            phrases.push(spans.clone());
        }
    }
    phrases
}

/// What the phrases say.
fn phrase_texts(record: (&ImageRecord, &[Annotation])) -> Vec<String> {
    let text = |&[begin, end]: &Span| record.0.caption.chars().skip(begin).take(end - begin).collect::<String>();
    eval_phrases(record).iter().map(|spans| spans.iter().map(text).collect::<Vec<_>>().join(" ")).collect()
}

/// Of the images of a batch.
struct Predicted {
    /// Of every query.
    predictions: Vec<Vec<Prediction>>,
    /// The token columns of every phrase of the captions.
    phrases: Vec<Vec<Vec<usize>>>,
}

/// Predictions of a batch whose images come with the captions of the records `captions`. Errors: the device failed.
#[expect(clippy::too_many_arguments, reason = "a model and how it is run, a batch and what it is made of")]
fn predict(
    model: &Mdetr,
    parameters: &Parameters,
    precision: Precision,
    collated: &Collated,
    captions: &[usize],
    dataset: &Dataset,
    tokenizer: &Tokenizer,
    collator: &Collator,
) -> Result<Predicted> {
    let encodings: Vec<_> = captions.iter().map(|&i| tokenizer.encode(&dataset.record(i).0.caption)).collect();
    let phrases = captions.iter().zip(&encodings).map(|(&i, encoding)| {
        eval_phrases(dataset.record(i)).iter().map(|spans| soft_tokens(encoding, spans)).collect()
    });
    let text = collator.text(&encodings.iter().collect::<Vec<_>>());
    let cuda = parameters.device().cuda();
    cuda.into_iter().for_each(Cuda::begin_step);
    let tape = Tape::inference(parameters, parameters.device(), precision);
    let images = model.network.encode_images(&tape, &collated.batch.images, &collated.batch.image_sizes);
    let outputs = model.network.predict(&images, &model.network.encode_text(&tape, &text), &text);
    cuda.into_iter().for_each(Cuda::end_step);
    let sizes: Vec<[usize; 2]> =
        collated.records.iter().map(|target| target.orig_size.map(|side| side as usize)).collect();
    let predictions = postprocess(&outputs.last_logits(), &outputs.last_boxes(), &sizes);
    cuda.map_or(Ok(()), Cuda::check)?;
    Ok(Predicted { predictions, phrases: phrases.collect() })
}

fn detections(predictions: &[Prediction]) -> Vec<Detection> {
    let detection = |p: &Prediction| Detection { score: p.score, label: 1, bbox: p.bbox };
    predictions.iter().map(detection).collect()
}

/// The phrases that have boxes, with the queries ranked for each by the probability of its token columns.
fn ranked_phrases(
    (record, annotations): (&ImageRecord, &[Annotation]),
    predictions: &[Prediction],
    columns: &[Vec<usize>],
) -> Vec<Phrase> {
    let phrase = |(spans, columns): (Vec<Span>, &Vec<usize>)| {
        let names = |a: &&Annotation| a.tokens_positive.as_ref().is_some_and(|t| t.iter().any(|s| spans.contains(s)));
        let truth: Vec<[f32; 4]> = annotations.iter().filter(names).map(|a| xyxy(a.bbox)).collect();
        let mut ranked: Vec<_> = predictions.iter().map(|p| (phrase_probability(p, columns), p.bbox)).collect();
        ranked.sort_by(|a, b| b.0.total_cmp(&a.0));
        (!truth.is_empty()).then_some(Phrase { spans, truth, ranked })
    };
    eval_phrases((record, annotations)).into_iter().zip(columns).filter_map(phrase).collect()
}

fn xyxy([x, y, w, h]: [f64; 4]) -> [f32; 4] {
    [x, y, x + w, y + h].map(|v| v as f32)
}
