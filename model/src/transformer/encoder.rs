//! The encoder: self-attention over image and text tokens.

use mdetr_autograd::Var;
use mdetr_autograd::functional as f;
use mdetr_kernels::Segments;

use crate::config::ModelConfig;
use crate::init::Builder;
use crate::nn::{FeedForward, LayerNorm, MultiheadAttention, Positioned};

#[derive(Debug)]
pub(super) struct Encoder {
    layers: Vec<EncoderLayer>,
    /// Pre-norm layers leave their sum unnormalized, so one more norm follows.
    norm: Option<LayerNorm>,
}

impl Encoder {
    pub(super) fn new(mut at: Builder, config: &ModelConfig) -> Self {
        let layers = (0..config.enc_layers).map(|i| EncoderLayer::new(at.at("layers").at(i), config)).collect();
        let norm = config.pre_norm.then(|| LayerNorm::new(at.at("norm"), config.hidden_dim, 1e-5));
        Encoder { layers, norm }
    }

    /// x, positions (rows, C) -> (rows, C).
    pub(super) fn forward<'t>(&self, x: Var<'t>, positions: &Var<'t>, segments: &Segments) -> Positioned<'t> {
        let memory = match &self.norm {
            Some(norm) => Positioned::new(norm.forward(&self.forward_pre_norm(x, positions, segments)), positions),
            None => self.forward_post_norm(x, positions, segments),
        };
        memory.tokens.observe("img_memory");
        memory
    }

    fn forward_pre_norm<'t>(&self, mut x: Var<'t>, positions: &Var<'t>, segments: &Segments) -> Var<'t> {
        for (i, layer) in self.layers.iter().enumerate() {
            x = layer.forward_pre_norm(&x, positions, segments);
            x.observe(format!("enc_layer{i}"));
        }
        x
    }

    fn forward_post_norm<'t>(&self, x: Var<'t>, positions: &Var<'t>, segments: &Segments) -> Positioned<'t> {
        let mut x = Positioned::new(x, positions);
        for (i, layer) in self.layers.iter().enumerate() {
            x = layer.forward_post_norm(&x, positions, segments);
            x.tokens.observe(format!("enc_layer{i}"));
        }
        x
    }

    pub(super) fn tie_key_to_query(&self, at: &mut Builder) {
        for layer in &self.layers {
            layer.self_attn.tie_key_to_query(at);
        }
    }
}

#[derive(Debug)]
struct EncoderLayer {
    self_attn: MultiheadAttention,
    ffn: FeedForward,
    norm1: LayerNorm,
    norm2: LayerNorm,
    dropout: f32,
}

impl EncoderLayer {
    fn new(mut at: Builder, config: &ModelConfig) -> Self {
        let (c, dropout) = (config.hidden_dim, config.dropout);
        EncoderLayer {
            self_attn: MultiheadAttention::new(at.at("self_attn"), c, config.nheads, dropout),
            ffn: FeedForward::new(&mut at, c, config.dim_feedforward, dropout),
            norm1: LayerNorm::new(at.at("norm1"), c, 1e-5),
            norm2: LayerNorm::new(at.at("norm2"), c, 1e-5),
            dropout,
        }
    }

    /// x (rows, C) -> (rows, C): sublayers normalize what they read.
    fn forward_pre_norm<'t>(&self, x: &Var<'t>, positions: &Var<'t>, segments: &Segments) -> Var<'t> {
        let normalized = self.norm1.forward(x);
        let qk = f::add(&normalized, positions);
        let y = self.self_attn.forward(&qk, &qk, &normalized, segments);
        let x = f::add(x, &f::dropout(&y, self.dropout));
        let y = self.ffn.forward(&self.norm2.forward(&x));
        f::add(&x, &f::dropout(&y, self.dropout))
    }

    /// x (rows, C) -> (rows, C): sums are normalized.
    fn forward_post_norm<'t>(&self, x: &Positioned<'t>, positions: &Var<'t>, segments: &Segments) -> Positioned<'t> {
        let y = self.self_attn.forward(&x.with_positions, &x.with_positions, &x.tokens, segments);
        let x = self.norm1.forward_residual(&x.tokens, &y, self.dropout);
        let y = self.ffn.forward(&x);
        self.norm2.forward_residual_with_positions(&x, &y, positions, self.dropout)
    }
}
