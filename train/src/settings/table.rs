//! Every setting: its name, what it holds, and what it does.
//!
//! To add one: a field with a default in [`RunConfig`]'s parts, and a row here. The command line,
//! `--set` and JSON files follow; a test holds the rows against the fields.

use std::sync::LazyLock;

use serde_json::Value;

use crate::config::RunConfig;
use Kind::{Choice, Count, Counts, Integer, Number, Object, Path, Paths, Switch, Text, Words};

/// A row of the table.
#[derive(Debug)]
pub struct Setting {
    /// The name of its field in a serialized configuration; a dot reaches into an object.
    pub key: &'static str,
    /// What it holds.
    pub kind: Kind,
    /// A line for `--help`; of a switch, what happens when it is turned from its default.
    pub help: &'static str,
    /// Whether the published program has it.
    pub is_published: bool,
}

/// What a setting holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// True or false; `no_` before the name, or taken from it, is the opposite.
    Switch,
    /// A whole number, 0 or more.
    Count,
    /// A whole number.
    Integer,
    /// A number.
    Number,
    /// A text.
    Text,
    /// A path, or what is as good as one.
    Path,
    /// One of these.
    Choice(&'static [&'static str]),
    /// Texts, several after one flag.
    Words,
    /// Paths, one a flag.
    Paths,
    /// Whole numbers, several after one flag.
    Counts,
    /// A JSON object whose settings have dotted rows of their own.
    Object,
}

impl Setting {
    /// The name of a switch's opposite.
    pub fn opposite(&self) -> Option<String> {
        let opposite = || self.key.strip_prefix("no_").map_or_else(|| format!("no_{}", self.key), String::from);
        (self.kind == Kind::Switch).then(opposite)
    }

    /// As its field serializes; null where there is none, and within objects.
    pub fn default(&self) -> &'static Value {
        // Through text, which rounds an f32 as it is written.
        static DEFAULTS: LazyLock<Value> = LazyLock::new(|| {
            let text = serde_json::to_string(&RunConfig::default()).expect("a configuration is JSON");
            serde_json::from_str(&text).expect("it was just written")
        });
        &DEFAULTS[self.key]
    }

    /// Its name on the command line: of a switch, the name that turns it from its default.
    pub fn flag(&self) -> String {
        self.opposite().filter(|_| self.default() == true).unwrap_or_else(|| self.key.into())
    }
}

/// An option of the published program, or a key of its configuration files.
const fn published(key: &'static str, kind: Kind, help: &'static str) -> Setting {
    Setting { key, kind, help, is_published: true }
}

/// A setting of this program alone.
const fn ours(key: &'static str, kind: Kind, help: &'static str) -> Setting {
    Setting { key, kind, help, is_published: false }
}

/// Every setting.
pub fn all() -> impl Iterator<Item = &'static Setting> {
    GROUPS.iter().flat_map(|(_, rows)| rows.iter())
}

/// The settings under the headings of `--help`.
pub const GROUPS: [(&str, &[Setting]); 7] = [
    ("Run", RUN),
    ("Data", DATA),
    ("Published datasets", DATASETS),
    ("Model", MODEL),
    ("Losses and matching", LOSSES),
    ("Optimization", OPTIMIZATION),
    ("Published, not built yet (a run that needs one does not start)", UNBUILT),
];

const RUN: &[Setting] = &[
    published("run_name", Text, "Name of the run's folder below --output-dir"),
    published("output_dir", Path, "Where runs go; without --run-name, the run's folder itself"),
    published(
        "device",
        Text,
        "Where to compute: cpu, cuda, cuda:N (a GPU by its number), or auto (a GPU if there is one)",
    ),
    published("seed", Count, "Seed of weights, order, augmentation and dropout"),
    published("eval", Switch, "Only evaluate the checkpoint that --resume or --load names, as `mdetr eval` does"),
    published(
        "resume",
        Text,
        "Go on with the run of this checkpoint or folder (auto: this run, if it began), or evaluate it",
    ),
    published("load", Text, "Start from the weights of this checkpoint"),
    ours("backbone_weights", Path, "Weights that a ResNet starts from: torchvision's or timm's"),
    ours("text_encoder_weights", Path, "Weights that RoBERTa starts from: Hugging Face's, a file or its folder"),
    ours("from_scratch", Switch, "Start a ResNet or RoBERTa at random where no weights are given"),
    published("start_epoch", Count, "The first epoch"),
    ours("overwrite", Switch, "Throw away the run that is in the folder"),
    ours("save_every", Text, "Save inside of epochs too: after so many steps (500) or minutes (10m)"),
    ours("keep", Count, "Keep the newest so many of the numbered checkpoints"),
    published("num_workers", Count, "Loader threads"),
    published("eval_skip", Count, "Evaluate every so many epochs"),
    ours("max_steps", Count, "Stop after so many steps"),
    ours(
        "precision",
        Choice(&["fp32", "tf32", "fp16", "bf16"]),
        "What a training step, or an evaluation on its own, computes in",
    ),
];

const DATA: &[Setting] = &[
    ours("train_ann", Path, "Training annotations in MDETR's COCO-style format, instead of published datasets"),
    ours("val_ann", Paths, "Validation annotations, instead of published datasets; may be given several times"),
    ours("img_path", Path, "The folder of the images of --train-ann and --val-ann"),
    ours("skip_bad", Switch, "Leave out rows of annotation files that are wrong"),
    ours("train_scales", Counts, "Lengths of the shorter side in training"),
    ours("val_scale", Count, "Length of the shorter side in evaluation"),
    ours("max_size", Count, "Limit of the longer side"),
    ours("random_crop", Switch, "Do not crop every second training image"),
    ours("crop_scales", Counts, "Lengths of the shorter side before a crop"),
    ours("crop_min_size", Count, "Least side of a crop"),
    ours("crop_max_size", Count, "Greatest side of a crop"),
    ours("cautious", Switch, "Let crops lose boxes, and mirror every second training image"),
    ours("emoji", Object, "Make this emoji dataset first, unless it is there"),
    ours("emoji.seed", Count, "Seed of its scenes"),
    ours("emoji.size", Count, "Side of its images in pixels"),
    ours("emoji.train", Count, "Scenes in its train.json"),
    ours("emoji.pretrain", Count, "Scenes in its pretrain.json"),
    ours("emoji.val", Count, "Scenes in its val.json"),
    ours("emoji.val_unseen", Count, "Scenes in its val_unseen.json"),
    ours(
        "emoji.preset",
        Choice(&["base", "hard"]),
        "What its captions say: names, or colours, counts and relations too",
    ),
    ours("emoji_dir", Path, "Where the emoji dataset goes"),
];

const DATASETS: &[Setting] = &[
    published(
        "combine_datasets",
        Words,
        "Datasets to train on: flickr, mixed, refexp, gqa, vg, phrasecut, modulated_lvis, clevr, clevrref",
    ),
    published("combine_datasets_val", Words, "Datasets to evaluate on"),
    published("test", Switch, "Evaluate on the test split of flickr, refexp and phrasecut"),
    published("test_type", Choice(&["testA", "testB", "test"]), "Which test split of refexp"),
    published("coco_path", Path, "Images of mixed and refexp: the folder of train2014 and val2014"),
    published("coco2017_path", Path, "Images of modulated_lvis: the folder of train2017 and val2017"),
    published("vg_img_path", Path, "Images of mixed, gqa, vg and phrasecut"),
    published("vg_ann_path", Path, "Read by nothing, in the published program either"),
    published("flickr_img_path", Path, "Images of flickr: the folder of train and val"),
    published("flickr_ann_path", Path, "Annotations of flickr"),
    published(
        "flickr_dataset_path",
        Path,
        "Flickr30k Entities itself; not read: recall is of the annotations' phrases",
    ),
    published(
        "GT_type",
        Choice(&["separate", "merged"]),
        "A box of flickr's phrases each, or one for all of a phrase",
    ),
    published("refexp_ann_path", Path, "Annotations of refexp"),
    published(
        "refexp_dataset_name",
        Choice(&["refcoco", "refcoco+", "refcocog", "all"]),
        "Which of refexp's datasets",
    ),
    published("gqa_ann_path", Path, "Annotations of gqa, mixed and vg"),
    published("gqa_split_type", Choice(&["balanced", "all"]), "Which of GQA's questions; for question heads"),
    published("clevr_img_path", Path, "Images of clevr"),
    published("clevr_ann_path", Path, "Annotations of clevr"),
    published("clevr_variant", Choice(&["normal", "cogent", "humans"]), "Which of clevr's datasets"),
    published("cogent_set", Text, "Which part of CLEVR-CoGenT's questions; for question heads"),
    published("phrasecut_ann_path", Path, "Annotations of phrasecut"),
    published("phrasecut_orig_ann_path", Path, "PhraseCut itself; not read: it is for masks"),
    published("modulated_lvis_ann_path", Path, "Annotations of modulated_lvis"),
    published("lvis_subset", Count, "Percent of LVIS to train on"),
];

const MODEL: &[Setting] = &[
    published("backbone", Text, "resnet18, resnet34, resnet50, resnet101, or conv5 (five convolutions)"),
    published("dilation", Switch, "Replace the stride of the last stage by dilation (DC5)"),
    published("position_embedding", Choice(&["sine", "learned"]), "Positions of image tokens"),
    published("enc_layers", Count, "Encoder layers"),
    published("dec_layers", Count, "Decoder layers"),
    published("dim_feedforward", Count, "Width of the feed-forward networks"),
    published("hidden_dim", Count, "Width of the transformer"),
    published("nheads", Count, "Attention heads"),
    published("num_queries", Count, "Object queries"),
    published("dropout", Number, "Dropout of the transformer in training"),
    published("pre_norm", Switch, "Normalize before instead of after each sublayer"),
    published(
        "text_encoder_type",
        Choice(&["roberta-base", "distilroberta-base", "roberta-large", "words"]),
        "The text encoder; words has embeddings only",
    ),
    published("freeze_text_encoder", Switch, "Leave the text encoder as loaded"),
    ours("text_config", Object, "Sizes of the text encoder, under Hugging Face's names"),
    ours("text_config.vocab_size", Count, "Rows of its word embedding"),
    ours("text_config.hidden_size", Count, "Its width"),
    ours("text_config.num_hidden_layers", Count, "Its layers"),
    ours("text_config.num_attention_heads", Count, "Its attention heads"),
    ours("text_config.intermediate_size", Count, "Width of its feed-forward networks"),
    ours("text_config.max_position_embeddings", Count, "Rows of its position embedding"),
    ours("text_config.type_vocab_size", Count, "Rows of its token type embedding"),
    ours("text_config.layer_norm_eps", Number, "Added to its variances"),
    ours("text_config.pad_token_id", Count, "Its padding token"),
    ours("text_config.hidden_dropout_prob", Number, "Its dropout on embeddings and sublayer outputs"),
    ours("text_config.attention_probs_dropout_prob", Number, "Its dropout on attention probabilities"),
    ours("text_config.vocabulary", Counts, "For words: the tokens that have a row of their own"),
    ours("tie_key_query_init", Switch, "Start each encoder key projection as a copy of its query projection"),
    ours("positions_at_input", Switch, "Add positions to the image tokens at the encoder's input too"),
];

const LOSSES: &[Setting] = &[
    published("aux_loss", Switch, "Train the last decoder layer's predictions only"),
    published("contrastive_align_loss", Switch, "Train without the contrastive alignment loss"),
    published("contrastive_loss_hdim", Count, "Width of the space that queries and tokens are aligned in"),
    published("temperature_NCE", Number, "Temperature of the contrastive alignment loss"),
    published("set_cost_class", Number, "Weight of the soft-token cost in matching"),
    published("set_cost_bbox", Number, "Weight of the L1 box cost in matching"),
    published("set_cost_giou", Number, "Weight of the generalized IoU cost in matching"),
    published("ce_loss_coef", Number, "Weight of the soft-token loss"),
    published("bbox_loss_coef", Number, "Weight of the L1 box loss"),
    published("giou_loss_coef", Number, "Weight of the generalized IoU loss"),
    published("contrastive_align_loss_coef", Number, "Weight of the contrastive alignment loss"),
    published("eos_coef", Number, "Weight of unmatched queries in the soft-token loss"),
];

const OPTIMIZATION: &[Setting] = &[
    published("epochs", Count, "Passes over the training data"),
    published("batch_size", Count, "Images in a batch"),
    ours("accumulate", Count, "Batches whose gradients make one step"),
    ours("buckets", Switch, "Round sizes of training batches up, so that few occur"),
    ours("graphs", Switch, "Capture steps as CUDA graphs, and launch these; implies --buckets"),
    published("lr", Number, "Learning rate of the transformer and the heads"),
    published("lr_backbone", Number, "Learning rate of the backbone; 0 freezes it"),
    published("text_encoder_lr", Number, "Learning rate of the text encoder"),
    published("lr_drop", Count, "Epoch of the learning rates' drop"),
    published(
        "schedule",
        Choice(&["step", "multistep", "linear_with_warmup", "all_linear_with_warmup", "warmup_hold_cosine"]),
        "How learning rates change",
    ),
    published("fraction_warmup_steps", Number, "Part of the run that warms up"),
    ours("fraction_hold_steps", Number, "Part of the run after which warmup_hold_cosine falls"),
    published("optimizer", Choice(&["adam", "adamw", "sgd"]), "What updates weights; adam means AdamW, as published"),
    published("weight_decay", Number, "Weight decay of every parameter"),
    published("clip_max_norm", Number, "Largest norm of all gradients together; 0 does not clip"),
    published("ema", Switch, "Keep a moving average of the weights, and evaluate it"),
    published("ema_decay", Number, "Its decay"),
    ours("pretrain", Object, "The image-caption warm-up before training"),
    ours("pretrain.easy_ann", Path, "Annotations of its easy scenes"),
    ours("pretrain.easy_steps", Count, "Its steps on easy scenes"),
    ours("pretrain.steps", Count, "Its steps in all"),
    ours("pretrain.lr", Number, "Its learning rate"),
    ours("pretrain.batch_size", Count, "Images in its step"),
];

const UNBUILT: &[Setting] = &[
    published("masks", Switch, "Train and evaluate masks"),
    published("mask_model", Choice(&["none", "smallconv", "v2"]), "The mask head"),
    published("mask_loss_coef", Number, "Weight of the masks' focal loss"),
    published("dice_loss_coef", Number, "Weight of the masks' dice loss"),
    published("frozen_weights", Text, "A detector to freeze while a mask head is trained"),
    published("remove_difficult", Switch, "Read by nothing, in the published program either"),
    published("do_qa", Switch, "Answer questions"),
    published("split_qa_heads", Switch, "A head for each type of question"),
    published("qa_loss_coef", Number, "Weight of the answers' losses"),
    published("no_detection", Switch, "Train without boxes"),
    published("predict_final", Switch, "Predict whether the whole caption is about a box (CLEVR-Ref+)"),
    published("contrastive_loss", Switch, "The contrastive loss between captions and images"),
    published("contrastive_loss_coef", Number, "Its weight"),
    published(
        "set_loss",
        Choice(&["sequential", "hungarian", "lexicographical"]),
        "How predictions and boxes are paired",
    ),
    published("pass_pos_and_query", Switch, "Leave positions and object queries out of attention"),
    published("epoch_chunks", Integer, "Make an epoch of each of so many parts of the training set"),
    published(
        "split",
        Choice(&["train", "val", "test", "testA", "testB", "valA", "valB", "testdev", "challenge", "submission"]),
        "What the scripts that evaluate GQA and CLEVR answer",
    ),
    published("clevr_eval_path", Path, "CLEVR's questions, for its script"),
    published("lvis_minival_path", Path, "LVIS' minival annotations, for its script"),
    published("world_size", Count, "Processes of the run"),
    published("dist_url", Text, "Where they meet; for one process, nothing reads it"),
    published("ngpus", Count, "GPUs on each node of a cluster's job"),
    published("nodes", Count, "Nodes of the job"),
    published("partition", Text, "The cluster's partition"),
    published("timeout", Count, "Minutes that the job may take"),
    published("job_dir", Path, "The job's folder"),
    published("mail", Text, "Whom the cluster tells that the job has ended"),
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use mdetr_model::TextConfig;
    use serde_json::{Map, json};

    use super::*;
    use crate::config::PretrainConfig;
    use crate::emoji::EmojiConfig;

    /// Serialized with all of its objects.
    fn fields() -> Map<String, Value> {
        let mut config = RunConfig::default();
        config.model.text_config = Some(TextConfig::default());
        config.data.emoji = Some(EmojiConfig::default());
        let [path, number] = [json!(""), json!(0)];
        let pretrain =
            json!({"easy_ann": path, "easy_steps": number, "steps": number, "lr": number, "batch_size": number});
        config.training.pretrain = Some(serde_json::from_value::<PretrainConfig>(pretrain).unwrap());
        let Value::Object(fields) = serde_json::to_value(config).unwrap() else { panic!("an object") };
        fields
    }

    #[test]
    fn fields_and_rows_are_the_same() {
        let mut names = BTreeSet::new();
        for (name, value) in fields() {
            let inner = value.as_object().into_iter().flatten().map(|(inner, _)| format!("{name}.{inner}"));
            names.extend(inner);
            names.insert(name);
        }
        let rows: Vec<String> = all().map(|setting| setting.key.to_string()).collect();
        assert_eq!(rows.len(), rows.iter().collect::<BTreeSet<_>>().len(), "a key has two rows");
        let rows: BTreeSet<String> = rows.into_iter().collect();
        assert_eq!(rows.difference(&names).collect::<Vec<_>>(), Vec::<&String>::new(), "rows without a field");
        assert_eq!(names.difference(&rows).collect::<Vec<_>>(), Vec::<&String>::new(), "fields without a row");
    }

    #[test]
    fn kinds_are_those_of_the_fields() {
        let fields = fields();
        for setting in all() {
            let value = match setting.key.split_once('.') {
                None => &fields[setting.key],
                Some((outer, inner)) => &fields[outer][inner],
            };
            let fits = match setting.kind {
                Switch => value.is_boolean(),
                Count => value.is_u64(),
                Integer => value.is_i64(),
                Number => value.is_f64(),
                Text | Path => value.is_string(),
                Choice(choices) => value.as_str().is_some_and(|text| choices.contains(&text)),
                Words | Paths | Counts => value.is_array(),
                Object => value.is_object(),
            };
            assert!(fits || value.is_null(), "{}: {value} is no {:?}", setting.key, setting.kind);
        }
    }
}
