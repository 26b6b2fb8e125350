//! The examples of an annotation file.

use super::check::{Record, Report, check};
use super::coco::{Annotation, ImageRecord, parse};
use super::image::{normalize, read};
use super::positive_map::{soft_tokens, span_tokens};
use super::transforms::Sample;
use super::{Encoding, Target, Tokenizer, TransformConfig};
use ::image::RgbImage;
use anyhow::{Context, Result, bail, ensure};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

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

    /// Of the image file of a record.
    pub fn path(&self, image: &ImageRecord) -> PathBuf {
        let source = image.data_source.as_ref().and_then(|source| self.by_source.get(source));
        source.unwrap_or(&self.default).join(&image.file_name)
    }
}

/// How an annotation file is read.
#[derive(Debug, Clone)]
pub struct DatasetConfig {
    /// Where its images are.
    pub folders: ImageFolders,
    /// What it is read for.
    pub split: Split,
    /// How images are prepared.
    pub transforms: TransformConfig,
    /// The longest caption that the text encoder reads, in tokens.
    pub max_tokens: usize,
    /// Leave bad rows out instead of refusing the file.
    pub skip_bad: bool,
}

/// An annotation file with its images.
#[derive(Debug)]
pub struct Dataset {
    path: PathBuf,
    config: DatasetConfig,
    tokenizer: Arc<Tokenizer>,
    /// Ascending by image id, with their annotations in the file's order.
    records: Vec<Record>,
    report: Report,
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
    /// Reads and checks an annotation file; images are opened when their example is asked for. What is noted, or skipped,
    /// is counted on stderr.
    ///
    /// Errors name the file and list the first rows that are wrong, and why.
    pub fn load(path: &Path, tokenizer: Arc<Tokenizer>, config: DatasetConfig) -> Result<Self> {
        let dataset = Self::read(path, tokenizer, config)?;
        let (name, Report { problems, notes, .. }) = (path.display(), &dataset.report);
        if notes.count > 0 {
            eprintln!("{name}: {} (accepted as published; `mdetr data check` lists them)", notes.counts());
        }
        if problems.count > 0 && !dataset.config.skip_bad {
            bail!("{name}: {problems}\nmend these rows, or leave them out with --skip-bad");
        }
        if problems.count > 0 {
            eprintln!("{name}: rows left out: {}", problems.counts());
            ensure!(!dataset.is_empty(), "{name}: no image is left: {problems}");
        }
        Ok(dataset)
    }

    /// The good rows of an annotation file, whatever the others are; see [`Dataset::report`].
    ///
    /// Errors: the file cannot be read or is no annotation file.
    pub fn read(path: &Path, tokenizer: Arc<Tokenizer>, config: DatasetConfig) -> Result<Self> {
        config.transforms.check().context("transforms")?;
        let file = crate::download::local(path)?;
        let bytes = std::fs::read(file).with_context(|| format!("cannot read annotations {}", path.display()))?;
        let file = parse(bytes).with_context(|| path.display().to_string())?;
        let (records, report) = check(file, &config, &tokenizer);
        Ok(Self { path: path.to_owned(), config, tokenizer, records, report })
    }

    /// What was found in the annotation file.
    pub fn report(&self) -> &Report {
        &self.report
    }

    /// The tokenizer of the captions.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// How many tokens each caption has, in the records' order.
    pub fn caption_lengths(&self) -> Vec<usize> {
        self.records.par_iter().map(|(image, _)| self.tokenizer.encode(&image.caption).ids.len()).collect()
    }

    /// Decodes every image file once, and gives the records whose file cannot be decoded, with the reason. `done` is told
    /// how many files of how many are decoded.
    pub fn unreadable_images(&self, done: &(dyn Fn(usize, usize) + Sync)) -> Vec<(&ImageRecord, String)> {
        let mut records_of: BTreeMap<PathBuf, Vec<&ImageRecord>> = BTreeMap::new();
        for (image, _) in &self.records {
            records_of.entry(self.config.folders.path(image)).or_default().push(image);
        }
        let (count, total) = (AtomicUsize::new(0), records_of.len());
        let reason = |path: &PathBuf| {
            let error = read(path).err();
            done(count.fetch_add(1, Ordering::Relaxed) + 1, total);
            error.map(|error| format!("{error:#}"))
        };
        let decoded: Vec<(Option<String>, Vec<&ImageRecord>)> =
            records_of.into_par_iter().map(|(path, images)| (reason(&path), images)).collect();
        let unreadable = decoded.into_iter().filter_map(|(reason, images)| Some((reason?, images)));
        unreadable.flat_map(|(reason, images)| images.into_iter().map(move |image| (image, reason.clone()))).collect()
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
        read(&self.config.folders.path(record))
            .with_context(|| format!("image {} of {}", record.id, self.path.display()))
    }

    /// Decodes, transforms and tokenizes the record at `index`: see [`Dataset::sample`].
    #[track_caller]
    pub fn example(&self, index: usize, epoch_seed: u64) -> Result<Example> {
        Ok(Example::new(self.sample(index, epoch_seed)?, &self.tokenizer))
    }

    /// Decodes and transforms the record at `index`. Augmentation depends on `epoch_seed` and `index` alone.
    ///
    /// Errors name the image file and the record.
    #[track_caller]
    pub fn sample(&self, index: usize, epoch_seed: u64) -> Result<Sample> {
        let (record, annotations) = self.record(index);
        let image = self.image(index)?;
        let target = Target::new(record, annotations, image.width(), image.height());
        let sample = Sample { image, target };
        Ok(match self.config.split {
            Split::Train => {
                let mut rng = ChaCha8Rng::seed_from_u64(epoch_seed);
                rng.set_stream(index as u64);
                self.config.transforms.train(sample, &mut rng)
            }
            Split::Val => self.config.transforms.val(sample),
        })
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
