//! The published datasets: which files they are made of, by the published names.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

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
