//! Published options whose parts are not built. They parse and resolve, so that published commands and configurations are
//! understood; a run that would need them does not start. Building a part moves its options to where they belong.

use anyhow::{Result, bail};
use serde::{Deserialize, Serialize};

/// The options, with the published defaults.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct UnbuiltConfig {
    /// Trains and evaluates masks.
    pub masks: bool,
    /// The mask head: `none`, `smallconv` or `v2`.
    pub mask_model: String,
    /// Weight of the masks' focal loss.
    pub mask_loss_coef: f64,
    /// Weight of the masks' dice loss.
    pub dice_loss_coef: f64,
    /// A detector to freeze while a mask head is trained.
    pub frozen_weights: Option<String>,
    /// Read by nothing, in the published program either.
    pub remove_difficult: bool,
    /// Answers questions.
    pub do_qa: bool,
    /// A head for each type of question.
    pub split_qa_heads: bool,
    /// Weight of the answers' losses.
    pub qa_loss_coef: f64,
    /// Trains without boxes.
    pub no_detection: bool,
    /// Predicts whether a box is one that the whole caption refers to.
    pub predict_final: bool,
    /// The sentence-level contrastive loss.
    pub contrastive_loss: bool,
    /// Its weight.
    pub contrastive_loss_coef: f64,
    /// How predictions and boxes are paired: `hungarian`, `sequential` or `lexicographical`.
    pub set_loss: String,
    /// Adds positions and object queries in every attention layer.
    pub pass_pos_and_query: bool,
    /// Makes an epoch of each part of the training set; -1: one of all of it.
    pub epoch_chunks: i64,
    /// What the published evaluation scripts for GQA and CLEVR answer.
    pub split: Option<String>,
    /// CLEVR's questions, for its script.
    pub clevr_eval_path: Option<String>,
    /// LVIS' minival annotations, for its script.
    pub lvis_minival_path: Option<String>,
    /// Processes of a run.
    pub world_size: usize,
    /// Where they meet; nothing reads it for one process.
    pub dist_url: String,
    /// GPUs on each node of a cluster's job.
    pub ngpus: usize,
    /// Nodes of the job.
    pub nodes: usize,
    /// The cluster's partition.
    pub partition: Option<String>,
    /// Minutes that the job may take.
    pub timeout: usize,
    /// The job's folder.
    pub job_dir: Option<String>,
    /// Whom the cluster tells that the job has ended.
    pub mail: Option<String>,
}

impl Default for UnbuiltConfig {
    fn default() -> Self {
        UnbuiltConfig {
            masks: false,
            mask_model: "none".into(),
            mask_loss_coef: 1.0,
            dice_loss_coef: 1.0,
            frozen_weights: None,
            remove_difficult: false,
            do_qa: false,
            split_qa_heads: false,
            qa_loss_coef: 1.0,
            no_detection: false,
            predict_final: false,
            contrastive_loss: false,
            contrastive_loss_coef: 0.1,
            set_loss: "hungarian".into(),
            pass_pos_and_query: true,
            epoch_chunks: -1,
            split: None,
            clevr_eval_path: None,
            lvis_minival_path: None,
            world_size: 1,
            dist_url: "env://".into(),
            ngpus: 1,
            nodes: 1,
            partition: None,
            timeout: 4300,
            job_dir: None,
            mail: None,
        }
    }
}

impl UnbuiltConfig {
    /// Refuses what a run would need and is not there, all of it at once. Weights of losses that are off, which change
    /// nothing, pass.
    pub fn check(&self) -> Result<()> {
        let qa = "question heads are not built: leave it out, or set it to 0";
        let script = "the published evaluation scripts are not built: `mdetr eval CHECKPOINT` evaluates boxes";
        let job = "jobs of a cluster are not started from here: submit `mdetr train` with your own script";
        let refused = [
            ("masks", self.masks, "mask heads are not built: leave it out to train and evaluate boxes"),
            ("mask_model", self.mask_model != "none", "mask heads are not built: the one that works is none"),
            ("frozen_weights", self.frozen_weights.is_some(), "it is for mask heads, which are not built"),
            ("do_qa", self.do_qa, qa),
            ("split_qa_heads", self.split_qa_heads, qa),
            ("no_detection", self.no_detection, "it leaves questions alone, whose heads are not built"),
            ("predict_final", self.predict_final, "the head for it is not built: leave it out, or set it to 0"),
            ("contrastive_loss", self.contrastive_loss, "this loss is not built; contrastive_align_loss is"),
            ("set_loss", self.set_loss != "hungarian", "this matching is not built: the one that works is hungarian"),
            ("no_pass_pos_and_query", !self.pass_pos_and_query, "attention without positions is not built"),
            ("epoch_chunks", self.epoch_chunks > 0, "chunks are not built: an epoch takes the whole training set"),
            ("split", self.split.is_some(), script),
            ("clevr_eval_path", self.clevr_eval_path.is_some(), script),
            ("lvis_minival_path", self.lvis_minival_path.is_some(), script),
            ("world_size", self.world_size > 1, "a run is one process: set it to 1"),
            ("ngpus", self.ngpus > 1, "a run is one process on one GPU: set it to 1"),
            ("nodes", self.nodes > 1, "a run is one process: set it to 1"),
            ("partition", self.partition.is_some(), job),
            ("timeout", self.timeout != Self::default().timeout, job),
            ("job_dir", self.job_dir.is_some(), job),
            ("mail", self.mail.is_some(), job),
        ];
        let refused = refused.into_iter().filter(|&(_, is_set, _)| is_set);
        let lines: Vec<String> = refused.map(|(key, _, reason)| format!("{key}: {reason}")).collect();
        match lines.as_slice() {
            [] => Ok(()),
            [line] => bail!("{line}"),
            lines => bail!("what this run asks for is not all there:\n  {}", lines.join("\n  ")),
        }
    }
}
