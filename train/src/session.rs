//! A loaded model with its tokenizer, and the grounding of pairs of images and captions with it.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use image::RgbImage;
use mdetr_autograd::{Tape, Var};
use mdetr_kernels::Precision;
use mdetr_kernels::cuda::Cuda;
use mdetr_model::batch::Text;
use mdetr_model::mdetr::{ImageFeatures, TOKEN_COLUMNS};
use mdetr_model::postprocess::postprocess;
use mdetr_model::{Batch, Mdetr};

use crate::checkpoint::Weights;
use crate::collate::Collator;
use crate::config::RunConfig;
use crate::data::image::{normalize, read};
use crate::data::positive_map::soft_tokens;
use crate::data::resize::resize;
use crate::data::transforms::size_with_aspect_ratio;
use crate::data::{Encoding, Span, Tokenizer};
use crate::draw::{Highlight, LabelledBox, annotate};
use crate::grounding::{Detection, GroundOptions, ground, ground_phrase};

/// A model ready for images and captions.
pub struct Session {
    /// The model.
    pub model: Mdetr,
    config: RunConfig,
    tokenizer: Arc<Tokenizer>,
    collator: Collator,
}

impl Session {
    /// A checkpoint, or the folder of a run. `tokenizer` replaces RoBERTa's.
    pub fn open(checkpoint: &Path, weights: Weights, tokenizer: Option<&Path>) -> Result<Self> {
        let (config, model) = crate::checkpoint::read(checkpoint, weights)?;
        Self::new(model, config, tokenizer)
    }

    /// A model whose images are prepared as `config` says.
    pub fn new(model: Mdetr, config: RunConfig, tokenizer: Option<&Path>) -> Result<Self> {
        let tokenizer = match tokenizer {
            Some(dir) => Arc::new(Tokenizer::from_files(&dir.join("vocab.json"), &dir.join("merges.txt"))?),
            None => Tokenizer::roberta_base(),
        };
        let text = model.config.text();
        ensure!(
            !text.vocabulary.is_empty() || tokenizer.vocab_size() <= text.vocab_size,
            "the tokenizer has {} tokens, the text encoder {}: give the folder of its own tokenizer",
            tokenizer.vocab_size(),
            text.vocab_size
        );
        let collator = Collator::new(&model.config, tokenizer.pad_id());
        Ok(Session { model, config, tokenizer, collator })
    }

    /// A tape for inference.
    pub fn tape(&self) -> Tape<'_> {
        Tape::inference(&self.model.parameters, self.model.parameters.device(), Precision::F32)
    }

    /// One image and its caption as a batch, and the image.
    pub fn batch(&self, image: &Path, caption: &str) -> Result<(Batch, RgbImage)> {
        let rgb = read(image)?;
        let (images, image_sizes) = self.prepare(&rgb);
        Ok((Batch { images, image_sizes, text: self.encode(caption)?.1 }, rgb))
    }

    fn prepare(&self, image: &RgbImage) -> (mdetr_kernels::Tensor, Vec<[usize; 2]>) {
        let data = &self.config.data;
        let (w, h) = size_with_aspect_ratio(image.width(), image.height(), data.val_scale, Some(data.max_size));
        let pixels = normalize(&resize(image, w, h));
        Collator::images(&[(&pixels, [h as usize, w as usize])])
    }

    fn encode(&self, caption: &str) -> Result<(Encoding, Text)> {
        let encoding = self.tokenizer.encode(caption);
        let limit = self.model.network.max_tokens().min(TOKEN_COLUMNS - 1);
        ensure!(
            encoding.ids.len() <= limit,
            "the caption has {} tokens, at most {limit} can be grounded: shorten it, or split it into several (it starts {:?})",
            encoding.ids.len(),
            caption.chars().take(40).collect::<String>()
        );
        let text = self.collator.text(&[&encoding]);
        Ok((encoding, text))
    }
}

/// What is looked for in an image instead of all that the caption names.
#[derive(Clone, Debug)]
pub enum Query {
    /// Every occurrence of a part of the caption.
    Phrase(String),
    /// A range of its code points.
    Span(Span),
}

impl Query {
    fn spans(&self, caption: &str) -> Result<Vec<Span>> {
        let length = caption.chars().count();
        let spans = match self {
            Query::Span([start, end]) => {
                ensure!(*end <= length, "the span {start}:{end} is not within the caption's {length} code points");
                vec![[*start, *end]]
            }
            Query::Phrase(phrase) => {
                let chars = phrase.chars().count();
                let at = |byte: usize| caption[..byte].chars().count();
                caption.match_indices(phrase.as_str()).map(|(byte, _)| [at(byte), at(byte) + chars]).collect()
            }
        };
        ensure!(!spans.is_empty(), "the caption {caption:?} does not hold the phrase {self:?}");
        Ok(spans)
    }
}

/// What an image holds of a caption.
#[derive(Clone, Debug)]
pub struct Found {
    /// Of the original image, in pixels.
    pub width: usize,
    /// Of the original image, in pixels.
    pub height: usize,
    /// The objects, best first; phrase by phrase when phrases were asked for.
    pub detections: Vec<Detection>,
}

/// Grounds pairs. Text is encoded once a caption, and an image once for the captions that follow each other.
pub struct Grounder<'t> {
    session: &'t Session,
    tape: &'t Tape<'t>,
    options: GroundOptions,
    queries: Vec<Query>,
    texts: HashMap<String, (Encoding, Text, Var<'t>)>,
    image: Option<(PathBuf, [usize; 2], ImageFeatures<'t>)>,
}

impl<'t> Grounder<'t> {
    /// With the tape of `session`.
    pub fn new(session: &'t Session, tape: &'t Tape<'t>, options: GroundOptions, queries: Vec<Query>) -> Self {
        Grounder { session, tape, options, queries, texts: HashMap::new(), image: None }
    }

    /// Finds what `caption` names in the image at `path`.
    pub fn ground(&mut self, path: &Path, caption: &str) -> Result<Found> {
        let network = &self.session.model.network;
        if !self.texts.contains_key(caption) {
            let (encoding, text) = self.session.encode(caption)?;
            let features = network.encode_text(self.tape, &text);
            self.texts.insert(caption.to_string(), (encoding, text, features));
        }
        if self.image.as_ref().is_none_or(|(known, ..)| known != path) {
            let rgb = read(path)?;
            let (images, sizes) = self.session.prepare(&rgb);
            let features = network.encode_images(self.tape, &images, &sizes);
            self.image = Some((path.to_path_buf(), [rgb.height() as usize, rgb.width() as usize], features));
        }
        let (Some((_, size, image)), (encoding, text, features)) = (&self.image, &self.texts[caption]) else {
            unreachable!("both were just made")
        };
        let outputs = network.predict(image, features, text);
        let predictions = postprocess(&outputs.last_logits(), &outputs.last_boxes(), &[*size]).remove(0);
        self.tape.device().cuda().map_or(Ok(()), Cuda::check)?;
        let mut detections = Vec::new();
        if self.queries.is_empty() {
            detections = ground(&predictions, caption, encoding, *size, &self.options);
        }
        for query in &self.queries {
            let spans = query.spans(caption)?;
            let columns = soft_tokens(encoding, &spans);
            detections.extend(ground_phrase(&predictions, caption, &spans, &columns, *size, &self.options));
        }
        Ok(Found { width: size[1], height: size[0], detections })
    }
}

impl Found {
    /// The image at `path` with the boxes, a colour a phrase, and the caption below.
    pub fn picture(&self, path: &Path, caption: &str) -> Result<RgbImage> {
        let image = read(path).with_context(|| "drawing the boxes")?;
        let mut phrases: Vec<Span> = self.detections.iter().map(|d| d.span).collect();
        phrases.sort_unstable();
        phrases.dedup();
        let color = |span: Span| phrases.iter().position(|&p| p == span).unwrap_or(0);
        let boxes: Vec<LabelledBox> = self
            .detections
            .iter()
            .map(|d| LabelledBox {
                xyxy: [d.bbox.xmin, d.bbox.ymin, d.bbox.xmax, d.bbox.ymax],
                label: d.label.clone(),
                score: Some(d.score),
                color: color(d.span),
            })
            .collect();
        let highlights: Vec<Highlight> = phrases.iter().map(|&span| Highlight { span, color: color(span) }).collect();
        Ok(annotate(&image, &boxes, caption, &highlights))
    }
}
