//! The published datasets: which files they are made of, by the published names.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{ImageFolders, Split};

/// An annotation file and where its images are.
#[derive(Clone, Debug)]
pub struct Source {
    /// What metrics call it.
    pub name: String,
    /// The annotation file.
    pub annotations: PathBuf,
    /// The images.
    pub folders: ImageFolders,
}

/// Which datasets, and where they are, under the published names.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct OfficialConfig {
    /// Datasets to train on.
    pub combine_datasets: Vec<String>,
    /// Datasets to evaluate on.
    pub combine_datasets_val: Vec<String>,
    /// Evaluates on test splits.
    pub test: bool,
    /// Which test split of referring expressions.
    pub test_type: String,
    /// COCO's images: the folder of `train2014` and `val2014`.
    pub coco_path: Option<PathBuf>,
    /// COCO's images: the folder of `train2017` and `val2017`.
    pub coco2017_path: Option<PathBuf>,
    /// Visual Genome's images.
    pub vg_img_path: Option<PathBuf>,
    /// Read by nothing.
    pub vg_ann_path: Option<PathBuf>,
    /// Flickr30k's images: the folder of `train` and `val`.
    pub flickr_img_path: Option<PathBuf>,
    /// Annotations of `flickr`.
    pub flickr_ann_path: Option<PathBuf>,
    /// Flickr30k Entities itself, which nothing reads.
    pub flickr_dataset_path: Option<PathBuf>,
    /// `separate` boxes of a phrase, or `merged` ones.
    #[serde(rename = "GT_type")]
    pub gt_type: String,
    /// Annotations of `refexp`.
    pub refexp_ann_path: Option<PathBuf>,
    /// `refcoco`, `refcoco+`, `refcocog` or `all`.
    pub refexp_dataset_name: Option<String>,
    /// Annotations of `gqa`, `mixed` and `vg`.
    pub gqa_ann_path: Option<PathBuf>,
    /// `balanced` or `all` questions.
    pub gqa_split_type: Option<String>,
    /// CLEVR's images.
    pub clevr_img_path: Option<PathBuf>,
    /// Annotations of `clevr`.
    pub clevr_ann_path: Option<PathBuf>,
    /// `normal`, `cogent` or `humans`.
    pub clevr_variant: Option<String>,
    /// Part of CLEVR-CoGenT's questions.
    pub cogent_set: Option<String>,
    /// Annotations of `phrasecut`.
    pub phrasecut_ann_path: Option<PathBuf>,
    /// PhraseCut itself, which nothing reads.
    pub phrasecut_orig_ann_path: Option<PathBuf>,
    /// Annotations of `modulated_lvis`.
    pub modulated_lvis_ann_path: Option<PathBuf>,
    /// Percent of LVIS.
    pub lvis_subset: Option<usize>,
}

impl Default for OfficialConfig {
    fn default() -> Self {
        OfficialConfig {
            combine_datasets: vec!["flickr".into()],
            combine_datasets_val: vec!["flickr".into()],
            test: false,
            test_type: "test".into(),
            coco_path: None,
            coco2017_path: None,
            vg_img_path: None,
            vg_ann_path: None,
            flickr_img_path: None,
            flickr_ann_path: None,
            flickr_dataset_path: None,
            gt_type: "separate".into(),
            refexp_ann_path: None,
            refexp_dataset_name: None,
            gqa_ann_path: None,
            gqa_split_type: None,
            clevr_img_path: None,
            clevr_ann_path: None,
            clevr_variant: None,
            cogent_set: None,
            phrasecut_ann_path: None,
            phrasecut_orig_ann_path: None,
            modulated_lvis_ann_path: None,
            lvis_subset: None,
        }
    }
}

/// What the published program does to CLEVR's images, as settings: they are smaller than others, and evaluated as they are,
/// 480 x 320.
pub fn clevr_sizes() -> [(&'static str, Value); 6] {
    [
        ("train_scales", json!([256, 288, 320, 352, 384])),
        ("val_scale", json!(320)),
        ("max_size", json!(512)),
        ("crop_scales", json!([320, 352, 384])),
        ("crop_min_size", json!(256)),
        ("crop_max_size", json!(512)),
    ]
}

impl OfficialConfig {
    /// Whether it is CLEVR's images alone that are trained or evaluated on.
    pub fn is_clevr(&self) -> bool {
        let mut names = self.combine_datasets.iter().chain(&self.combine_datasets_val);
        !self.combine_datasets.is_empty() && names.all(|name| name.starts_with("clevr"))
    }

    /// The files of the datasets to train on, or to evaluate on. Errors name the dataset and the setting that it lacks.
    pub fn sources(&self, split: Split) -> Result<Vec<Source>> {
        let names = match split {
            Split::Train => &self.combine_datasets,
            Split::Val => &self.combine_datasets_val,
        };
        names.iter().map(|name| self.source(name, split).with_context(|| format!("the dataset {name}"))).collect()
    }

    fn source(&self, name: &str, split: Split) -> Result<Source> {
        let part = match split {
            Split::Train => "train",
            Split::Val => "val",
        };
        let is_test = self.test && split == Split::Val;
        let part_or_test = if is_test { "test" } else { part };
        let vg = || folder("vg_img_path", &self.vg_img_path).map(ImageFolders::one);
        let coco = |below: &str| folder("coco_path", &self.coco_path).map(|path| path.join(below));
        let gqa = || folder("gqa_ann_path", &self.gqa_ann_path);
        let (annotations, folders) = match name {
            "flickr" => {
                let annotations = folder("flickr_ann_path", &self.flickr_ann_path)?;
                let images = folder("flickr_img_path", &self.flickr_img_path)?.join(part);
                let boxes = &self.gt_type;
                (annotations.join(format!("final_flickr_{boxes}GT_{part_or_test}.json")), ImageFolders::one(images))
            }
            "mixed" => {
                let by_source = HashMap::from([("coco".to_string(), coco(&format!("{part}2014"))?)]);
                let annotations = gqa()?.join(format!("final_mixed_{part}.json"));
                (annotations, ImageFolders { by_source, ..vg()? })
            }
            "refexp" => {
                let dataset = self.refexp_dataset_name.as_deref();
                let dataset =
                    dataset.context("refexp_dataset_name is not set: refcoco, refcoco+, refcocog, or all")?;
                let file = match dataset {
                    "all" => format!("final_refexp_{part}.json"),
                    _ if is_test => format!("finetune_{dataset}_{}.json", self.test_type),
                    _ => format!("finetune_{dataset}_{part}.json"),
                };
                let annotations = folder("refexp_ann_path", &self.refexp_ann_path)?.join(file);
                (annotations, ImageFolders::one(coco("train2014")?))
            }
            "gqa" => (gqa()?.join(format!("final_gqa_{part}.json")), vg()?),
            "vg" => (gqa()?.join(format!("final_vg_{part}.json")), vg()?),
            "phrasecut" => {
                let part = if part_or_test == "val" { "miniv" } else { part_or_test };
                let annotations = folder("phrasecut_ann_path", &self.phrasecut_ann_path)?;
                (annotations.join(format!("finetune_phrasecut_{part}.json")), vg()?)
            }
            "modulated_lvis" => {
                let percent = self.lvis_subset.filter(|&percent| percent != 100).map(|percent| percent.to_string());
                let file = format!("finetune_lvis{}_{part}.json", percent.unwrap_or_default());
                let annotations = folder("modulated_lvis_ann_path", &self.modulated_lvis_ann_path)?.join(file);
                (annotations, ImageFolders::one(folder("coco2017_path", &self.coco2017_path)?))
            }
            "clevr" | "clevrref" => {
                let is_cogent = name == "clevr" && self.clevr_variant.as_deref() == Some("cogent");
                let images = format!("{part}{}", if is_cogent { "A" } else { "" });
                let images = folder("clevr_img_path", &self.clevr_img_path)?.join(images);
                let annotations = folder("clevr_ann_path", &self.clevr_ann_path)?.join(format!("{part}.json"));
                (annotations, ImageFolders::one(images))
            }
            "clevr_question" => bail!("it has questions and no boxes, and question heads are not built"),
            "lvis" | "coco" => bail!("it has categories and no captions: modulated_lvis is LVIS with captions"),
            _ => bail!("there are flickr, mixed, refexp, gqa, vg, phrasecut, modulated_lvis, clevr and clevrref"),
        };
        Ok(Source { name: name.into(), annotations, folders })
    }
}

/// The folder that a setting names.
fn folder<'a>(key: &str, path: &'a Option<PathBuf>) -> Result<&'a Path> {
    path.as_deref().with_context(|| format!("where is it? set {key} to its folder"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Settings;

    fn config(settings: &[&str]) -> OfficialConfig {
        let mut layers = Settings::default();
        settings.iter().for_each(|setting| layers.add_assignment(setting).unwrap());
        layers.resolve().unwrap().official
    }

    /// What the published program opens, for its configuration files.
    #[test]
    fn files_have_the_published_names() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/goldens/commands/commands.json");
        let recorded: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        let images = [
            "clevr_img_path=clevr",
            "coco_path=coco",
            "coco2017_path=lvis",
            "vg_img_path=vg",
            "flickr_img_path=flickr",
        ];
        for (file, more, split, expected) in [
            ("flickr", &[][..], Split::Train, json!([["final_flickr_separateGT_train.json", "flickr/train", null]])),
            (
                "flickr",
                &["GT_type=merged", "test=1"],
                Split::Val,
                json!([["final_flickr_mergedGT_test.json", "flickr/val", null]]),
            ),
            (
                "pretrain",
                &[],
                Split::Train,
                json!([
                    ["final_flickr_separateGT_train.json", "flickr/train", null],
                    ["final_mixed_train.json", "vg", "coco/train2014"]
                ]),
            ),
            (
                "pretrain",
                &[],
                Split::Val,
                json!([
                    ["final_gqa_val.json", "vg", null],
                    ["final_flickr_separateGT_val.json", "flickr/val", null],
                    ["final_refexp_val.json", "coco/train2014", null]
                ]),
            ),
            ("refcoco+", &[], Split::Train, json!([["finetune_refcoco+_train.json", "coco/train2014", null]])),
            (
                "refcoco",
                &["test=1", "test_type=testB"],
                Split::Val,
                json!([["finetune_refcoco_testB.json", "coco/train2014", null]]),
            ),
            (
                "refcocog",
                &["test=1", "test_type=testB"],
                Split::Train,
                json!([["finetune_refcocog_train.json", "coco/train2014", null]]),
            ),
            ("phrasecut", &[], Split::Val, json!([["finetune_phrasecut_miniv.json", "vg", null]])),
            ("phrasecut", &["test=1"], Split::Val, json!([["finetune_phrasecut_test.json", "vg", null]])),
            ("lvis", &[], Split::Train, json!([["finetune_lvis10_train.json", "lvis", null]])),
            (
                "clevr_pretrain",
                &["clevr_ann_path=mdetr_annotations"],
                Split::Val,
                json!([["val.json", "clevr/val", null]]),
            ),
            (
                "clevr_cogent",
                &["clevr_ann_path=mdetr_annotations"],
                Split::Train,
                json!([["train.json", "clevr/trainA", null]]),
            ),
            ("lvis", &["lvis_subset=100"], Split::Val, json!([["finetune_lvis_val.json", "lvis", null]])),
        ] {
            let mut layers = Settings::default();
            layers.add_json(&recorded["configs"][format!("configs/{file}.json")].to_string(), file).unwrap();
            images.iter().chain(more).for_each(|setting| layers.add_assignment(setting).unwrap());
            let sources = layers.resolve().unwrap().official.sources(split).unwrap();
            let found: Vec<Value> = sources
                .iter()
                .map(|source| {
                    let name = source.annotations.strip_prefix("mdetr_annotations").unwrap();
                    json!([name, source.folders.default, source.folders.by_source.get("coco")])
                })
                .collect();
            assert_eq!(Value::from(found), expected, "{file} {more:?} {split:?}");
        }
    }

    #[test]
    fn clevr_has_sizes_of_its_own_unless_they_are_set() {
        let of = |settings: &[&str]| {
            let mut layers = Settings::default();
            settings.iter().for_each(|setting| layers.add_assignment(setting).unwrap());
            layers.resolve().unwrap().data
        };
        let clevr = ["combine_datasets=clevr", "combine_datasets_val=clevr"];
        let (all, some) = (of(&clevr), of(&[&clevr[..], &["val_scale=400"]].concat()));
        assert_eq!((all.train_scales, all.val_scale, all.max_size), (vec![256, 288, 320, 352, 384], 320, 512));
        assert_eq!((all.crop_scales, all.crop_min_size, all.crop_max_size), (vec![320, 352, 384], 256, 512));
        assert_eq!((some.val_scale, some.max_size), (400, 512));
        assert_eq!(of(&clevr[..1]).val_scale, 800);
    }

    #[test]
    fn errors_name_the_dataset_and_what_it_lacks() {
        let error = |settings: &[&str]| format!("{:#}", config(settings).sources(Split::Train).unwrap_err());
        for (message, parts) in [
            (error(&[]), ["flickr", "flickr_ann_path"]),
            (error(&["flickr_ann_path=a"]), ["flickr", "flickr_img_path"]),
            (error(&["combine_datasets=refexp", "coco_path=c"]), ["refexp", "refexp_dataset_name"]),
            (error(&["combine_datasets=clevr_question"]), ["clevr_question", "question heads"]),
            (error(&["combine_datasets=imagenet"]), ["imagenet", "there are flickr"]),
        ] {
            for part in parts {
                assert!(message.contains(part), "{part:?} is not in: {message}");
            }
        }
    }
}
