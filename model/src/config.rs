//! What a model is made of, under the published argument names. Every default is the published program's.

use serde::{Deserialize, Serialize};

/// The architecture. JSON keys are the published program's arguments; keys of other parts of a configuration are
/// ignored, so a whole run's `config.json` can be read as one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ModelConfig {
    /// `resnet18`, `resnet34`, `resnet50`, `resnet101`, or `conv5` (a small network of five convolutions).
    pub backbone: String,
    /// Replaces the stride of the last stage by dilation (DC5).
    pub dilation: bool,
    /// `sine` or `learned`.
    pub position_embedding: String,
    /// Number of encoder layers.
    pub enc_layers: usize,
    /// Number of decoder layers.
    pub dec_layers: usize,
    /// Width of the feed-forward networks.
    pub dim_feedforward: usize,
    /// Width of the transformer.
    pub hidden_dim: usize,
    /// Attention heads.
    pub nheads: usize,
    /// Object queries.
    pub num_queries: usize,
    /// Dropout of the transformer in training.
    pub dropout: f32,
    /// Normalizes before instead of after each sublayer.
    pub pre_norm: bool,
    /// Predicts (and trains) at every decoder layer.
    pub aux_loss: bool,
    /// Projects queries and tokens into a shared space for the contrastive alignment loss.
    pub contrastive_align_loss: bool,
    /// Width of that space.
    pub contrastive_loss_hdim: usize,
    /// `roberta-base`, `distilroberta-base`, `roberta-large`, or `words` (embeddings only). Sizes are `text_config`'s.
    pub text_encoder_type: String,
    /// Sizes of the text encoder; absent: those of `text_encoder_type`.
    pub text_config: Option<TextConfig>,
    /// Leaves the text encoder as loaded.
    pub freeze_text_encoder: bool,
    /// Learning rate of the backbone; 0 freezes it.
    pub lr_backbone: f64,
    /// Starts each encoder key projection as a copy of its query projection, so that tokens attend to their like.
    pub tie_key_query_init: bool,
    /// Adds the position encoding once to the image tokens at the encoder's input, besides adding it in attention.
    pub positions_at_input: bool,
}

impl Default for ModelConfig {
    fn default() -> Self {
        ModelConfig {
            backbone: "resnet101".into(),
            dilation: false,
            position_embedding: "sine".into(),
            enc_layers: 6,
            dec_layers: 6,
            dim_feedforward: 2048,
            hidden_dim: 256,
            nheads: 8,
            num_queries: 100,
            dropout: 0.1,
            pre_norm: false,
            aux_loss: true,
            contrastive_align_loss: true,
            contrastive_loss_hdim: 64,
            text_encoder_type: "roberta-base".into(),
            text_config: None,
            freeze_text_encoder: false,
            lr_backbone: 1e-5,
            tie_key_query_init: false,
            positions_at_input: false,
        }
    }
}

/// Sizes of the text encoder, under the names of a Hugging Face RoBERTa `config.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct TextConfig {
    /// Rows of the word embedding.
    pub vocab_size: usize,
    /// Width.
    pub hidden_size: usize,
    /// Layers.
    pub num_hidden_layers: usize,
    /// Attention heads.
    pub num_attention_heads: usize,
    /// Width of the feed-forward networks.
    pub intermediate_size: usize,
    /// Rows of the position embedding; RoBERTa's first token has position `pad_token_id` + 1.
    pub max_position_embeddings: usize,
    /// Rows of the token type embedding.
    pub type_vocab_size: usize,
    /// Added to variances.
    pub layer_norm_eps: f64,
    /// The padding token: its embedding gets no gradient.
    pub pad_token_id: usize,
    /// Dropout on embeddings and sublayer outputs.
    pub hidden_dropout_prob: f32,
    /// Dropout on attention probabilities.
    pub attention_probs_dropout_prob: f32,
    /// For `words`: the tokenizer's ids that have an embedding row of their own, in the order of the rows from 1 on;
    /// row 0 is shared by all others. Empty: token ids are rows.
    pub vocabulary: Vec<i32>,
}

impl Default for TextConfig {
    fn default() -> Self {
        TextConfig {
            vocab_size: 50265,
            hidden_size: 768,
            num_hidden_layers: 12,
            num_attention_heads: 12,
            intermediate_size: 3072,
            max_position_embeddings: 514,
            type_vocab_size: 1,
            layer_norm_eps: 1e-5,
            pad_token_id: 1,
            hidden_dropout_prob: 0.1,
            attention_probs_dropout_prob: 0.1,
            vocabulary: Vec::new(),
        }
    }
}

impl ModelConfig {
    /// The text encoder's sizes: those given, or those that the published model of that name has.
    pub fn text(&self) -> TextConfig {
        if let Some(text) = &self.text_config {
            return text.clone();
        }
        let base = TextConfig::default();
        match self.text_encoder_type.as_str() {
            "distilroberta-base" => TextConfig { num_hidden_layers: 6, ..base },
            "roberta-large" => TextConfig {
                hidden_size: 1024,
                num_hidden_layers: 24,
                num_attention_heads: 16,
                intermediate_size: 4096,
                ..base
            },
            _ => base,
        }
    }

    /// Checks what the modules rely on; the error names the argument.
    pub fn validate(&self) -> anyhow::Result<()> {
        let heads_divide = |what: &str, width: usize, heads: usize| {
            anyhow::ensure!(
                heads > 0 && width.is_multiple_of(heads),
                "{what} {width} is not a multiple of {heads} heads"
            );
            Ok(())
        };
        heads_divide("hidden_dim", self.hidden_dim, self.nheads)?;
        anyhow::ensure!(self.hidden_dim.is_multiple_of(4), "hidden_dim {} is not a multiple of 4", self.hidden_dim);
        anyhow::ensure!(self.dec_layers > 0, "dec_layers is 0: the decoder makes the predictions");
        anyhow::ensure!(self.num_queries > 0, "num_queries is 0: there is nothing to predict boxes with");
        anyhow::ensure!((0.0..1.0).contains(&self.dropout), "dropout {} is not in [0, 1)", self.dropout);
        anyhow::ensure!(
            !self.backbone.starts_with("timm_"),
            "backbone {:?}: timm's backbones are not built yet",
            self.backbone
        );
        let backbones = ["resnet18", "resnet34", "resnet50", "resnet101", "conv5"];
        anyhow::ensure!(
            backbones.contains(&self.backbone.as_str()),
            "backbone {:?} is not known; there are {}",
            self.backbone,
            backbones.join(", ")
        );
        anyhow::ensure!(
            ["sine", "learned"].contains(&self.position_embedding.as_str()),
            "position_embedding {:?} is neither \"sine\" nor \"learned\"",
            self.position_embedding
        );
        anyhow::ensure!(
            !self.dilation || ["resnet50", "resnet101"].contains(&self.backbone.as_str()),
            "dilation needs the bottleneck blocks of resnet50 or resnet101, not {}",
            self.backbone
        );
        let text = self.text();
        if self.text_encoder_type != "words" {
            heads_divide("hidden_size of the text encoder", text.hidden_size, text.num_attention_heads)?;
        }
        anyhow::ensure!(
            text.vocabulary.is_empty() || text.vocab_size == text.vocabulary.len() + 1,
            "text_config: vocab_size {} is not the {} ids of vocabulary and one row for all others",
            text.vocab_size,
            text.vocabulary.len()
        );
        Ok(())
    }
}

/// Weights of the losses and of the matcher's cost, under the published argument names.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct CriterionConfig {
    /// Weight of the soft-token class cost in matching.
    pub set_cost_class: f64,
    /// Weight of the L1 box cost in matching.
    pub set_cost_bbox: f64,
    /// Weight of the generalized IoU cost in matching.
    pub set_cost_giou: f64,
    /// Weight of `loss_ce`.
    pub ce_loss_coef: f64,
    /// Weight of `loss_bbox`.
    pub bbox_loss_coef: f64,
    /// Weight of `loss_giou`.
    pub giou_loss_coef: f64,
    /// Weight of `loss_contrastive_align`.
    pub contrastive_align_loss_coef: f64,
    /// Weight of unmatched queries in `loss_ce`.
    pub eos_coef: f64,
    /// Temperature of the contrastive alignment loss.
    #[serde(rename = "temperature_NCE")]
    pub temperature_nce: f64,
}

impl Default for CriterionConfig {
    fn default() -> Self {
        CriterionConfig {
            set_cost_class: 1.0,
            set_cost_bbox: 5.0,
            set_cost_giou: 2.0,
            ce_loss_coef: 1.0,
            bbox_loss_coef: 5.0,
            giou_loss_coef: 2.0,
            contrastive_align_loss_coef: 1.0,
            eos_coef: 0.1,
            temperature_nce: 0.07,
        }
    }
}
