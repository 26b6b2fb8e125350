//! The transformer: image and text tokens encoded together, object queries decoded from them.

mod decoder;
mod encoder;

use mdetr_autograd::functional as f;
use mdetr_autograd::{ParameterId, Tape, Var};

use crate::batch::Text;
use crate::config::ModelConfig;
use crate::init::{Builder, Init};
use crate::nn::{LayerNorm, Linear, Positioned};
use crate::ragged::Layout;
use crate::text_encoder::TextEncoder;
use decoder::Decoder;
use encoder::Encoder;

/// Encoder, decoder, text encoder and the map from text to transformer width.
#[derive(Debug)]
pub struct Transformer {
    encoder: Encoder,
    decoder: Decoder,
    /// The text encoder.
    pub text_encoder: TextEncoder,
    resizer: Resizer,
    positions_at_input: bool,
}

/// A batch's tokens before the encoder.
pub struct Tokens<'t> {
    /// Image grid (B * H * W, C).
    pub image: Var<'t>,
    /// Positions of the valid image tokens (sum of h * w, C).
    pub positions: Var<'t>,
    /// Text (B * T, C).
    pub text: Var<'t>,
}

impl Transformer {
    /// Parameters below `at`, named as published.
    pub fn new(mut at: Builder, config: &ModelConfig) -> Self {
        let encoder = Encoder::new(at.at("encoder"), config);
        let decoder = Decoder::new(at.at("decoder"), config);
        let text_encoder = TextEncoder::new(at.at("text_encoder"), config);
        let resizer = Resizer::new(at.at("resizer"), text_encoder.width(), config.hidden_dim, config.dropout);
        Transformer { encoder, decoder, text_encoder, resizer, positions_at_input: config.positions_at_input }
    }

    /// text (B, T) -> (B * T, C).
    pub fn encode_text<'t>(&self, tape: &'t Tape<'t>, text: &Text) -> Var<'t> {
        self.resizer.forward(&self.text_encoder.forward(tape, text))
    }

    /// The encoder's output, packed as `layout` says, without and with the positions of its rows (zero for text).
    pub fn encode<'t>(&self, tokens: &Tokens<'t>, layout: &Layout) -> Positioned<'t> {
        let positions = f::gather_rows(&layout.position_index(), &[&tokens.positions]);
        let mut x = f::gather_rows(&layout.pack_index(), &[&tokens.image, &tokens.text]); // (rows, C)
        if self.positions_at_input {
            x = f::add(&x, &positions);
        }
        self.encoder.forward(x, &positions, &layout.encoder_segments())
    }

    /// Every decoder layer's output, normalized: L of (B * Q, C).
    pub fn decode<'t>(&self, memory: &Positioned<'t>, queries: ParameterId, layout: &Layout) -> Vec<Var<'t>> {
        let tape = memory.tokens.tape();
        let queries = f::cast(&tape.parameter(queries), tape.compute_dtype());
        self.decoder.forward(memory, &queries, layout)
    }

    /// Starts every encoder layer's key projection as a copy of its query projection.
    pub fn tie_key_to_query(&self, at: &mut Builder) {
        self.encoder.tie_key_to_query(at);
    }
}

/// From the text encoder's width to the transformer's.
#[derive(Debug)]
struct Resizer {
    fc: Linear,
    norm: LayerNorm,
    dropout: f32,
}

impl Resizer {
    fn new(mut at: Builder, i: usize, o: usize, dropout: f32) -> Self {
        let fc = Linear::fan_in(at.at("fc"), i, o);
        Resizer { fc, norm: LayerNorm::new(at.at("layer_norm"), o, 1e-12), dropout }
    }

    fn forward<'t>(&self, x: &Var<'t>) -> Var<'t> {
        f::dropout(&self.norm.forward(&self.fc.forward(x)), self.dropout)
    }
}

/// Object queries start normal, as an embedding's rows.
pub fn query_embedding(mut at: Builder, queries: usize, width: usize) -> ParameterId {
    at.parameter("weight", &[queries, width], Init::Normal(1.0))
}
