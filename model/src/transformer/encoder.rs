//! The encoder: self-attention over image and text tokens.

use mdetr_autograd::Var;
use mdetr_autograd::functional as f;
use mdetr_kernels::Segments;

use crate::config::ModelConfig;
use crate::init::Builder;
use crate::nn::{FeedForward, LayerNorm, MultiheadAttention};

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
    pub(super) fn forward<'t>(&self, mut x: Var<'t>, positions: &Var<'t>, segments: &Segments) -> Var<'t> {
        for (i, layer) in self.layers.iter().enumerate() {
            x = layer.forward(&x, positions, segments);
            x.observe(format!("enc_layer{i}"));
        }
        let memory = self.norm.as_ref().map_or(x.clone(), |norm| norm.forward(&x));
        memory.observe("img_memory");
        memory
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
    pre_norm: bool,
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
            pre_norm: config.pre_norm,
        }
    }

    fn attend<'t>(&self, x: &Var<'t>, positions: &Var<'t>, segments: &Segments) -> Var<'t> {
        let qk = f::add(x, positions);
        f::dropout(&self.self_attn.forward(&qk, &qk, x, segments), self.dropout)
    }

    fn forward<'t>(&self, x: &Var<'t>, positions: &Var<'t>, segments: &Segments) -> Var<'t> {
        if self.pre_norm {
            let x = f::add(x, &self.attend(&self.norm1.forward(x), positions, segments));
            let y = self.ffn.forward(&self.norm2.forward(&x));
            f::add(&x, &f::dropout(&y, self.dropout))
        } else {
            let x = self.norm1.forward(&f::add(x, &self.attend(x, positions, segments)));
            let y = self.ffn.forward(&x);
            self.norm2.forward(&f::add(&x, &f::dropout(&y, self.dropout)))
        }
    }
}
