//! MDETR's annotation files (COCO's layout, one image record a caption) and the examples made from them.

use super::image::{normalize, read};
use super::positive_map::{soft_tokens, span_tokens};
use super::problems::Problems;
use super::transforms::Sample;
use super::{Encoding, Span, Target, Tokenizer, TransformConfig};
use ::image::RgbImage;
use anyhow::{Context, Result};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use serde::Deserialize;
use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// An image with one of its captions.
#[derive(Debug, Clone, Deserialize)]
pub struct ImageRecord {
    /// Unique in the file.
    pub id: i64,
    /// Path of the image file below the image folder.
    pub file_name: String,
    /// What the image shows; spans count its code points.
    pub caption: String,
    /// Which data set the record comes from, where one file mixes several.
    pub dataset_name: Option<String>,
    /// Which image folder the file is in, where there are several ("coco", "vg").
    pub data_source: Option<String>,
    /// Id of the picture in its own data set.
    #[serde(default, deserialize_with = "text_or_number")]
    pub original_img_id: Option<String>,
    /// Number of the caption among those of its picture (Flickr30k Entities).
    pub sentence_id: Option<i64>,
    /// Id of the expression in its own data set (referring expressions).
    #[serde(default, deserialize_with = "text_or_number")]
    pub original_id: Option<String>,
    /// Id of the phrase (PhraseCut).
    #[serde(default, deserialize_with = "text_or_number")]
    pub task_id: Option<String>,
    /// The phrases to ground when evaluating, each a list of spans.
    pub tokens_positive_eval: Option<Vec<Vec<Span>>>,
}

/// A box of an image record.
#[derive(Debug, Clone, Deserialize)]
pub struct Annotation {
    /// Unique in the file.
    pub id: i64,
    /// The image record.
    pub image_id: i64,
    /// The kind of object; MDETR's own files have one kind.
    pub category_id: i64,
    /// x, y, width, height in pixels.
    pub bbox: [f64; 4],
    /// Pixels; the box's where it is missing.
    area: Option<f64>,
    /// A group that counts as one object: ignored in training.
    #[serde(default, deserialize_with = "flag")]
    pub iscrowd: bool,
    /// Whether the whole caption is about this box (CLEVR-Ref+).
    #[serde(default, deserialize_with = "flag")]
    pub isfinal: bool,
    /// The parts of the caption that name the box.
    pub tokens_positive: Option<Vec<Span>>,
}

impl Annotation {
    /// Area in pixels, that of the box if the file gives none.
    pub fn area(&self) -> f64 {
        self.area.unwrap_or(self.bbox[2] * self.bbox[3])
    }
}

fn text_or_number<'de, D: serde::Deserializer<'de>>(input: D) -> Result<Option<String>, D::Error> {
    match serde_json::Value::deserialize(input)? {
        serde_json::Value::Null => Ok(None),
        serde_json::Value::String(text) => Ok(Some(text)),
        serde_json::Value::Number(number) => Ok(Some(number.to_string())),
        other => Err(serde::de::Error::custom(format!("expected a text or a number, found {other}"))),
    }
}

fn flag<'de, D: serde::Deserializer<'de>>(input: D) -> Result<bool, D::Error> {
    match serde_json::Value::deserialize(input)? {
        serde_json::Value::Bool(set) => Ok(set),
        serde_json::Value::Number(number) => Ok(number.as_f64() != Some(0.0)),
        other => Err(serde::de::Error::custom(format!("expected 0, 1, false or true, found {other}"))),
    }
}

/// What a data set is read for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Split {
    /// Images are augmented, and every box must have spans.
    Train,
    /// Images are only resized.
    Val,
}

/// Where image files are.
#[derive(Debug, Clone)]
pub struct ImageFolders {
    /// The folder of records whose `data_source` is none of those below.
    pub default: PathBuf,
    /// Folders by `data_source`: the published pre-training file mixes "coco" and "vg".
    pub by_source: HashMap<String, PathBuf>,
}

impl ImageFolders {
    /// All images in one folder.
    pub fn one(folder: impl Into<PathBuf>) -> Self {
        Self { default: folder.into(), by_source: HashMap::new() }
    }

    fn path(&self, image: &ImageRecord) -> PathBuf {
        let source = image.data_source.as_ref().and_then(|source| self.by_source.get(source));
        source.unwrap_or(&self.default).join(&image.file_name)
    }
}

/// An annotation file with its images.
#[derive(Debug)]
pub struct Dataset {
    path: PathBuf,
    folders: ImageFolders,
    split: Split,
    transforms: TransformConfig,
    tokenizer: Arc<Tokenizer>,
    /// Ascending by image id, with their annotations in the file's order.
    records: Vec<(ImageRecord, Vec<Annotation>)>,
}

/// One image and caption, ready to become a row of a batch.
#[derive(Debug, Clone)]
pub struct Example {
    /// Normalised RGB, (height, width, 3).
    pub pixels: Vec<f32>,
    /// Rows of `pixels`.
    pub height: usize,
    /// Columns of `pixels`.
    pub width: usize,
    /// The caption's tokens.
    pub encoding: Encoding,
    /// Boxes are normalised (cx, cy, w, h).
    pub target: Target,
    /// Columns of the soft-token map (below 256) of each object.
    pub positive_tokens: Vec<Vec<usize>>,
    /// Tokens that the contrastive alignment loss draws each object to.
    pub align_tokens: Vec<Vec<usize>>,
}

impl Dataset {
    /// Reads and checks an annotation file; images are opened when their example is asked for.
    ///
    /// Errors name the file and list the first image and annotation ids that are wrong, and why.
    pub fn load(
        path: &Path,
        folders: ImageFolders,
        split: Split,
        transforms: TransformConfig,
        tokenizer: Arc<Tokenizer>,
    ) -> Result<Self> {
        #[derive(Deserialize)]
        struct File {
            images: Vec<ImageRecord>,
            annotations: Vec<Annotation>,
        }
        transforms.check().context("transforms")?;
        let file = crate::download::local(path)?;
        let bytes = std::fs::read(file).with_context(|| format!("cannot read annotations {}", path.display()))?;
        let File { images, annotations } = serde_json::from_slice(&bytes)
            .with_context(|| format!("{}: expected COCO annotations with captions", path.display()))?;
        let records = grouped(path, split, images, annotations)?;
        Ok(Self { path: path.to_owned(), folders, split, transforms, tokenizer, records })
    }

    /// The annotation file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Number of image records.
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Whether there is no image record.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// The image record at `index` (ascending ids) and its annotations.
    #[track_caller]
    pub fn record(&self, index: usize) -> (&ImageRecord, &[Annotation]) {
        let (image, annotations) = &self.records[index];
        (image, annotations)
    }

    /// The image of the record at `index`, as it is in its file. Errors name the file and the record.
    #[track_caller]
    pub fn image(&self, index: usize) -> Result<RgbImage> {
        let record = self.record(index).0;
        read(&self.folders.path(record)).with_context(|| format!("image {} of {}", record.id, self.path.display()))
    }

    /// Decodes, transforms and tokenizes the record at `index`. Augmentation depends on `epoch_seed` and `index` alone.
    ///
    /// Errors name the image file and the record.
    #[track_caller]
    pub fn example(&self, index: usize, epoch_seed: u64) -> Result<Example> {
        let (record, annotations) = self.record(index);
        let image = self.image(index)?;
        let target = Target::new(record, annotations, image.width(), image.height());
        let sample = Sample { image, target };
        let sample = match self.split {
            Split::Train => {
                let mut rng = ChaCha8Rng::seed_from_u64(epoch_seed);
                rng.set_stream(index as u64);
                self.transforms.train(sample, &mut rng)
            }
            Split::Val => self.transforms.val(sample),
        };
        Ok(Example::new(sample, &self.tokenizer))
    }
}

impl Example {
    /// Normalises and tokenizes a transformed sample.
    pub fn new(sample: Sample, tokenizer: &Tokenizer) -> Self {
        let Sample { image, mut target } = sample;
        target.normalize();
        let encoding = tokenizer.encode(&target.caption);
        let spans = || target.objects.iter().map(|object| object.tokens_positive.as_slice());
        Self {
            pixels: normalize(&image),
            height: image.height() as usize,
            width: image.width() as usize,
            positive_tokens: spans().map(|spans| soft_tokens(&encoding, spans)).collect(),
            align_tokens: spans().map(|spans| span_tokens(&encoding, spans)).collect(),
            encoding,
            target,
        }
    }
}

/// Records by ascending image id, or the first problems of the file.
fn grouped(
    path: &Path,
    split: Split,
    mut images: Vec<ImageRecord>,
    annotations: Vec<Annotation>,
) -> Result<Vec<(ImageRecord, Vec<Annotation>)>> {
    let mut problems = Problems::new(path);
    images.sort_by_key(|image| image.id);
    for pair in images.windows(2).filter(|pair| pair[0].id == pair[1].id) {
        problems.add(format_args!("image {}", pair[1].id), "the id occurs twice: image ids must be unique");
    }
    let row_of: HashMap<i64, usize> = images.iter().enumerate().map(|(row, image)| (image.id, row)).collect();
    let mut records: Vec<_> = images.into_iter().map(|image| (image, Vec::new())).collect();
    let lengths: Vec<usize> = records.iter().map(|(image, _)| image.caption.chars().count()).collect();
    for ((image, _), &length) in records.iter().zip(&lengths) {
        for span in image.tokens_positive_eval.iter().flatten().flatten() {
            if let Err(reason) = check_span(*span, length) {
                problems.add(format_args!("image {}, tokens_positive_eval", image.id), reason);
            }
        }
    }
    let mut seen = HashSet::new();
    for annotation in annotations {
        let item = format!("annotation {}", annotation.id);
        if !seen.insert(annotation.id) {
            problems.add(&item, "the id occurs twice: annotation ids must be unique");
        }
        let Some(&row) = row_of.get(&annotation.image_id) else {
            problems.add(&item, format_args!("image_id {} is not among the images", annotation.image_id));
            continue;
        };
        if let Err(reason) = check_annotation(&annotation, split, lengths[row]) {
            problems.add(&item, reason);
        }
        records[row].1.push(annotation);
    }
    problems.into_result()?;
    Ok(records)
}

fn check_annotation(annotation: &Annotation, split: Split, caption_length: usize) -> Result<(), String> {
    let bbox = annotation.bbox;
    if !bbox.iter().all(|value| value.is_finite()) || bbox[2] < 0.0 || bbox[3] < 0.0 {
        return Err(format!("bbox is {bbox:?}: expected x, y, width, height in pixels"));
    }
    match &annotation.tokens_positive {
        Some(spans) => spans.iter().try_for_each(|&span| check_span(span, caption_length)),
        None if split == Split::Train => {
            Err("tokens_positive is missing: give the [begin, end] ranges of the caption that name the box"
                .to_owned())
        }
        None => Ok(()),
    }
}

fn check_span([begin, end]: Span, caption_length: usize) -> Result<(), String> {
    if begin <= end && end <= caption_length {
        return Ok(());
    }
    Err(format!("span [{begin}, {end}] is not within the caption's {caption_length} code points"))
}
