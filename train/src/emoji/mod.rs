//! A dataset for phrase grounding that needs no download: scenes composed of emoji, with captions that name some of
//! the objects, in the annotation format of MDETR.
//!
//! A scene is a square image of 2 to 8 objects on a soft background. Its caption names one to four of them ("a dog, a
//! red apple and a bus"); one to three further objects go unnamed. One caption in five names something that is not in
//! the scene, alone or beside present things, and gives it no box. Such a caption is made from a caption of present
//! things by exchanging words, so that the numbers of names and of objects do not give it away.
//!
//! | file | scenes |
//! |---|---|
//! | `train.json` | as above, objects of 12 to 35 % of the image's side |
//! | `pretrain.json` | easy: objects of 30 to 45 %, nothing unnamed, nothing absent |
//! | `val.json` | as `train.json`, from other seeds |
//! | `val_unseen.json` | each names a pair of kinds that meet in no other split, and nothing absent |
//!
//! Everything follows from [`EmojiConfig`]: the same configuration gives the same bytes on any machine and any number
//! of threads, because each scene is drawn from a stream of its own.

mod annotations;
mod background;
mod caption;
mod kinds;
mod plan;
mod relation;
mod scene;
mod split;
mod sprite;
#[cfg(test)]
mod tests;
mod vocabulary;

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context, Result, bail, ensure};
use image::codecs::png::{CompressionType, FilterType, PngEncoder};
use image::{ExtendedColorType, ImageEncoder};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use annotations::{AnnotationFile, SceneRecords};
use caption::Caption;
use plan::Plan;
use scene::Scene;
use split::Split;
use vocabulary::Vocabulary;

/// The version of what a configuration generates: raised by any change of pictures, captions or files.
const FORMAT: u32 = 1;
const MANIFEST: &str = "dataset.json";

/// What captions say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Preset {
    /// Plain names: "a dog, a red apple and a bus".
    #[default]
    Base,
    /// Colours among shapes that differ by nothing else, counts, and relations: "a red heart, two dogs and the key
    /// left of the bus".
    Hard,
}

impl FromStr for Preset {
    type Err = anyhow::Error;

    fn from_str(name: &str) -> Result<Self> {
        match name {
            "base" => Ok(Self::Base),
            "hard" => Ok(Self::Hard),
            _ => bail!("emoji: there is no preset {name:?}: use base or hard"),
        }
    }
}

/// All that the dataset depends on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EmojiConfig {
    /// Seed of all scenes and of the choice of held-out pairs.
    pub seed: u64,
    /// Width and height of the images in pixels, 32 to 1024.
    pub size: usize,
    /// Scenes in `train.json`.
    pub train: usize,
    /// Scenes in `pretrain.json`.
    pub pretrain: usize,
    /// Scenes in `val.json`.
    pub val: usize,
    /// Scenes in `val_unseen.json`.
    pub val_unseen: usize,
    /// What captions say.
    pub preset: Preset,
}

impl Default for EmojiConfig {
    fn default() -> Self {
        Self { seed: 0, size: 112, train: 20_000, pretrain: 6_000, val: 1_000, val_unseen: 500, preset: Preset::Base }
    }
}

/// What a dataset holds, for people; it is stored in the manifest `dataset.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    /// One entry for each annotation file.
    pub splits: Vec<SplitSummary>,
    /// The pairs of kinds that meet only in `val_unseen.json`.
    pub held_out: Vec<[String; 2]>,
}

/// What an annotation file holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SplitSummary {
    /// The stem of the file's name.
    pub name: String,
    /// Images, each with one caption.
    pub images: usize,
    /// Boxes.
    pub annotations: usize,
    /// Captions that name something absent.
    pub absent: usize,
}

#[derive(Serialize, Deserialize)]
struct Manifest {
    format: u32,
    config: EmojiConfig,
    summary: Summary,
}

/// Whether the dataset at `out` is complete and the one that `config` gives.
pub fn is_complete(out: &Path, config: &EmojiConfig) -> bool {
    read_manifest(out).is_some_and(|manifest| manifest.format == FORMAT && manifest.config == *config)
}

fn read_manifest(out: &Path) -> Option<Manifest> {
    serde_json::from_slice(&fs::read(out.join(MANIFEST)).ok()?).ok()
}

/// Generates the dataset in the folder `out`: pictures in `images/`, annotation files, `dataset.json` and
/// `ATTRIBUTION.txt`. An earlier emoji dataset at `out` is replaced; anything else there is left alone.
///
/// The files are written beside `out` and moved there when all are complete. `progress` is called from several threads
/// with the number of finished scenes and of all scenes.
///
/// # Errors
/// If the configuration has a size out of range, `out` holds something else, or a file cannot be written.
pub fn generate(out: &Path, config: &EmojiConfig, progress: &(dyn Fn(usize, usize) + Sync)) -> Result<Summary> {
    ensure!((32..=1024).contains(&config.size), "emoji: size is {}, choose 32 to 1024 pixels", config.size);
    let vacant = fs::read_dir(out).map_or(true, |mut entries| entries.next().is_none());
    ensure!(
        vacant || read_manifest(out).is_some(),
        "emoji: {} holds something other than an emoji dataset: choose another folder, or empty it",
        out.display()
    );

    let partial = partial_folder(out)?;
    remove_folder(&partial)?;
    let images = partial.join("images");
    fs::create_dir_all(&images).with_context(|| format!("emoji: cannot create {}", images.display()))?;
    let summary = write_all(&partial, config, progress)?;

    remove_folder(out)?;
    fs::rename(&partial, out)
        .with_context(|| format!("emoji: cannot move {} to {}", partial.display(), out.display()))?;
    Ok(summary)
}

/// The sibling of `out` that files are written to: on the same file system, so that it can be moved.
fn partial_folder(out: &Path) -> Result<PathBuf> {
    let name =
        out.file_name().with_context(|| format!("emoji: {} is no name for a new folder: name one", out.display()))?;
    Ok(out.with_file_name(format!(".{}.partial", name.to_string_lossy())))
}

fn remove_folder(folder: &Path) -> Result<()> {
    if folder.exists() {
        fs::remove_dir_all(folder).with_context(|| format!("emoji: cannot remove {}", folder.display()))?;
    }
    Ok(())
}

/// Writes all files of a dataset, the manifest last.
fn write_all(folder: &Path, config: &EmojiConfig, progress: &(dyn Fn(usize, usize) + Sync)) -> Result<Summary> {
    let vocabulary = Vocabulary::new(config.preset, config.seed)?;
    let total = Split::ALL.iter().map(|split| split.scenes(config)).sum();
    let done = AtomicUsize::new(0);
    let mut splits = vec![];
    for split in Split::ALL {
        let write = |index| {
            let records = write_scene(folder, config, &vocabulary, split, index)?;
            progress(1 + done.fetch_add(1, Ordering::Relaxed), total);
            Ok(records)
        };
        let scenes: Vec<SceneRecords> =
            (0..split.scenes(config)).into_par_iter().map(write).collect::<Result<_>>()?;
        let (images, absent) = (scenes.len(), scenes.iter().filter(|scene| scene.names_absent()).count());
        let file = AnnotationFile::new(scenes);
        write_json(&folder.join(format!("{}.json", split.name())), &file)?;
        splits.push(SplitSummary { name: split.name().to_owned(), images, annotations: file.boxes(), absent });
    }
    let held_out = vocabulary.held_out().map(|pair| pair.map(|kind| vocabulary.kinds[kind].name())).collect();
    let summary = Summary { splits, held_out };

    let attribution = folder.join("ATTRIBUTION.txt");
    fs::write(&attribution, include_str!("ATTRIBUTION.txt"))
        .with_context(|| format!("emoji: cannot write {}", attribution.display()))?;
    let manifest = Manifest { format: FORMAT, config: config.clone(), summary };
    write_json(&folder.join(MANIFEST), &manifest)?;
    Ok(manifest.summary)
}

/// Draws scene `index` of `split`, writes its picture and returns its records.
fn write_scene(
    folder: &Path,
    config: &EmojiConfig,
    vocabulary: &Vocabulary,
    split: Split,
    index: usize,
) -> Result<SceneRecords> {
    let (plan, scene) = draw_scene(config, vocabulary, split, index);
    let file_name = format!("{}_{index:06}.png", split.name());
    let path = folder.join("images").join(&file_name);
    let mut png = vec![];
    // The scenes are many and small: fast encoding, and one filter, which suits smooth backgrounds.
    PngEncoder::new_with_quality(&mut png, CompressionType::Fast, FilterType::Up)
        .write_image(&scene.image, scene.image.width(), scene.image.height(), ExtendedColorType::Rgb8)
        .and_then(|()| Ok(fs::write(&path, png)?))
        .with_context(|| format!("emoji: cannot write {}", path.display()))?;
    let caption = Caption::compose(&plan, vocabulary);
    Ok(SceneRecords::new(index, file_name, config.size, caption, &scene.boxes))
}

fn draw_scene(config: &EmojiConfig, vocabulary: &Vocabulary, split: Split, index: usize) -> (Plan, Scene) {
    let mut rng = split.rng(config.seed, index);
    let recipe = split.recipe(config.preset);
    let plan = Plan::draw(&mut rng, vocabulary, &recipe);
    let scene = Scene::draw(&mut rng, vocabulary, &recipe, &plan, config.size);
    (plan, scene)
}

fn write_json(path: &Path, value: &impl Serialize) -> Result<()> {
    let write = || -> Result<()> {
        let mut file = BufWriter::new(File::create(path)?);
        serde_json::to_writer(&mut file, value)?;
        Ok(file.flush()?)
    };
    write().with_context(|| format!("emoji: cannot write {}", path.display()))
}
