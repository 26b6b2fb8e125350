//! What a run reads: its datasets, and what must hold of them.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use mdetr_model::{Mdetr, TextConfig};

use crate::config::RunConfig;
use crate::data::concat::Concat;
use crate::data::official::{OfficialConfig, Source};
use crate::data::{Dataset, ImageFolders, Split, Tokenizer};
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
    pub /// An annotation file of the configuration, with its images.
fn own_source(config: &RunConfig, annotations: &Path) -> Result<Source> {
    let folder = config.data.img_path.clone();
    let folder =
        folder.with_context(|| format!("where are the images of {}? give --img-path DIR", annotations.display()))?;
    let name = annotations.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    Ok(Source { name, annotations: annotations.into(), folders: ImageFolders::one(folder) })
}

fn open(config: &RunConfig, source: Source, split: Split, tokenizer: &Arc<Tokenizer>) -> Result<Arc<Dataset>> {
    let transforms = config.data.transforms();
    Ok(Arc::new(Dataset::load(&source.annotations, source.folders, split, transforms, tokenizer.clone())?))
}
