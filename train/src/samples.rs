//! Examples as the model sees them, drawn for people.

use anyhow::Result;
use image::RgbImage;
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use serde::Serialize;

use crate::data::positive_map::soft_tokens;
use crate::data::{Dataset, Encoding, Object, Span};
use crate::draw::{Highlight, LabelledBox, annotate};

/// What a picture of [`draw`] shows.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Shown {
    /// Id of the image record.
    pub image_id: i64,
    /// Columns of pixels after the transforms.
    pub width: u32,
    /// Rows of pixels after the transforms.
    pub height: u32,
    /// The caption, after the transforms too.
    pub caption: String,
    /// How many tokens it has.
    pub tokens: usize,
    /// The boxes that are left.
    pub boxes: Vec<ShownBox>,
}

/// A box of a picture.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ShownBox {
    /// Corners in pixels after the transforms.
    #[serde(rename = "box")]
    pub xyxy: [f32; 4],
    /// What its spans say.
    pub label: String,
    /// The columns of the positive map that are set.
    pub tokens: Vec<usize>,
}

/// At most `n` of `len` indices, ascending.
pub fn choose(len: usize, n: usize, seed: u64) -> Vec<usize> {
    let mut chosen: Vec<usize> = (0..len).collect();
    chosen.shuffle(&mut ChaCha8Rng::seed_from_u64(seed));
    chosen.truncate(n);
    chosen.sort_unstable();
    chosen
}

/// The sample at `index` after its transforms: boxes with what their spans say and their tokens' numbers, the caption
/// below with the tokens that the positive map marks, a colour a phrase.
///
/// Errors: its image cannot be read.
pub fn draw(dataset: &Dataset, index: usize, epoch_seed: u64) -> Result<(RgbImage, Shown)> {
    let sample = dataset.sample(index, epoch_seed)?;
    let target = sample.target;
    let encoding = dataset.tokenizer().encode(&target.caption);
    let boxes: Vec<ShownBox> = target.objects.iter().map(|o| shown_box(o, &target.caption, &encoding)).collect();
    let mut phrases: Vec<&[Span]> = target.objects.iter().map(|o| o.tokens_positive.as_slice()).collect();
    phrases.sort_unstable();
    phrases.dedup();
    let color = |object: &Object| phrases.iter().position(|&p| p == object.tokens_positive).unwrap_or(0);
    let of_object = |(object, shown): (&Object, &ShownBox)| LabelledBox {
        xyxy: shown.xyxy,
        label: tag(shown),
        score: None,
        color: color(object),
    };
    let labelled: Vec<LabelledBox> = target.objects.iter().zip(&boxes).map(of_object).collect();
    let marked = target.objects.iter().zip(&boxes).flat_map(|(object, shown)| {
        shown.tokens.iter().map(|&token| Highlight { span: encoding.offsets[token], color: color(object) })
    });
    let picture = annotate(&sample.image, &labelled, &target.caption, &marked.collect::<Vec<_>>());
    let (width, height) = sample.image.dimensions();
    let tokens = encoding.ids.len();
    Ok((picture, Shown { image_id: target.image_id, width, height, caption: target.caption, tokens, boxes }))
}

fn shown_box(object: &Object, caption: &str, encoding: &Encoding) -> ShownBox {
    let text = |&[begin, end]: &Span| caption.chars().skip(begin).take(end - begin).collect::<String>();
    ShownBox {
        xyxy: object.bbox,
        label: object.tokens_positive.iter().map(text).collect::<Vec<_>>().join(" … "),
        tokens: soft_tokens(encoding, &object.tokens_positive),
    }
}

/// "red apple [5-6]".
fn tag(shown: &ShownBox) -> String {
    let runs = shown.tokens.chunk_by(|a, b| a + 1 == *b).map(|run| match run {
        [one] => one.to_string(),
        _ => format!("{}-{}", run[0], run[run.len() - 1]),
    });
    let runs = runs.collect::<Vec<_>>().join(" ");
    match (shown.label.as_str(), runs.as_str()) {
        ("", _) => "no words".into(),
        (label, "") => format!("{label} [no token]"),
        (label, runs) => format!("{label} [{runs}]"),
    }
}
