//! RoBERTa (Liu et al., 2019, arXiv 1907.11692), parameters as in Hugging Face's checkpoints.

use mdetr_autograd::functional as f;
use mdetr_autograd::{Tape, Var};
use mdetr_kernels::activation::Activation;
use mdetr_kernels::{Device, Segments, Tensor};

use crate::batch::Text;
use crate::config::TextConfig;
use crate::init::{Builder, Init};
use crate::nn::{Embedding, LayerNorm, Linear};
use crate::ragged::dense_segments;

/// Every weight starts normal with this deviation.
const INIT: Init = Init::Normal(0.02);

/// Embeddings and a stack of post-norm layers.
#[derive(Debug)]
pub struct Roberta {
    word_embeddings: Embedding,
    token_type_embeddings: Embedding,
    norm: LayerNorm,
    position_embeddings: Embedding,
    layers: Vec<Layer>,
    pooler: Linear,
    pub(super) config: TextConfig,
}

impl Roberta {
    /// Of any size.
    pub fn new(mut at: Builder, config: TextConfig) -> Self {
        let c = config.hidden_size;
        let pad = Some(config.pad_token_id);
        let mut e = at.at("embeddings");
        let word_embeddings = Embedding::new(e.at("word_embeddings"), config.vocab_size, c, INIT, pad);
        let token_type_embeddings =
            Embedding::new(e.at("token_type_embeddings"), config.type_vocab_size, c, INIT, None);
        let norm = LayerNorm::new(e.at("LayerNorm"), c, config.layer_norm_eps);
        let position_embeddings =
            Embedding::new(e.at("position_embeddings"), config.max_position_embeddings, c, INIT, pad);
        let layers =
            (0..config.num_hidden_layers).map(|i| Layer::new(at.at("encoder").at("layer").at(i), &config)).collect();
        let pooler = Linear::new(at.at("pooler").at("dense"), c, c, INIT);
        Roberta { word_embeddings, token_type_embeddings, norm, position_embeddings, layers, pooler, config }
    }

    /// text (B, T) -> (B * T, width), the last hidden state.
    pub fn forward<'t>(&self, tape: &'t Tape<'t>, text: &Text) -> Var<'t> {
        let [b, t] = text.shape();
        let c = self.config.hidden_size;
        let x = self.embed(tape, text).reshape(&[b * t, c]);
        let segments = dense_segments(t, text.counts.iter().copied());
        let y = self.layers.iter().fold(x, |x, layer| layer.forward(&x, &segments));
        y.reshape(&[b, t, c]).observe("text_last_hidden_state");
        if tape.is_observed() {
            self.observe_pooler(&y, b, t);
        }
        y
    }

    fn embed<'t>(&self, tape: &'t Tape<'t>, text: &Text) -> Var<'t> {
        let words = self.word_embeddings.forward(tape, &text.ids.to_device(tape.device())); // (B, T, C)
        let types = self.token_type_embeddings.forward(tape, &Tensor::from_slice(&[0i32], &[1], tape.device()));
        let types = types.reshape(&[self.config.hidden_size]);
        let positions = self.position_embeddings.forward(tape, &self.positions(text, tape.device()));
        let y = self.norm.forward(&f::add(&f::add(&words, &types), &positions));
        y.observe("text_embeddings");
        f::dropout(&f::cast(&y, tape.compute_dtype()), self.config.hidden_dropout_prob)
    }

    /// (B, T): valid tokens count up from the padding index, padding stays on it.
    fn positions(&self, text: &Text, device: Device) -> Tensor {
        let [b, t] = text.shape();
        let pad = self.config.pad_token_id;
        let position = |at: usize| if at % t < text.counts[at / t] { pad + 1 + at % t } else { pad };
        let positions: Vec<i32> = (0..b * t).map(|at| position(at) as i32).collect();
        Tensor::from_slice(&positions, &[b, t], device)
    }

    /// tanh of a linear map of the first token: only the contrastive loss of other configurations reads it.
    fn observe_pooler(&self, y: &Var, b: usize, t: usize) {
        let first: Vec<i32> = (0..b).map(|b| (b * t) as i32).collect();
        let first = f::gather_rows(&Tensor::from_slice(&first, &[b], y.tape().device()), &[&y.detach()]);
        self.pooler.forward_with(&first, Activation::Tanh).detach().observe("text_pooler_output");
    }
}

#[derive(Debug)]
struct Layer {
    query: Linear,
    key: Linear,
    value: Linear,
    attention_output: Linear,
    attention_norm: LayerNorm,
    intermediate: Linear,
    output: Linear,
    output_norm: LayerNorm,
    heads: usize,
    hidden_dropout: f32,
    attention_dropout: f32,
}

impl Layer {
    fn new(mut at: Builder, config: &TextConfig) -> Self {
        let (c, f, eps) = (config.hidden_size, config.intermediate_size, config.layer_norm_eps);
        let mut attention = at.at("attention");
        let mut own = attention.at("self");
        let [query, key, value] = ["query", "key", "value"].map(|name| Linear::new(own.at(name), c, c, INIT));
        let mut out = attention.at("output");
        let attention_output = Linear::new(out.at("dense"), c, c, INIT);
        let attention_norm = LayerNorm::new(out.at("LayerNorm"), c, eps);
        Layer {
            query,
            key,
            value,
            attention_output,
            attention_norm,
            intermediate: Linear::new(at.at("intermediate").at("dense"), c, f, INIT),
            output: Linear::new(at.at("output").at("dense"), f, c, INIT),
            output_norm: LayerNorm::new(at.at("output").at("LayerNorm"), c, eps),
            heads: config.num_attention_heads,
            hidden_dropout: config.hidden_dropout_prob,
            attention_dropout: config.attention_probs_dropout_prob,
        }
    }

    fn forward<'t>(&self, x: &Var<'t>, segments: &Segments) -> Var<'t> {
        let (q, k, v) = (self.query.forward(x), self.key.forward(x), self.value.forward(x));
        let y = f::attention(&q, &k, &v, self.heads, segments, self.attention_dropout);
        let x = self.attention_norm.forward_residual(x, &self.attention_output.forward(&y), self.hidden_dropout);
        let y = self.output.forward(&self.intermediate.forward_with(&x, Activation::Gelu));
        self.output_norm.forward_residual(&x, &y, self.hidden_dropout)
    }
}
