//! A run's configuration: the published program's arguments under their names, and a few of our own.
//!
//! Precedence: published defaults < configuration files < `KEY=VALUE` settings < flags.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use mdetr_kernels::Precision;
use mdetr_model::{CriterionConfig, ModelConfig};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::data::{CropConfig, TransformConfig};
use crate::emoji::EmojiConfig;
use crate::schedule::{Kind, Rates, Schedule};

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
}

/// How a model is trained.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct TrainingConfig {
    /// Names the folder of the run below `output_dir`.
    pub run_name: String,
    /// Where runs go.
    pub output_dir: PathBuf,
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
    /// Decoupled weight decay of every parameter.
    pub weight_decay: f64,
    /// Largest norm of all gradients together; 0 does not clip.
    pub clip_max_norm: f64,
    /// What a step computes in: `fp32`, `tf32`, `fp16` or `bf16`. Evaluation is always `fp32`.
    #[serde(with = "PrecisionName")]
    pub precision: Precision,
    /// Keeps a moving average of the weights, which evaluation then uses.
    pub ema: bool,
    /// Its decay.
    pub ema_decay: f64,
    /// Evaluates every so many epochs.
    pub eval_skip: usize,
    /// A checkpoint whose weights a new model starts from, as far as it has them: of this program, or a published one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub load: Option<PathBuf>,
    /// Weights that a ResNet starts from: a state dict of torchvision's or timm's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backbone_weights: Option<PathBuf>,
    /// Weights that RoBERTa starts from: Hugging Face's, a file or a folder with one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text_encoder_weights: Option<PathBuf>,
    /// Starts a ResNet or RoBERTa at random where no weights are given.
    pub from_scratch: bool,
    /// Stops after so many steps.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_steps: Option<usize>,
    /// The image-caption warm-up before training, for models that start from nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pretrain: Option<PretrainConfig>,
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

impl Default for TrainingConfig {
    fn default() -> Self {
        TrainingConfig {
            run_name: "mdetr".into(),
            output_dir: "runs".into(),
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
            weight_decay: 1e-4,
            clip_max_norm: 0.1,
            precision: Precision::F32,
            ema: false,
            ema_decay: 0.9998,
            eval_skip: 1,
            load: None,
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
    #[serde(skip_serializing_if = "Option::is_none")]
    pub train_ann: Option<PathBuf>,
    /// Annotations to evaluate on, each a dataset of its own.
    pub val_ann: Vec<PathBuf>,
    /// The folder of the images.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub img_path: Option<PathBuf>,
    /// Lengths of the shorter side in training.
    pub train_scales: Vec<u32>,
    /// Length of the shorter side in evaluation.
    pub val_scale: u32,
    /// Limit of the longer side.
    pub max_size: u32,
    /// Crops every second training image.
    pub random_crop: bool,
    /// Keeps the meaning of captions: crops keep every box, nothing is mirrored.
    pub cautious: bool,
    /// Makes this emoji dataset in `emoji_dir` first, unless it is there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub emoji: Option<EmojiConfig>,
    /// Where the emoji dataset goes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub emoji_dir: Option<PathBuf>,
}

impl Default for DataConfig {
    fn default() -> Self {
        let transforms = TransformConfig::default();
        DataConfig {
            train_ann: None,
            val_ann: Vec::new(),
            img_path: None,
            train_scales: transforms.train_scales,
            val_scale: transforms.val_scale,
            max_size: transforms.max_size,
            random_crop: transforms.crop.is_some(),
            cautious: transforms.cautious,
            emoji: None,
            emoji_dir: None,
        }
    }
}

impl DataConfig {
    /// The transforms that these options describe.
    pub fn transforms(&self) -> TransformConfig {
        TransformConfig {
            train_scales: self.train_scales.clone(),
            val_scale: self.val_scale,
            max_size: self.max_size,
            crop: self.random_crop.then(CropConfig::default),
            cautious: self.cautious,
        }
    }
}

/// Layers of settings, later ones first.
#[derive(Debug, Default)]
pub struct Settings {
    values: Map<String, Value>,
}

impl Settings {
    /// Adds the keys of a JSON object. Published files may nest the text encoder's sizes; everything else is flat.
    pub fn add_json(&mut self, text: &str, name: &str) -> Result<()> {
        let value: Value = serde_json::from_str(text).with_context(|| format!("{name} is not valid JSON"))?;
        let Value::Object(map) = value else { bail!("{name}: expected a JSON object of settings") };
        self.values.extend(map);
        Ok(())
    }

    /// Adds a configuration file, also by its `https://` address.
    pub fn add_file(&mut self, path: &Path) -> Result<()> {
        let text = std::fs::read_to_string(crate::download::local(path)?)
            .with_context(|| format!("cannot read {}", path.display()))?;
        self.add_json(&text, &path.display().to_string())
    }

    /// Adds `KEY=VALUE`: VALUE is JSON, or else text; dots reach into nested objects.
    pub fn add_assignment(&mut self, assignment: &str) -> Result<()> {
        let (key, value) = assignment
            .split_once('=')
            .with_context(|| format!("--set {assignment:?}: expected KEY=VALUE, such as epochs=10"))?;
        let value = serde_json::from_str(value).unwrap_or_else(|_| Value::String(value.into()));
        let mut map = &mut self.values;
        let path: Vec<String> = key.split('.').map(|k| k.replace('-', "_")).collect();
        let (last, outer) = path.split_last().expect("split yields at least one part");
        for part in outer {
            let entry = map.entry(part.clone()).or_insert_with(|| Value::Object(Map::new()));
            map = entry.as_object_mut().with_context(|| format!("--set {key}: {part} is not an object"))?;
        }
        map.insert(last.clone(), value);
        Ok(())
    }

    /// Sets a key.
    pub fn set(&mut self, key: &str, value: impl Into<Value>) {
        self.values.insert(key.into(), value.into());
    }

    /// Fills the rest with the published defaults. Also returns the keys that nothing here knows.
    pub fn resolve(self) -> Result<(RunConfig, Vec<String>)> {
        let mut known: Map<String, Value> = match serde_json::to_value(RunConfig::default())? {
            Value::Object(map) => map,
            _ => unreachable!("a configuration is an object"),
        };
        let optional = [
            "text_config",
            "load",
            "backbone_weights",
            "text_encoder_weights",
            "max_steps",
            "pretrain",
            "train_ann",
            "img_path",
            "emoji",
            "emoji_dir",
        ];
        known.extend(optional.map(|key| (key.to_string(), Value::Null)));
        let unknown = self.values.keys().filter(|key| !known.contains_key(*key)).cloned().collect();
        let mut values = self.values;
        if let Some(Value::String(one)) = values.get("val_ann") {
            let one = one.clone();
            values.insert("val_ann".into(), Value::Array(vec![one.into()]));
        }
        let config: RunConfig = serde_json::from_value(Value::Object(values)).context("configuration")?;
        config.check()?;
        Ok((config, unknown))
    }
}

impl RunConfig {
    /// The folder of the run.
    pub fn run_dir(&self) -> PathBuf {
        self.training.output_dir.join(&self.training.run_name)
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

    fn check(&self) -> Result<()> {
        self.model.validate()?;
        let t = &self.training;
        anyhow::ensure!(t.batch_size > 0, "batch_size is 0: a step needs images");
        anyhow::ensure!(
            !t.run_name.is_empty() && !t.run_name.contains(['/', '\\']),
            "run_name {:?} is not the name of a folder",
            t.run_name
        );
        for (name, value) in [("lr", t.lr), ("text_encoder_lr", t.text_encoder_lr), ("weight_decay", t.weight_decay)]
        {
            anyhow::ensure!(value >= 0.0 && value.is_finite(), "{name} is {value}: expected a number >= 0");
        }
        anyhow::ensure!((0.0..=1.0).contains(&t.ema_decay), "ema_decay {} is not in [0, 1]", t.ema_decay);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn later_layers_win_and_the_rest_is_published() {
        let mut settings = Settings::default();
        settings.add_json(r#"{"epochs": 7, "backbone": "resnet50", "typo": 1}"#, "file").unwrap();
        settings.add_assignment("epochs=3").unwrap();
        settings.add_assignment("text_config.hidden_size=48").unwrap();
        settings.add_assignment("text_config.num-attention-heads=4").unwrap();
        settings.add_assignment("run_name=x").unwrap();
        let (config, unknown) = settings.resolve().unwrap();
        assert_eq!(unknown, ["typo"]);
        assert_eq!((config.training.epochs, config.training.lr_drop), (3, 35));
        assert_eq!(config.model.backbone, "resnet50");
        assert_eq!(config.model.text().hidden_size, 48);
        assert_eq!(config.training.run_name, "x");
    }

    #[test]
    fn a_resolved_configuration_reads_back_as_itself() {
        let config = RunConfig::default();
        let mut settings = Settings::default();
        settings.add_json(&serde_json::to_string(&config).unwrap(), "itself").unwrap();
        let (again, unknown) = settings.resolve().unwrap();
        assert_eq!(again, config);
        assert!(unknown.is_empty(), "{unknown:?}");
    }

    #[test]
    fn wrong_values_are_errors() {
        for bad in [
            "epochs=many",
            "backbone=vgg",
            "run_name=a/b",
            "batch_size=0",
            "lr=-1",
            "schedule=cosine",
            "precision=f8",
        ] {
            let mut settings = Settings::default();
            settings.add_assignment(bad).unwrap();
            assert!(settings.resolve().is_err(), "{bad}");
        }
        assert!(Settings::default().add_assignment("epochs").is_err());
    }
}
