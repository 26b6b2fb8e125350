//! What a run reads: its datasets, and what must hold of them.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use mdetr_model::{Mdetr, TextConfig};

use crate::config::RunConfig;
use crate::data::{Dataset, ImageFolders, Split, Tokenizer};
use crate::emoji::{self, EmojiConfig};
use crate::progress::Progress;

/// The datasets of a run.
pub(super) struct Datasets {
    pub train: Arc<Dataset>,
    /// With their names.
    pub val: Vec<(String, Arc<Dataset>)>,
    /// Easy scenes for the warm-up.
    pub easy: Option<Arc<Dataset>>,
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
        let train_ann = config.data.train_ann.clone();
        let train_ann =
            train_ann.context("there is nothing to train on: give --train-ann FILE and --img-path DIR")?;
        let train = open(config, &train_ann, Split::Train, &tokenizer)?;
        let (images, t) = (train.len(), &config.training);
        let by = if t.accumulate > 1 { format!(" times accumulate {}", t.accumulate) } else { String::new() };
        ensure!(
            images >= config.images_per_step(),
            "{} has {images} images, fewer than batch_size {}{by}",
            train_ann.display(),
            t.batch_size
        );
        let val = validation_sets(config, &tokenizer)?;
        let easy = t.pretrain.as_ref().map(|p| open(config, &p.easy_ann, Split::Train, &tokenizer)).transpose()?;
        Ok(Datasets { train, val, easy, tokenizer })
    }

    /// Refuses captions that the text encoder has no positions for.
    pub fn check_captions(&self, model: &Mdetr) -> Result<()> {
        let val = self.val.iter().map(|(_, set)| set);
        check_captions(model, [&self.train].into_iter().chain(&self.easy).chain(val), &self.tokenizer)
    }

    /// A `words` text encoder without a vocabulary gets the tokens of the training captions.
    pub fn fill_vocabulary(&self, config: &mut RunConfig) {
        let text = config.model.text();
        if config.model.text_encoder_type != "words" || !text.vocabulary.is_empty() {
            return;
        }
        let mut ids = BTreeSet::new();
        for set in [&self.train].into_iter().chain(&self.easy) {
            (0..set.len()).for_each(|i| ids.extend(self.tokenizer.encode(&set.record(i).0.caption).ids));
        }
        ids.insert(self.tokenizer.pad_id());
        let vocabulary: Vec<i32> = ids.into_iter().collect();
        config.model.text_config = Some(TextConfig { vocab_size: vocabulary.len() + 1, vocabulary, ..text });
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

/// The validation files of a configuration, each under its file's name.
pub(super) fn validation_sets(config: &RunConfig, tokenizer: &Arc<Tokenizer>) -> Result<Vec<(String, Arc<Dataset>)>> {
    let name = |path: &PathBuf| path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let sets = config.data.val_ann.iter();
    sets.map(|path| Ok((name(path), open(config, path, Split::Val, tokenizer)?))).collect()
}

pub(super) fn check_captions<'a>(
    model: &Mdetr,
    sets: impl Iterator<Item = &'a Arc<Dataset>>,
    tokenizer: &Tokenizer,
) -> Result<()> {
    let limit = model.network.max_tokens();
    for set in sets {
        for i in 0..set.len() {
            let record = set.record(i).0;
            let tokens = tokenizer.encode(&record.caption).ids.len();
            ensure!(
                tokens <= limit,
                "{}: the caption of image {} has {tokens} tokens, the text encoder reads at most {limit}: shorten it",
                set.path().display(),
                record.id
            );
        }
    }
    Ok(())
}

fn open(config: &RunConfig, ann: &Path, split: Split, tokenizer: &Arc<Tokenizer>) -> Result<Arc<Dataset>> {
    let folder = config.data.img_path.clone();
    let folder = folder.with_context(|| format!("where are the images of {}? give --img-path DIR", ann.display()))?;
    let transforms = config.data.transforms();
    Ok(Arc::new(Dataset::load(ann, ImageFolders::one(folder), split, transforms, tokenizer.clone())?))
}
