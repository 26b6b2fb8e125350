//! Embeddings of words and positions: a text encoder that learns in minutes.

use mdetr_autograd::functional as f;
use mdetr_autograd::{Tape, Var};
use mdetr_kernels::Tensor;

use crate::batch::Text;
use crate::config::TextConfig;
use crate::init::{Builder, Init};
use crate::nn::Embedding;

/// `word[token] + position[t]`
#[derive(Debug)]
pub struct Words {
    word_embeddings: Embedding,
    position_embeddings: Embedding,
    pub(super) config: TextConfig,
}

impl Words {
    /// Tables of `vocab_size` and `max_position_embeddings` rows.
    pub fn new(mut at: Builder, config: TextConfig) -> Self {
        let mut at = at.at("embeddings");
        let (v, p, c) = (config.vocab_size, config.max_position_embeddings, config.hidden_size);
        Words {
            word_embeddings: Embedding::new(at.at("word_embeddings"), v, c, Init::Normal(0.5), None),
            position_embeddings: Embedding::new(at.at("position_embeddings"), p, c, Init::Normal(0.3), None),
            config,
        }
    }

    /// text (B, T) -> (B * T, width).
    pub fn forward<'t>(&self, tape: &'t Tape<'t>, text: &Text) -> Var<'t> {
        let [b, t] = text.shape();
        let positions: Vec<i32> = (0..t as i32).collect();
        let positions = Tensor::from_slice(&positions, &[t], tape.device());
        let words = self.word_embeddings.forward(tape, &text.ids);
        let y = f::add(&words, &self.position_embeddings.forward(tape, &positions));
        f::cast(&y.reshape(&[b * t, self.config.hidden_size]), tape.compute_dtype())
    }
}
