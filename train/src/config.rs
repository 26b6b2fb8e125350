//! A run's configuration: the published program's arguments under their names, and a few of our own.
//!
//! A field here has a row in [`settings::table`](crate::settings::table), which makes it a flag, a `--set` key and a JSON key.

use std::path::PathBuf;

use anyhow::{Result, ensure};
use mdetr_kernels::Precision;
use mdetr_kernels::optimizer_step::Rule;
use mdetr_model::{CriterionConfig, ModelConfig};
use serde::{Deserialize, Serialize};

use crate::data::official::OfficialConfig;
use crate::data::{CropConfig, TransformConfig};
use crate::emoji::EmojiConfig;
use crate::optimizer::OptimizerOptions;
use crate::run::SaveEvery;
use crate::schedule::{Kind, Rates, Schedule};
use crate::unbuilt::UnbuiltConfig;

/// Everything that a run depends on.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RunConfig {
    /// The architecture.
    #[serde(flatten)]
    pub model: ModelConfig,
    /// The losses.
    #[serde(flatten)]
    pub criterion: CriterionConfig,
    /// How it is trained.
    #[serde(flatten)]
    pub training: TrainingConfig,
    /// On what.
    #[serde(flatten)]
    pub data: DataConfig,
    /// On which of the published datasets, where `data` names no files.
    #[serde(flatten)]
    pub official: OfficialConfig,
    /// Published options that nothing here reads yet.
    #[serde(flatten)]
    pub unbuilt: UnbuiltConfig,
}

/// How a model is trained.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct TrainingConfig {
    /// Names the folder of the run below `output_dir`; empty: that folder itself.
    pub run_name: String,
    /// Where runs go; empty: `runs`.
    pub output_dir: PathBuf,
    /// Where to compute: `cpu`, `cuda`, `cuda:N`, or `auto`.
    pub device: String,
    /// Only evaluates.
    pub eval: bool,
    /// A checkpoint whose weights training starts from: a path or an address.
    pub load: Option<String>,
    /// A checkpoint or the folder of a run to go on with, or one to evaluate: a path or an address; `auto`: the run's own
    /// if there is one.
    pub resume: Option<String>,
    /// The first epoch.
    pub start_epoch: usize,
    /// Of initial weights, order, augmentation and dropout.
    pub seed: u64,
    /// Passes over the training data.
    pub epochs: usize,
    /// Images in a step.
    pub batch_size: usize,
    /// Loader threads.
    pub num_workers: usize,
    /// Learning rate of everything but backbone (`lr_backbone`) and text encoder.
    pub lr: f64,
    /// Learning rate of the text encoder.
    pub text_encoder_lr: f64,
    /// Epoch of the drop.
    pub lr_drop: usize,
    /// How learning rates change.
    pub schedule: Kind,
    /// Part of the run that warms up.
    pub fraction_warmup_steps: f64,
    /// Part of the run after which `warmup_hold_cosine` falls.
    pub fraction_hold_steps: f64,
    /// How gradients become updates.
    pub optimizer: OptimizerKind,
    /// Decoupled weight decay of every parameter.
    pub weight_decay: f64,
    /// Largest norm of all gradients together; 0 does not clip.
    pub clip_max_norm: f64,
    /// What a step computes in: `fp32`, `tf32`, `fp16` or `bf16`. Evaluation while training is always `fp32`.
    #[serde(with = "PrecisionName")]
    pub precision: Precision,
    /// Keeps a moving average of the weights, which evaluation then uses.
    pub ema: bool,
    /// Its decay.
    pub ema_decay: f64,
    /// Batches whose gradients make one step: the step of a batch so many times as large, in the memory of one.
    pub accumulate: usize,
    /// Rounds the sizes of batches up, so that few occur.
    pub buckets: bool,
    /// Captures steps as graphs of a GPU, and launches these; batches are rounded up for it.
    pub graphs: bool,
    /// Evaluates every so many epochs.
    pub eval_skip: usize,
    /// Saves inside of epochs too, after so many steps (`500`) or minutes (`10m`).
    pub save_every: Option<SaveEvery>,
    /// Keeps the newest so many of `checkpoint0001`, `checkpoint0003`, ...; all by default.
    pub keep: Option<usize>,
    /// Throws away the run that is in the folder.
    pub overwrite: bool,
    /// Weights that a ResNet starts from: a state dict of torchvision's or timm's.
    pub backbone_weights: Option<PathBuf>,
    /// Weights that RoBERTa starts from: Hugging Face's, a file or a folder with one.
    pub text_encoder_weights: Option<PathBuf>,
    /// Starts a ResNet or RoBERTa at random where no weights are given.
    pub from_scratch: bool,
    /// Stops after so many steps.
    pub max_steps: Option<usize>,
    /// The image-caption warm-up before training, for models that start from nothing.
    pub pretrain: Option<PretrainConfig>,
}

/// What updates parameters, under the published names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OptimizerKind {
    /// AdamW: the published program means it by both names.
    #[default]
    Adam,
    /// AdamW.
    AdamW,
    /// Gradient descent with a momentum of 0.9.
    Sgd,
}

impl OptimizerKind {
    /// How it changes a value.
    pub fn rule(self) -> Rule {
        match self {
            OptimizerKind::Adam | OptimizerKind::AdamW => Rule::ADAMW,
            OptimizerKind::Sgd => Rule::SGD,
        }
    }
}

/// How a configuration spells a precision.
#[derive(Serialize, Deserialize)]
#[serde(remote = "Precision")]
enum PrecisionName {
    #[serde(rename = "fp32")]
    F32,
    #[serde(rename = "tf32")]
    TF32,
    #[serde(rename = "fp16")]
    F16,
    #[serde(rename = "bf16")]
    BF16,
}

/// The image-caption warm-up: phrases learn to find their image, with no boxes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PretrainConfig {
    /// Annotations of easy scenes for the first `easy_steps`.
    pub easy_ann: PathBuf,
    /// Steps on easy scenes.
    pub easy_steps: usize,
    /// Steps in all; those after the easy ones use the training data.
    pub steps: usize,
    /// Learning rate of every parameter group.
    pub lr: f64,
    /// Images in a step.
    pub batch_size: usize,
}

impl TrainingConfig {
    /// Of the run's optimizer.
    pub fn optimizer_options(&self) -> OptimizerOptions {
        OptimizerOptions {
            rule: self.optimizer.rule(),
            weight_decay: self.weight_decay,
            clip_max_norm: self.clip_max_norm,
            ema_decay: self.ema.then_some(self.ema_decay),
        }
    }
}

impl Default for TrainingConfig {
    fn default() -> Self {
        TrainingConfig {
            run_name: String::new(),
            output_dir: PathBuf::new(),
            device: "auto".into(),
            eval: false,
            load: None,
            resume: None,
            start_epoch: 0,
            seed: 42,
            epochs: 40,
            batch_size: 2,
            num_workers: 5,
            lr: 1e-4,
            text_encoder_lr: 5e-5,
            lr_drop: 35,
            schedule: Kind::LinearWithWarmup,
            fraction_warmup_steps: 0.01,
            fraction_hold_steps: 0.66,
            optimizer: OptimizerKind::default(),
            weight_decay: 1e-4,
            clip_max_norm: 0.1,
            precision: Precision::F32,
            ema: false,
            ema_decay: 0.9998,
            accumulate: 1,
            buckets: false,
            graphs: false,
            eval_skip: 1,
            save_every: None,
            keep: None,
            overwrite: false,
            backbone_weights: None,
            text_encoder_weights: None,
            from_scratch: false,
            max_steps: None,
            pretrain: None,
        }
    }
}

/// What a model is trained and evaluated on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct DataConfig {
    /// Training annotations, in MDETR's COCO-style format.
    pub train_ann: Option<PathBuf>,
    /// Annotations to evaluate on, each a dataset of its own.
    pub val_ann: Vec<PathBuf>,
    /// The folder of the images.
    pub img_path: Option<PathBuf>,
    /// Lengths of the shorter side in training.
    pub train_scales: Vec<u32>,
    /// Length of the shorter side in evaluation.
    pub val_scale: u32,
    /// Limit of the longer side.
    pub max_size: u32,
    /// Crops every second training image.
    pub random_crop: bool,
    /// Lengths of the shorter side before a crop.
    pub crop_scales: Vec<u32>,
    /// Least side of a crop.
    pub crop_min_size: u32,
    /// Greatest side of a crop.
    pub crop_max_size: u32,
    /// Keeps the meaning of captions: crops keep every box, nothing is mirrored.
    pub cautious: bool,
    /// Leaves bad rows of annotation files out, and counts them, instead of refusing the file.
    pub skip_bad: bool,
    /// Makes this emoji dataset in `emoji_dir` first, unless it is there.
    pub emoji: Option<EmojiConfig>,
    /// Where the emoji dataset goes.
    pub emoji_dir: Option<PathBuf>,
}

impl Default for DataConfig {
    fn default() -> Self {
        let (transforms, crop) = (TransformConfig::default(), CropConfig::default());
        DataConfig {
            train_ann: None,
            val_ann: Vec::new(),
            img_path: None,
            train_scales: transforms.train_scales,
            val_scale: transforms.val_scale,
            max_size: transforms.max_size,
            random_crop: transforms.crop.is_some(),
            crop_scales: crop.scales,
            crop_min_size: crop.min_size,
            crop_max_size: crop.max_size,
            cautious: transforms.cautious,
            skip_bad: false,
            emoji: None,
            emoji_dir: None,
        }
    }
}

impl DataConfig {
    /// The transforms that these options describe.
    pub fn transforms(&self) -> TransformConfig {
        let crop = || CropConfig {
            scales: self.crop_scales.clone(),
            min_size: self.crop_min_size,
            max_size: self.crop_max_size,
        };
        TransformConfig {
            train_scales: self.train_scales.clone(),
            val_scale: self.val_scale,
            max_size: self.max_size,
            crop: self.random_crop.then(crop),
            cautious: self.cautious,
        }
    }
}

impl RunConfig {
    /// The folder of the run.
    pub fn run_dir(&self) -> PathBuf {
        let t = &self.training;
        match (t.output_dir.as_os_str().is_empty(), t.run_name.as_str()) {
            (true, "") => "runs/mdetr".into(),
            (true, name) => PathBuf::from("runs").join(name),
            (false, "") => t.output_dir.clone(),
            (false, name) => t.output_dir.join(name),
        }
    }

    /// Images in a step.
    pub fn images_per_step(&self) -> usize {
        self.training.batch_size.saturating_mul(self.training.accumulate)
    }

    /// The schedule of a run with epochs of `steps_per_epoch` steps.
    pub fn schedule(&self, steps_per_epoch: usize) -> Schedule {
        let t = &self.training;
        Schedule {
            kind: t.schedule,
            base: Rates { base: t.lr, backbone: self.model.lr_backbone, text_encoder: t.text_encoder_lr },
            epochs: t.epochs,
            lr_drop: t.lr_drop,
            steps_per_epoch,
            fraction_warmup_steps: t.fraction_warmup_steps,
            fraction_hold_steps: t.fraction_hold_steps,
        }
    }

    /// Whether a run can start with it. Errors name what is wrong or not built, and what to do instead.
    pub fn check(&self) -> Result<()> {
        self.unbuilt.check()?;
        self.model.validate()?;
        let t = &self.training;
        ensure!(t.batch_size > 0, "batch_size is 0: a step needs images");
        ensure!(t.accumulate > 0, "accumulate is 0: a step needs at least one batch");
        ensure!(
            t.resume.is_none() || !t.overwrite,
            "resume goes on with a run and overwrite throws it away: give one of them"
        );
        ensure!(!t.run_name.contains(['/', '\\']), "run_name {:?} is not the name of a folder", t.run_name);
        for (name, value) in [("lr", t.lr), ("text_encoder_lr", t.text_encoder_lr), ("weight_decay", t.weight_decay)]
        {
            ensure!(value >= 0.0 && value.is_finite(), "{name} is {value}: expected a number >= 0");
        }
        ensure!((0.0..=1.0).contains(&t.ema_decay), "ema_decay {} is not in [0, 1]", t.ema_decay);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
