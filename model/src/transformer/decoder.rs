//! The decoder: object queries attend to each other and to the encoder's output.

use mdetr_autograd::Var;
use mdetr_autograd::functional as f;
use mdetr_kernels::{Segments, Tensor};

use crate::config::ModelConfig;
use crate::init::Builder;
use crate::nn::{FeedForward, LayerNorm, MultiheadAttention};
use crate::ragged::{Layout, dense_segments};

#[derive(Debug)]
pub(super) struct Decoder {
    layers: Vec<DecoderLayer>,
    norm: LayerNorm,
}

/// What every layer attends to.
struct Memory<'a, 't> {
    value: &'a Var<'t>,
    key: Var<'t>, // with positions added
    segments: Segments,
}

impl Decoder {
    pub(super) fn new(mut at: Builder, config: &ModelConfig) -> Self {
        let layers = (0..config.dec_layers).map(|i| DecoderLayer::new(at.at("layers").at(i), config)).collect();
        Decoder { layers, norm: LayerNorm::new(at.at("norm"), config.hidden_dim, 1e-5) }
    }

    /// memory, positions (rows, C), queries (Q, C), of one type -> L of (B * Q, C).
    pub(super) fn forward<'t>(
        &self,
        memory: &Var<'t>,
        positions: &Var<'t>,
        queries: &Var<'t>,
        layout: &Layout,
    ) -> Vec<Var<'t>> {
        let [q, c] = *queries.shape() else { panic!("decoder: queries are {:?}", queries.shape()) };
        let tape = memory.tape();
        let memory = Memory { value: memory, key: f::add(memory, positions), segments: layout.cross_segments(q) };
        let own = dense_segments(q, std::iter::repeat_n(q, layout.images()));
        let zeros = Tensor::zeros(&[layout.images() * q, c], queries.value().dtype(), tape.device());
        let mut x = tape.constant(zeros);
        let mut outputs = Vec::new();
        for (i, layer) in self.layers.iter().enumerate() {
            x = layer.forward(&x, queries, &own, &memory);
            x.observe(format!("dec_layer{i}_raw"));
            outputs.push(self.norm.forward(&x));
        }
        outputs
    }
}

/// x (B * Q, C) + queries (Q, C) for every image.
fn add_queries<'t>(x: &Var<'t>, queries: &Var<'t>) -> Var<'t> {
    let [q, c] = *queries.shape() else { panic!("decoder: queries are {:?}", queries.shape()) };
    f::add(&x.reshape(&[x.shape()[0] / q, q, c]), queries).reshape(x.shape())
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
    pre_norm: bool,
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
            pre_norm: config.pre_norm,
        }
    }

    fn attend_self<'t>(&self, x: &Var<'t>, queries: &Var<'t>, own: &Segments) -> Var<'t> {
        let qk = add_queries(x, queries);
        f::dropout(&self.self_attn.forward(&qk, &qk, x, own), self.dropout)
    }

    fn attend_memory<'t>(&self, x: &Var<'t>, queries: &Var<'t>, memory: &Memory<'_, 't>) -> Var<'t> {
        let q = add_queries(x, queries);
        let y = self.cross_attn_image.forward(&q, &memory.key, memory.value, &memory.segments);
        f::dropout(&y, self.dropout)
    }

    fn feed_forward<'t>(&self, x: &Var<'t>) -> Var<'t> {
        f::dropout(&self.ffn.forward(x), self.dropout)
    }

    fn forward<'t>(&self, x: &Var<'t>, queries: &Var<'t>, own: &Segments, memory: &Memory<'_, 't>) -> Var<'t> {
        if self.pre_norm {
            let x = f::add(x, &self.attend_self(&self.norm1.forward(x), queries, own));
            let x = f::add(&x, &self.attend_memory(&self.norm3.forward(&x), queries, memory));
            f::add(&x, &self.feed_forward(&self.norm4.forward(&x)))
        } else {
            let x = self.norm1.forward(&f::add(x, &self.attend_self(x, queries, own)));
            let x = self.norm3.forward(&f::add(&x, &self.attend_memory(&x, queries, memory)));
            self.norm4.forward(&f::add(&x, &self.feed_forward(&x)))
        }
    }
}
