//! From a query's token probabilities to words of the caption.

use mdetr_model::box_ops::nms;
use mdetr_model::postprocess::Prediction;
use serde::Serialize;

use crate::data::{Encoding, Span};

/// What is kept of the predictions for an image and a caption.
#[derive(Clone, Debug, PartialEq)]
pub struct GroundOptions {
    /// A query is kept when its score is above this.
    pub threshold: f32,
    /// A query means the tokens with a probability above this (or above half of its largest one).
    pub text_threshold: f32,
    /// Keeps the best so many instead of those above the threshold.
    pub top_k: Option<usize>,
    /// Drops boxes that overlap a better one of the same label by more than this IoU.
    pub nms: Option<f32>,
    /// Grounds a caption that is longer than the model reads in parts, and what all parts find is ranked together.
    pub chunk: bool,
}

impl Detection {
    /// The same in a text that has `code_points` more in front.
    pub fn shifted(mut self, code_points: usize) -> Self {
        let shift = |span: Span| span.map(|at| at + code_points);
        self.span = shift(self.span);
        self.spans.iter_mut().for_each(|span| *span = shift(*span));
        self
    }
}

impl Default for GroundOptions {
    fn default() -> Self {
        GroundOptions { threshold: 0.7, text_threshold: 0.1, top_k: None, nms: None, chunk: false }
    }
}

/// A box in pixels of the original image, upright.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct PixelBox {
    /// Left.
    pub xmin: f32,
    /// Top.
    pub ymin: f32,
    /// Right.
    pub xmax: f32,
    /// Bottom.
    pub ymax: f32,
}

/// A found object, as Hugging Face's zero-shot-object-detection pipeline prints it, with the spans besides.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Detection {
    /// 1 - P(no object); for a given phrase, the probability of its tokens.
    pub score: f32,
    /// The words of the caption that it means most: `caption[span]`.
    pub label: String,
    /// Where it is.
    #[serde(rename = "box")]
    pub bbox: PixelBox,
    /// Code points of `label` in the caption.
    pub span: Span,
    /// Code points of all words that it means.
    pub spans: Vec<Span>,
}

/// Objects that the predictions find, the best score first. `size` is the original (height, width).
pub fn ground(
    predictions: &[Prediction],
    caption: &str,
    encoding: &Encoding,
    size: [usize; 2],
    options: &GroundOptions,
) -> Vec<Detection> {
    best(named_objects(predictions, caption, encoding, size, options), options)
}

/// The queries that mean words of the caption, in their order.
pub fn named_objects(
    predictions: &[Prediction],
    caption: &str,
    encoding: &Encoding,
    size: [usize; 2],
    options: &GroundOptions,
) -> Vec<Detection> {
    let words = words(caption);
    let detections = predictions.iter().filter(|p| options.top_k.is_some() || p.score > options.threshold);
    let detections = detections.filter_map(|p| {
        let (span, spans) = meant_spans(p, &words, caption, encoding, options.text_threshold)?;
        Some(Detection { score: p.score, label: slice(caption, span), bbox: clipped(p, size), span, spans })
    });
    detections.collect()
}

/// The queries that mean one phrase, given as spans, scored by the probability of its tokens (`columns`), in their order.
pub fn phrase_objects(
    predictions: &[Prediction],
    caption: &str,
    spans: &[Span],
    columns: &[usize],
    size: [usize; 2],
    options: &GroundOptions,
) -> Vec<Detection> {
    let Some(&span) = spans.first() else { return Vec::new() };
    let detections = predictions.iter().map(|p| Detection {
        score: phrase_probability(p, columns),
        label: slice(caption, span),
        bbox: clipped(p, size),
        span,
        spans: spans.to_vec(),
    });
    detections.filter(|d| options.top_k.is_some() || d.score > options.threshold).collect()
}

/// The best first, without those that others suppress, at most `top_k`.
pub fn best(mut detections: Vec<Detection>, options: &GroundOptions) -> Vec<Detection> {
    detections.sort_by(|a, b| b.score.total_cmp(&a.score));
    if let Some(threshold) = options.nms {
        detections = suppressed(detections, threshold);
    }
    detections.truncate(options.top_k.unwrap_or(usize::MAX));
    detections
}

/// The probability that a query means one of a phrase's tokens.
pub fn phrase_probability(prediction: &Prediction, columns: &[usize]) -> f32 {
    columns.iter().filter_map(|&c| prediction.token_probabilities.get(c)).sum()
}

/// Non-maximum suppression among detections of one label.
fn suppressed(detections: Vec<Detection>, threshold: f32) -> Vec<Detection> {
    let keep = |label: &str| {
        let own: Vec<usize> = (0..detections.len()).filter(|&i| detections[i].label == label).collect();
        let corners = |i: &usize| {
            let b = detections[*i].bbox;
            [b.xmin, b.ymin, b.xmax, b.ymax]
        };
        let scores: Vec<f32> = own.iter().map(|&i| detections[i].score).collect();
        let kept = nms(&own.iter().map(corners).collect::<Vec<_>>(), &scores, threshold);
        kept.into_iter().map(|k| own[k]).collect::<Vec<_>>()
    };
    let labels: std::collections::BTreeSet<&str> = detections.iter().map(|d| d.label.as_str()).collect();
    let mut kept: Vec<usize> = labels.into_iter().flat_map(keep).collect();
    kept.sort_unstable();
    kept.into_iter().map(|i| detections[i].clone()).collect()
}

fn clipped(prediction: &Prediction, [height, width]: [usize; 2]) -> PixelBox {
    let [x0, y0, x1, y1] = prediction.bbox;
    let clip = |v: f32, limit: usize| v.clamp(0.0, limit as f32);
    PixelBox { xmin: clip(x0, width), ymin: clip(y0, height), xmax: clip(x1, width), ymax: clip(y1, height) }
}

fn slice(caption: &str, [start, end]: Span) -> String {
    caption.chars().skip(start).take(end - start).collect()
}

/// Words of a caption in code points: runs without white space and punctuation, which a hyphen or an apostrophe between
/// two of their characters does not end.
fn words(caption: &str) -> Vec<Span> {
    let chars: Vec<char> = caption.chars().collect();
    let is_word = |i: usize| chars.get(i).is_some_and(|c| !c.is_whitespace() && !is_punctuation(*c));
    let joins = |i: usize| matches!(chars[i], '-' | '\'' | '’') && i > 0 && is_word(i - 1) && is_word(i + 1);
    let mut words = Vec::new();
    let mut start = None;
    for i in 0..=chars.len() {
        match (start, i < chars.len() && (is_word(i) || joins(i))) {
            (None, true) => start = Some(i),
            (Some(s), false) => {
                words.push([s, i]);
                start = None;
            }
            _ => {}
        }
    }
    words
}

fn is_punctuation(c: char) -> bool {
    c.is_ascii_punctuation() || matches!(c, '\u{2010}'..='\u{2027}' | '\u{3001}'..='\u{3003}' | '«' | '»' | '¿' | '¡')
}

/// The words that a query means, joined where only white space separates them, and of these runs the one with the most
/// probability; `None` when it means no word.
fn meant_spans(
    prediction: &Prediction,
    words: &[Span],
    caption: &str,
    encoding: &Encoding,
    text_threshold: f32,
) -> Option<(Span, Vec<Span>)> {
    let tokens: Vec<(Span, f32)> = encoding
        .offsets
        .iter()
        .zip(&prediction.token_probabilities)
        .filter(|([start, end], _)| start < end) // special tokens cover nothing
        .map(|(&span, &p)| (span, p))
        .collect();
    let largest = tokens.iter().map(|(_, p)| *p).fold(0.0, f32::max);
    let chosen = tokens.iter().filter(|(_, p)| *p > text_threshold || *p > largest / 2.0);
    let mut mass = vec![0.0f32; words.len()];
    let mut is_meant = vec![false; words.len()];
    for (token, p) in chosen {
        if let Some(word) = words.iter().position(|w| w[0] < token[1] && token[0] < w[1]) {
            mass[word] += p;
            is_meant[word] = true;
        }
    }
    let chars: Vec<char> = caption.chars().collect();
    let mut runs: Vec<(Span, f32)> = Vec::new();
    for (i, word) in words.iter().enumerate().filter(|(i, _)| is_meant[*i]) {
        match runs.last_mut() {
            Some((run, p)) if chars[run[1]..word[0]].iter().all(|c| c.is_whitespace()) => {
                run[1] = word[1];
                *p += mass[i];
            }
            _ => runs.push((*word, mass[i])),
        }
    }
    let best = runs.iter().copied().reduce(|best, run| if run.1 > best.1 { run } else { best })?.0;
    Some((best, runs.into_iter().map(|(span, _)| span).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Tokenizer;

    fn prediction(score: f32, tokens: &[(usize, f32)], x: f32) -> Prediction {
        let mut token_probabilities = vec![0.0; 255];
        tokens.iter().for_each(|&(t, p)| token_probabilities[t] = p);
        Prediction { score, bbox: [x, -5.0, x + 20.0, 30.0], token_probabilities }
    }

    fn labels(caption: &str, tokens: &[(&str, f32)]) -> (String, Vec<String>) {
        let encoding = Tokenizer::roberta_base().encode(caption);
        let at = |part: &str| {
            let byte = caption.find(part).expect("a part of the caption");
            encoding.char_to_token(caption[..byte].chars().count()).expect("a token")
        };
        let tokens: Vec<_> = tokens.iter().map(|(part, p)| (at(part), *p)).collect();
        let found =
            ground(&[prediction(0.9, &tokens, 0.0)], caption, &encoding, [100, 100], &GroundOptions::default());
        assert_eq!(slice(caption, found[0].span), found[0].label);
        (found[0].label.clone(), found[0].spans.iter().map(|&s| slice(caption, s)).collect())
    }

    #[test]
    fn tokens_become_words() {
        let all = |parts: &[&str]| parts.iter().map(|s| s.to_string()).collect::<Vec<_>>();
        for (caption, tokens, label, spans) in [
            ("a dog, a red apple and a bus", vec![("red", 0.4), ("apple", 0.5)], "red apple", all(&["red apple"])),
            ("a dog, cat", vec![("dog", 0.3), ("cat", 0.6)], "cat", all(&["dog", "cat"])),
            ("an unbelievable thing.", vec![("thing", 0.9), (".", 0.3)], "thing", all(&["thing"])),
            ("a well-known man's hat", vec![("known", 0.9)], "well-known", all(&["well-known"])),
            ("two 🍎 here", vec![("🍎", 0.9)], "🍎", all(&["🍎"])),
            ("a dog and a bus", vec![("dog", 0.08), ("bus", 0.05)], "dog", all(&["dog", "bus"])),
            ("a dog and a bus", vec![("dog", 0.09), ("bus", 0.04)], "dog", all(&["dog"])),
        ] {
            assert_eq!(labels(caption, &tokens), (label.to_string(), spans), "{caption}");
        }
    }

    #[test]
    fn thresholds_order_and_suppression() {
        let encoding = Tokenizer::roberta_base().encode("a dog");
        let predictions = [
            prediction(0.8, &[(2, 0.8)], 0.0),
            prediction(0.9, &[(2, 0.9)], 1.0),
            prediction(0.6, &[(2, 0.6)], 90.0),
        ];
        let run = |options: GroundOptions| {
            let found = ground(&predictions, "a dog", &encoding, [20, 100], &options);
            found.iter().map(|d| d.score).collect::<Vec<_>>()
        };
        assert_eq!(run(GroundOptions::default()), [0.9, 0.8]);
        assert_eq!(run(GroundOptions { top_k: Some(3), ..Default::default() }), [0.9, 0.8, 0.6]);
        assert_eq!(run(GroundOptions { nms: Some(0.5), ..Default::default() }), [0.9]);
        assert_eq!(run(GroundOptions { nms: Some(0.5), top_k: Some(2), ..Default::default() }), [0.9, 0.6]);
        let found = ground(&predictions, "a dog", &encoding, [20, 100], &GroundOptions::default());
        assert_eq!((found[0].bbox.ymin, found[0].bbox.ymax), (0.0, 20.0), "clipped to the image");
    }

    #[test]
    fn nothing_is_found_in_an_empty_caption() {
        let encoding = Tokenizer::roberta_base().encode("");
        let found = ground(&[prediction(0.9, &[(0, 0.9)], 0.0)], "", &encoding, [9, 9], &GroundOptions::default());
        assert!(found.is_empty());
    }
}
