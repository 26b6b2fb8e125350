//! What a run leaves for people to look at.

use std::sync::Arc;

use anyhow::Result;
use image::RgbImage;
use mdetr_autograd::{Parameters, Tape};
use mdetr_kernels::Precision;
use mdetr_kernels::cuda::Cuda;
use mdetr_model::Mdetr;
use mdetr_model::postprocess::postprocess;
use serde_json::Value;

use crate::collate::Collator;
use crate::data::{Dataset, Span, Tokenizer};
use crate::draw::{Chart, Curve, Highlight, LabelledBox, Panel, curves, sheet};
use crate::grounding::{GroundOptions, ground};
use crate::tensorboard::Scalars;

/// A sheet of the first `count` scenes of a dataset with predicted (solid) and true (dashed) boxes.
pub fn scenes(
    model: &Mdetr,
    parameters: &Parameters,
    dataset: &Arc<Dataset>,
    tokenizer: &Tokenizer,
    count: usize,
) -> Result<RgbImage> {
    let collator = Collator::new(&model.config, tokenizer.pad_id());
    let panel = |index: usize| -> Result<Panel> {
        let collated = collator.collate(vec![dataset.example(index, 0)?]);
        let (record, annotations) = dataset.record(index);
        let tape = Tape::inference(parameters, parameters.device(), Precision::F32);
        let outputs = model.forward(&tape, &collated.batch);
        let size = collated.records[0].orig_size.map(|side| side as usize);
        let predictions = postprocess(&outputs.last_logits(), &outputs.last_boxes(), &[size]).remove(0);
        parameters.device().cuda().map_or(Ok(()), Cuda::check)?;
        let encoding = tokenizer.encode(&record.caption);
        let found = ground(&predictions, &record.caption, &encoding, size, &GroundOptions::default());
        let mut phrases: Vec<Span> =
            annotations.iter().filter_map(|a| a.tokens_positive.clone()?.first().copied()).collect();
        phrases.extend(found.iter().map(|d| d.span));
        phrases.sort_unstable();
        phrases.dedup();
        let color = |span: Span| phrases.iter().position(|&p| p == span).unwrap_or(0);
        let labelled = |xyxy, label: String, score, span| LabelledBox { xyxy, label, score, color: color(span) };
        let predicted = found
            .into_iter()
            .map(|d| labelled([d.bbox.xmin, d.bbox.ymin, d.bbox.xmax, d.bbox.ymax], d.label, Some(d.score), d.span));
        let truth = annotations.iter().filter_map(|a| {
            let [x, y, w, h] = a.bbox.map(|v| v as f32);
            Some(labelled([x, y, x + w, y + h], String::new(), None, *a.tokens_positive.as_ref()?.first()?))
        });
        Ok(Panel {
            image: dataset.image(index)?,
            caption: record.caption.clone(),
            highlights: phrases.iter().map(|&span| Highlight { span, color: color(span) }).collect(),
            predicted: predicted.collect(),
            truth: truth.collect(),
        })
    };
    let panels: Vec<Panel> = (0..count.min(dataset.len())).map(panel).collect::<Result<_>>()?;
    Ok(sheet(&panels, 4))
}

/// Losses, recall and AP, and the learning rate over the epochs of a log.
pub fn training_curves(log: &[Value]) -> Result<RgbImage> {
    let chart = |title: &str, keep: &dyn Fn(&str) -> bool| {
        let mut names: Vec<&String> = log.iter().filter_map(Value::as_object).flat_map(|o| o.keys()).collect();
        names.retain(|name| keep(name));
        let mut seen = std::collections::HashSet::new();
        names.retain(|name| seen.insert(*name));
        let curve = |name: &String| {
            let point = |entry: &Value| Some((entry["epoch"].as_f64()? + 1.0, entry[name.as_str()].as_f64()?));
            let short = name.trim_start_matches("train_").trim_start_matches("test_");
            Curve { name: short.to_string(), points: log.iter().filter_map(point).collect() }
        };
        Chart { title: title.into(), x_label: "epoch".into(), curves: names.into_iter().map(curve).collect() }
    };
    curves(
        &[
            chart("Training loss", &|n| n == "train_loss"),
            chart("Terms of the last decoder layer", &|n| n.starts_with("train_loss_") && is_last_layer(n)),
            chart("Phrase recall", &|n| n.starts_with("test_") && n.contains("recall@")),
            chart("Average precision", &|n| n.starts_with("test_") && (n.ends_with("_ap") || n.ends_with("_ap50"))),
            chart("Learning rate", &|n| n == "train_lr"),
            chart("Gradient norm before clipping", &|n| n == "train_grad_norm"),
        ],
        2,
    )
}

/// Loss, its terms, the gradients' norm and the learning rates over the steps of a run, as its event files have them.
pub fn step_curves(scalars: &Scalars) -> Result<RgbImage> {
    let chart = |title: &str, prefix: &str, keep: &dyn Fn(&str) -> bool| {
        let own = scalars.iter().filter_map(|(tag, points)| Some((tag.strip_prefix(prefix)?, points)));
        let curve = |(name, points): (&str, &Vec<(usize, f64)>)| Curve {
            name: name.into(),
            points: points.iter().map(|&(step, value)| (step as f64, value)).collect(),
        };
        let curves = own.filter(|(name, _)| keep(name)).map(curve).collect();
        Chart { title: title.into(), x_label: "step".into(), curves }
    };
    curves(
        &[
            chart("Training loss", "train/", &|n| n == "loss"),
            chart("Terms of the last decoder layer", "train/", &|n| n.starts_with("loss_") && is_last_layer(n)),
            chart("Learning rates", "lr/", &|_| true),
            chart("Gradient norm before clipping", "train/", &|n| n == "grad_norm"),
        ],
        2,
    )
}

/// Whether a loss is of the last decoder layer: those of the others end on their layer's number.
fn is_last_layer(name: &str) -> bool {
    !name.ends_with(|c: char| c.is_ascii_digit())
}
