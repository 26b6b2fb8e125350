//! Where a model is most wrong: phrases that it is sure of, with a box that is elsewhere.

use std::sync::Arc;

use anyhow::Result;
use image::RgbImage;
use mdetr_model::Mdetr;
use mdetr_model::box_ops::iou;

use crate::data::{Dataset, Span, Tokenizer};
use crate::draw::{Highlight, LabelledBox, Panel, sheet};
use crate::evaluate::{EvalOptions, Phrase, predict_all};

/// Least IoU of a box that grounds its phrase.
const MIN_IOU: f32 = 0.5;
/// Columns of the sheet.
const COLUMNS: usize = 4;

/// A phrase whose best box is wrong.
#[derive(Clone, Debug)]
struct Mistake {
    index: usize,
    spans: Vec<Span>,
    probability: f32,
    bbox: [f32; 4],
    truth: Vec<[f32; 4]>,
    /// The largest with a true box.
    iou: f32,
}

impl Mistake {
    fn of(index: usize, phrase: Phrase) -> Option<Self> {
        let &(probability, bbox) = phrase.ranked.first()?;
        let iou = phrase.truth.iter().map(|&truth| iou(bbox, truth)).fold(0.0, f32::max);
        let Phrase { spans, truth, .. } = phrase;
        (iou < MIN_IOU).then_some(Mistake { index, spans, probability, bbox, truth, iou })
    }

    /// How sure the model is of how wrong a box.
    fn severity(&self) -> f32 {
        self.probability * (1.0 - self.iou)
    }

    fn panel(&self, dataset: &Dataset) -> Result<Panel> {
        let caption = dataset.record(self.index).0.caption.clone();
        let words = |&[begin, end]: &Span| caption.chars().skip(begin).take(end - begin).collect::<String>();
        let label = self.spans.iter().map(words).collect::<Vec<_>>().join(" ");
        let boxed = |xyxy, label, score| LabelledBox { xyxy, label, score, color: 0 };
        Ok(Panel {
            image: dataset.image(self.index)?,
            highlights: self.spans.iter().map(|&span| Highlight { span, color: 0 }).collect(),
            predicted: vec![boxed(self.bbox, label, Some(self.probability))],
            truth: self.truth.iter().map(|&xyxy| boxed(xyxy, String::new(), None)).collect(),
            caption,
        })
    }
}

/// The worst mistakes of a model on a dataset.
pub struct Mistakes {
    /// Phrases looked at.
    pub phrases: usize,
    /// Phrases whose best box has an IoU below 0.5 with all of its true boxes.
    pub wrong: usize,
    /// The worst, each with the box that the model prefers for the phrase (solid) and the true ones (dashed).
    pub sheet: RgbImage,
}

/// Finds the `count` worst mistakes, at most one a phrase.
///
/// # Errors
/// If an image cannot be read, or the device fails.
pub fn worst(
    model: &Mdetr,
    name: &str,
    dataset: &Arc<Dataset>,
    tokenizer: &Tokenizer,
    options: &EvalOptions,
    count: usize,
) -> Result<Mistakes> {
    let (mut phrases, mut mistakes) = (0, Vec::new());
    predict_all(model, &model.parameters, name, dataset, tokenizer, options, |index, _, of_image| {
        phrases += of_image.len();
        mistakes.extend(of_image.into_iter().filter_map(|phrase| Mistake::of(index, phrase)));
    })?;
    let wrong = mistakes.len();
    mistakes.sort_by(|a, b| b.severity().total_cmp(&a.severity()));
    mistakes.truncate(count);
    let panels: Vec<Panel> = mistakes.iter().map(|mistake| mistake.panel(dataset)).collect::<Result<_>>()?;
    Ok(Mistakes { phrases, wrong, sheet: sheet(&panels, COLUMNS) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mistake_is_as_bad_as_the_model_is_sure_and_the_box_far_off() {
        let truth = [0.0, 0.0, 10.0, 10.0];
        let mistake = |probability, bbox| {
            let phrase = Phrase { spans: vec![[0, 1]], truth: vec![truth], ranked: vec![(probability, bbox)] };
            Mistake::of(0, phrase)
        };
        assert!(mistake(1.0, [0.0, 0.0, 10.0, 5.0]).is_none(), "an IoU of 0.5 is right");
        let severity = |probability, bbox| mistake(probability, bbox).unwrap().severity();
        assert!((severity(0.8, [0.0, 0.0, 10.0, 4.0]) - 0.48).abs() < 1e-6);
        assert_eq!(severity(0.7, [20.0, 20.0, 30.0, 30.0]), 0.7);
    }
}
