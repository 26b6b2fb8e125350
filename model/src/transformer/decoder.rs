//! The decoder: object queries attend to each other and to the encoder's output.

use mdetr_autograd::Var;
use mdetr_autograd::functional as f;
use mdetr_kernels::{Segments, Tensor};

use crate::config::ModelConfig;
use crate::init::Builder;
use crate::nn::{FeedForward, LayerNorm, MultiheadAttention, Positioned, add_positions};
use crate::ragged::{Layout, dense_segments};

#[derive(Debug)]
pub(super) struct Decoder {
    layers: Vec<DecoderLayer>,
    norm: LayerNorm,
    pre_norm: bool,
}

/// What every layer attends to.
struct Memory<'a, 't> {
    encoded: &'a Positioned<'t>,
    segments: Segments,
}

impl Decoder {
    pub(super) fn new(mut at: Builder, config: &ModelConfig) -> Self {
        let layers = (0..config.dec_layers).map(|i| DecoderLayer::new(at.at("layers").at(i), config)).collect();
        let norm = LayerNorm::new(at.at("norm"), config.hidden_dim, 1e-5);
        Decoder { layers, norm, pre_norm: config.pre_norm }
    }

    /// memory (rows, C), queries (Q, C), of one type -> L of (B * Q, C).
    pub(super) fn forward<'t>(&self, memory: &Positioned<'t>, queries: &Var<'t>, layout: &Layout) -> Vec<Var<'t>> {
        let [q, c] = *queries.shape() else { panic!("decoder: queries are {:?}", queries.shape()) };
        let tape = queries.tape();
        let memory = Memory { encoded: memory, segments: layout.cross_segments(q) };
        let own = dense_segments(q, std::iter::repeat_n(q, layout.images()));
        let zeros = Tensor::zeros(&[layout.images() * q, c], queries.value().dtype(), tape.device());
        let x = tape.constant(zeros);
        if self.pre_norm {
            self.forward_pre_norm(x, queries, &own, &memory)
        } else {
            self.forward_post_norm(x, queries, &own, &memory)
        }
    }

    fn forward_pre_norm<'t>(
        &self,
        mut x: Var<'t>,
        queries: &Var<'t>,
        own: &Segments,
        memory: &Memory<'_, 't>,
    ) -> Vec<Var<'t>> {
        let forward = |(i, layer): (usize, &DecoderLayer)| {
            x = layer.forward_pre_norm(&x, queries, own, memory);
            self.output(i, &x)
        };
        self.layers.iter().enumerate().map(forward).collect()
    }

    fn forward_post_norm<'t>(
        &self,
        x: Var<'t>,
        queries: &Var<'t>,
        own: &Segments,
        memory: &Memory<'_, 't>,
    ) -> Vec<Var<'t>> {
        let mut x = Positioned::new(x, queries);
        let forward = |(i, layer): (usize, &DecoderLayer)| {
            x = layer.forward_post_norm(&x, queries, own, memory);
            self.output(i, &x.tokens)
        };
        self.layers.iter().enumerate().map(forward).collect()
    }

    /// What the heads read of layer i.
    fn output<'t>(&self, i: usize, x: &Var<'t>) -> Var<'t> {
        x.observe(format!("dec_layer{i}_raw"));
        self.norm.forward(x)
    }
}

#[derive(Debug)]
struct DecoderLayer {
    self_attn: MultiheadAttention,
    cross_attn_image: MultiheadAttention,
    ffn: FeedForward,
    norm1: LayerNorm,
    norm3: LayerNorm,
    norm4: LayerNorm,
    dropout: f32,
}

impl DecoderLayer {
    fn new(mut at: Builder, config: &ModelConfig) -> Self {
        let (c, heads, dropout) = (config.hidden_dim, config.nheads, config.dropout);
        DecoderLayer {
            self_attn: MultiheadAttention::new(at.at("self_attn"), c, heads, dropout),
            cross_attn_image: MultiheadAttention::new(at.at("cross_attn_image"), c, heads, dropout),
            ffn: FeedForward::new(&mut at, c, config.dim_feedforward, dropout),
            norm1: LayerNorm::new(at.at("norm1"), c, 1e-5),
            norm3: LayerNorm::new(at.at("norm3"), c, 1e-5),
            norm4: LayerNorm::new(at.at("norm4"), c, 1e-5),
            dropout,
        }
    }

    fn attend_memory<'t>(&self, queries: &Var<'t>, memory: &Memory<'_, 't>) -> Var<'t> {
        let Positioned { tokens, with_positions } = memory.encoded;
        self.cross_attn_image.forward(queries, with_positions, tokens, &memory.segments)
    }

    /// x (B * Q, C) -> (B * Q, C): sublayers normalize what they read.
    fn forward_pre_norm<'t>(
        &self,
        x: &Var<'t>,
        queries: &Var<'t>,
        own: &Segments,
        memory: &Memory<'_, 't>,
    ) -> Var<'t> {
        let add_dropped = |x: &Var<'t>, y: &Var<'t>| f::add(x, &f::dropout(y, self.dropout));
        let normalized = self.norm1.forward(x);
        let qk = add_positions(&normalized, queries);
        let x = add_dropped(x, &self.self_attn.forward(&qk, &qk, &normalized, own));
        let q = add_positions(&self.norm3.forward(&x), queries);
        let x = add_dropped(&x, &self.attend_memory(&q, memory));
        add_dropped(&x, &self.ffn.forward(&self.norm4.forward(&x)))
    }

    /// x (B * Q, C) -> (B * Q, C): sums are normalized.
    fn forward_post_norm<'t>(
        &self,
        x: &Positioned<'t>,
        queries: &Var<'t>,
        own: &Segments,
        memory: &Memory<'_, 't>,
    ) -> Positioned<'t> {
        let y = self.self_attn.forward(&x.with_positions, &x.with_positions, &x.tokens, own);
        let x = self.norm1.forward_residual_with_positions(&x.tokens, &y, queries, self.dropout);
        let y = self.attend_memory(&x.with_positions, memory);
        let x = self.norm3.forward_residual(&x.tokens, &y, self.dropout);
        let y = self.ffn.forward(&x);
        self.norm4.forward_residual_with_positions(&x, &y, queries, self.dropout)
    }
}
