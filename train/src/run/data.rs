//! What a run reads: its datasets, and what must hold of them.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use mdetr_model::TextConfig;

use crate::config::RunConfig;
use crate::data::concat::Concat;
use crate::data::official::{OfficialConfig, Source};
use crate::data::{Dataset, DatasetConfig, ImageFolders, Split, Tokenizer};
use crate::emoji::{self, EmojiConfig};
use crate::progress::Progress;

/// The datasets of a run.
pub(super) struct Datasets {
    pub train: Arc<Concat>,
    /// With their names.
    pub val: Vec<(String, Arc<Dataset>)>,
    /// Easy scenes for the warm-up.
    pub easy: Option<Arc<Concat>>,
    pub tokenizer: Arc<Tokenizer>,
}

impl Datasets {
    /// Reads all annotations; an emoji dataset that is not there yet is made.
    pub fn open(config: &RunConfig) -> Result<Self> {
        if let (Some(emoji), Some(dir)) = (&config.data.emoji, &config.data.emoji_dir)
            && !emoji::is_complete(dir, emoji)
        {
            make_emoji(dir, emoji)?;
        }
        let tokenizer = Tokenizer::roberta_base();
        let train = training_set(config, &tokenizer)?;
        let (images, t) = (train.len(), &config.training);
        let by = if t.accumulate > 1 { format!(" times accumulate {}", t.accumulate) } else { String::new() };
        ensure!(
            images >= config.images_per_step(),
            "the training data has {images} images, fewer than batch_size {}{by}",
            t.batch_size
        );
        let val = validation_sets(config, &tokenizer)?;
        let easy = t.pretrain.as_ref().map(|pretrain| {
            let easy = open(config, own_source(config, &pretrain.easy_ann)?, Split::Train, &tokenizer)?;
            anyhow::Ok(Arc::new(Concat::new(vec![easy])))
        });
        let easy = easy.transpose()?;
        Ok(Datasets { train, val, easy, tokenizer })
    }

    /// The files of all that is trained on.
    fn training_parts(&self) -> impl Iterator<Item = &Arc<Dataset>> {
        [&self.train].into_iter().chain(&self.easy).flat_map(|set| set.parts())
    }

    /// A `words` text encoder without a vocabulary gets the tokens of the training captions.
    pub fn fill_vocabulary(&self, config: &mut RunConfig) {
        let text = config.model.text();
        if config.model.text_encoder_type != "words" || !text.vocabulary.is_empty() {
            return;
        }
        let mut ids = BTreeSet::new();
        for set in self.training_parts() {
            (0..set.len()).for_each(|i| ids.extend(self.tokenizer.encode(&set.record(i).0.caption).ids));
        }
        ids.insert(self.tokenizer.pad_id());
        let vocabulary: Vec<i32> = ids.into_iter().collect();
        config.model.text_config = Some(TextConfig { vocab_size: vocabulary.len() + 1, vocabulary, ..text });
    }
}

impl RunConfig {
    /// How an annotation file is read whose images are in `folders`.
    pub fn dataset(&self, folders: ImageFolders, split: Split) -> DatasetConfig {
        DatasetConfig {
            folders,
            split,
            transforms: self.data.transforms(),
            max_tokens: self.model.max_tokens(),
            skip_bad: self.data.skip_bad,
        }
    }
}

/// Makes an emoji dataset, unless the same one is there.
pub fn make_emoji(out: &Path, config: &EmojiConfig) -> Result<emoji::Summary> {
    let total = config.train + config.pretrain + config.val + config.val_unseen;
    let progress = std::sync::Mutex::new(Progress::new("composing scenes", total));
    let summary = emoji::generate(out, config, &|done, _| {
        if let Ok(mut progress) = progress.lock() {
            progress.at(done, &[]);
        }
    })?;
    if let Ok(progress) = progress.into_inner() {
        progress.finish();
    }
    Ok(summary)
}

/// What to train on: the configuration's own annotations, or else published datasets.
fn training_set(config: &RunConfig, tokenizer: &Arc<Tokenizer>) -> Result<Arc<Concat>> {
    let sources = match &config.data.train_ann {
        Some(annotations) => vec![own_source(config, annotations)?],
        None if config.official == OfficialConfig::default() => bail!(
            "there is nothing to train on: give --train-ann FILE and --img-path DIR, or --dataset-config FILE for \
             published datasets"
        ),
        None => config.official.sources(Split::Train)?,
    };
    let parts = sources.into_iter().map(|source| open(config, source, Split::Train, tokenizer));
    Ok(Arc::new(Concat::new(parts.collect::<Result<_>>()?)))
}

/// What to evaluate on: the configuration's own annotations; published datasets, if there are none and it trains on none.
pub fn validation_sets(config: &RunConfig, tokenizer: &Arc<Tokenizer>) -> Result<Vec<(String, Arc<Dataset>)>> {
    let is_own = !config.data.val_ann.is_empty() || config.data.train_ann.is_some();
    let sources = match is_own || config.official == OfficialConfig::default() {
        true => {
            config.data.val_ann.iter().map(|annotations| own_source(config, annotations)).collect::<Result<_>>()?
        }
        false => config.official.sources(Split::Val)?,
    };
    let open = |source: Source| Ok((source.name.clone(), open(config, source, Split::Val, tokenizer)?));
    sources.into_iter().map(open).collect()
}

/// An annotation file of the configuration, with its images.
fn own_source(config: &RunConfig, annotations: &Path) -> Result<Source> {
    let folder = config.data.img_path.clone();
    let folder =
        folder.with_context(|| format!("where are the images of {}? give --img-path DIR", annotations.display()))?;
    let name = annotations.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    Ok(Source { name, annotations: annotations.into(), folders: ImageFolders::one(folder) })
}

fn open(config: &RunConfig, source: Source, split: Split, tokenizer: &Arc<Tokenizer>) -> Result<Arc<Dataset>> {
    let dataset = config.dataset(source.folders, split);
    Ok(Arc::new(Dataset::load(&source.annotations, tokenizer.clone(), dataset)?))
}
