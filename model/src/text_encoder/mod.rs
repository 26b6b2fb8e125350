//! Token features of captions.

mod roberta;
mod words;

use mdetr_autograd::{Tape, Var};

pub use roberta::Roberta;
pub use words::Words;

use crate::batch::Text;
use crate::config::ModelConfig;
use crate::init::Builder;

/// A network from token ids to features.
#[derive(Debug)]
pub enum TextEncoder {
    /// RoBERTa of any size.
    Roberta(Roberta),
    /// Embeddings of words and positions, nothing else.
    Words(Words),
}

impl TextEncoder {
    /// The encoder that `config` names, its parameters below `at`.
    pub fn new(at: Builder, config: &ModelConfig) -> Self {
        match config.text_encoder_type.as_str() {
            "words" => TextEncoder::Words(Words::new(at, config.text())),
            _ => TextEncoder::Roberta(Roberta::new(at, config.text())),
        }
    }

    /// Width of the features.
    pub fn width(&self) -> usize {
        match self {
            TextEncoder::Roberta(r) => r.config.hidden_size,
            TextEncoder::Words(w) => w.config.hidden_size,
        }
    }

    /// text (B, T) -> (B * T, width).
    pub fn forward<'t>(&self, tape: &'t Tape<'t>, text: &Text) -> Var<'t> {
        match self {
            TextEncoder::Roberta(r) => r.forward(tape, text),
            TextEncoder::Words(w) => w.forward(tape, text),
        }
    }
}
