//! A loaded model with its tokenizer, and the grounding of pairs of images and captions with it.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use image::RgbImage;
use mdetr_autograd::{Tape, Var};
use mdetr_kernels::Precision;
use mdetr_kernels::cuda::Cuda;
use mdetr_model::batch::{Packing, Text};
use mdetr_model::mdetr::ImageFeatures;
use mdetr_model::postprocess::postprocess;
use mdetr_model::{Batch, Mdetr};

use crate::checkpoint::Weights;
use crate::chunks::{chunks, lost_words};
use crate::collate::Collator;
use crate::config::RunConfig;
use crate::data::check::span_problem;
use crate::data::image::{normalize, read, read_upright};
use crate::data::positive_map::{USABLE_TOKENS, soft_tokens};
use crate::data::resize::resize;
use crate::data::transforms::size_with_aspect_ratio;
use crate::data::{Encoding, Span, Tokenizer};
use crate::draw::{Highlight, LabelledBox, annotate};
use crate::grounding::{Detection, GroundOptions, best, named_objects, phrase_objects};

/// A model ready for images and captions.
pub struct Session {
    /// The model.
    pub model: Mdetr,
    config: RunConfig,
    tokenizer: Arc<Tokenizer>,
    collator: Collator,
    precision: Precision,
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
        Ok(Session { model, config, tokenizer, collator, precision: Precision::F32 })
    }

    /// The same with a model that computes in `precision`.
    pub fn with_precision(mut self, precision: Precision) -> Self {
        self.model.parameters.set_precision(precision);
        Session { precision, ..self }
    }

    /// A tape for inference.
    pub fn tape(&self) -> Tape<'_> {
        Tape::inference(&self.model.parameters, self.model.parameters.device(), self.precision)
    }

    /// One image, as the published program reads it, and its caption as a batch.
    pub fn batch(&self, image: &Path, caption: &str) -> Result<Batch> {
        let (images, image_sizes) = self.prepare(read(image)?);
        Ok(Batch { images, image_sizes, text: self.encode(caption)?.1, packing: Packing::Exact })
    }

    /// Takes the image, so that a large one is gone before the network runs.
    fn prepare(&self, image: RgbImage) -> (mdetr_kernels::Tensor, Vec<[usize; 2]>) {
        let data = &self.config.data;
        let (w, h) = size_with_aspect_ratio(image.width(), image.height(), data.val_scale, Some(data.max_size));
        let pixels = normalize(&resize(&image, w, h));
        self.collator.images(&[(&pixels, [h as usize, w as usize])])
    }

    fn encode(&self, caption: &str) -> Result<(Encoding, Text)> {
        let encoding = self.tokenizer.encode(caption);
        if let Some(lost) = lost_words(caption, &encoding, self.max_tokens()) {
            bail!("{lost}: shorten it, or let `mdetr ground --chunk` split it");
        }
        let text = self.collator.text(&[&encoding]);
        Ok((encoding, text))
    }

    /// The longest caption that can be grounded, in tokens.
    fn max_tokens(&self) -> usize {
        self.model.config.max_tokens().min(USABLE_TOKENS)
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
        let spans = match self {
            Query::Span(span) => match span_problem(*span, caption) {
                Some((_, problem)) => bail!("--span {}:{}: {problem}", span[0], span[1]),
                None => vec![*span],
            },
            Query::Phrase(phrase) => {
                ensure!(!phrase.trim().is_empty(), "the phrase {phrase:?} is blank: give words of the caption");
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
    /// Of the upright image, in pixels.
    pub width: usize,
    /// Of the upright image, in pixels.
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
    texts: HashMap<String, Vec<Part<'t>>>,
    image: Option<(PathBuf, [usize; 2], ImageFeatures<'t>)>,
}

/// A part of a caption that the model reads at once: all of it, unless it is long.
struct Part<'t> {
    /// Code points of the caption.
    span: Span,
    caption: String,
    encoding: Encoding,
    text: Text,
    features: Var<'t>,
}

impl Part<'_> {
    /// Of spans of the caption, those that reach into this part, and what of them lies here, counted from its start.
    fn inside(&self, spans: &[Span]) -> (Vec<Span>, Vec<Span>) {
        let [begin, end] = self.span;
        let reaching = spans.iter().filter(|span| span[0] < end && begin < span[1]);
        reaching.map(|span| (*span, span.map(|at| at.clamp(begin, end) - begin))).unzip()
    }
}

impl<'t> Grounder<'t> {
    /// With the tape of `session`.
    pub fn new(session: &'t Session, tape: &'t Tape<'t>, options: GroundOptions, queries: Vec<Query>) -> Self {
        Grounder { session, tape, options, queries, texts: HashMap::new(), image: None }
    }

    /// Finds what `caption` names in the image at `path`, turned upright: so are the boxes.
    ///
    /// With [`GroundOptions::chunk`], the parts of a long caption are grounded one by one. What they find is ranked, suppressed and
    /// cut off together; a span that a part's border cuts is looked for in both.
    pub fn ground(&mut self, path: &Path, caption: &str) -> Result<Found> {
        let network = &self.session.model.network;
        let queries: Vec<Vec<Span>> = self.queries.iter().map(|q| q.spans(caption)).collect::<Result<_>>()?;
        if !self.texts.contains_key(caption) {
            self.texts.insert(caption.to_string(), self.parts(caption)?);
        }
        if self.image.as_ref().is_none_or(|(known, ..)| known != path) {
            let rgb = read_upright(path)?;
            let size = [rgb.height() as usize, rgb.width() as usize];
            let (images, sizes) = self.session.prepare(rgb);
            let features = network.encode_images(self.tape, &images, &sizes);
            self.image = Some((path.to_path_buf(), size, features));
        }
        let Some((_, size, image)) = &self.image else { unreachable!("it was just made") };
        let mut named = Vec::new();
        let mut asked = vec![Vec::new(); queries.len()];
        for part in &self.texts[caption] {
            let outputs = network.predict(image, &part.features, &part.text);
            let predictions = postprocess(&outputs.last_logits(), &outputs.last_boxes(), &[*size]).remove(0);
            self.tape.device().cuda().map_or(Ok(()), Cuda::check)?;
            if queries.is_empty() {
                let found = named_objects(&predictions, &part.caption, &part.encoding, *size, &self.options);
                named.extend(found.into_iter().map(|detection| detection.shifted(part.span[0])));
            }
            for (spans, asked) in queries.iter().zip(&mut asked) {
                let (spans, inside) = part.inside(spans);
                let columns = soft_tokens(&part.encoding, &inside);
                asked.extend(phrase_objects(&predictions, caption, &spans, &columns, *size, &self.options));
            }
        }
        let detections = std::iter::once(named).chain(asked).flat_map(|found| best(found, &self.options)).collect();
        Ok(Found { width: size[1], height: size[0], detections })
    }

    fn parts(&self, caption: &str) -> Result<Vec<Part<'t>>> {
        let Session { tokenizer, .. } = self.session;
        let limit = self.session.max_tokens();
        let spans = match self.options.chunk && tokenizer.encode(caption).ids.len() > limit {
            true => chunks(caption, tokenizer, limit)?,
            false => vec![[0, caption.chars().count()]],
        };
        let part = |span: Span| {
            let caption: String = caption.chars().skip(span[0]).take(span[1] - span[0]).collect();
            let (encoding, text) = self.session.encode(&caption)?;
            let features = self.session.model.network.encode_text(self.tape, &text);
            Ok(Part { span, caption, encoding, text, features })
        };
        spans.into_iter().map(part).collect()
    }
}

impl Found {
    /// The image at `path`, upright, with the boxes, a colour a phrase, and the caption below.
    pub fn picture(&self, path: &Path, caption: &str) -> Result<RgbImage> {
        let image = read_upright(path).with_context(|| "drawing the boxes")?;
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
