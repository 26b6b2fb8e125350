//! Layers: parameters, and the ops that they go into.

use mdetr_autograd::functional as f;
use mdetr_autograd::{ParameterId, Tape, Var};
use mdetr_kernels::Segments;
use mdetr_kernels::activation::Activation;

use crate::init::{Builder, Init};

/// x W^T + b.
#[derive(Debug)]
pub struct Linear {
    w: ParameterId,
    b: ParameterId,
}

impl Linear {
    /// With `init` for W and zero for b.
    pub fn new(mut at: Builder, i: usize, o: usize, init: Init) -> Self {
        Linear { w: at.matrix("weight", [o, i], init), b: at.parameter("bias", &[o], Init::Constant(0.0)) }
    }

    /// With the framework's default start: both uniform within 1 / sqrt(I).
    pub fn fan_in(mut at: Builder, i: usize, o: usize) -> Self {
        let init = Init::fan_in(i);
        Linear { w: at.matrix("weight", [o, i], init), b: at.parameter("bias", &[o], init) }
    }

    /// x (..., I) -> (..., O).
    #[track_caller]
    pub fn forward<'t>(&self, x: &Var<'t>) -> Var<'t> {
        self.forward_with(x, Activation::None)
    }

    /// act of [`Self::forward`], in one op.
    #[track_caller]
    pub fn forward_with<'t>(&self, x: &Var<'t>, activation: Activation) -> Var<'t> {
        let tape = x.tape();
        f::linear(x, &tape.parameter(self.w), &tape.parameter(self.b), activation)
    }
}

/// Layer normalization with weight 1 and bias 0 at the start.
#[derive(Debug)]
pub struct LayerNorm {
    w: ParameterId,
    b: ParameterId,
    eps: f64,
}

impl LayerNorm {
    /// Over C channels.
    pub fn new(mut at: Builder, c: usize, eps: f64) -> Self {
        LayerNorm {
            w: at.parameter("weight", &[c], Init::Constant(1.0)),
            b: at.parameter("bias", &[c], Init::Constant(0.0)),
            eps,
        }
    }

    /// x (..., C).
    #[track_caller]
    pub fn forward<'t>(&self, x: &Var<'t>) -> Var<'t> {
        let tape = x.tape();
        f::layer_norm(x, &tape.parameter(self.w), &tape.parameter(self.b), self.eps)
    }

    /// Of x + dropout(r), both (..., C): how a post-norm sublayer ends.
    #[track_caller]
    pub fn forward_residual<'t>(&self, x: &Var<'t>, r: &Var<'t>, dropout: f32) -> Var<'t> {
        let tape = x.tape();
        f::residual_norm(x, r, &tape.parameter(self.w), &tape.parameter(self.b), dropout, self.eps)
    }

    /// [`Self::forward_residual`], and its sum with positions (Q, C) that repeat over the rows.
    #[track_caller]
    pub fn forward_residual_with_positions<'t>(
        &self,
        x: &Var<'t>,
        r: &Var<'t>,
        positions: &Var<'t>,
        dropout: f32,
    ) -> Positioned<'t> {
        let tape = x.tape();
        let (w, b) = (tape.parameter(self.w), tape.parameter(self.b));
        let (tokens, with_positions) = f::residual_norm_with_positions(x, r, &w, &b, positions, dropout, self.eps);
        Positioned { tokens, with_positions }
    }
}

/// Tokens (rows, C), and their sum with positions: attention compares the sums, and averages the tokens.
pub struct Positioned<'t> {
    /// Without positions.
    pub tokens: Var<'t>,
    /// With them.
    pub with_positions: Var<'t>,
}

impl<'t> Positioned<'t> {
    /// tokens (rows, C) and positions (Q, C), which repeat over the rows.
    pub fn new(tokens: Var<'t>, positions: &Var<'t>) -> Self {
        let with_positions = add_positions(&tokens, positions);
        Positioned { tokens, with_positions }
    }
}

/// tokens (rows, C) + positions (Q, C), repeated over the rows.
#[track_caller]
pub fn add_positions<'t>(tokens: &Var<'t>, positions: &Var<'t>) -> Var<'t> {
    let [q, c] = *positions.shape() else { panic!("add_positions: positions are {:?}", positions.shape()) };
    f::add(&tokens.reshape(&[tokens.shape()[0] / q, q, c]), positions).reshape(tokens.shape())
}

/// A table of rows.
#[derive(Debug)]
pub struct Embedding {
    /// The table (V, C).
    pub w: ParameterId,
    padding: Option<usize>,
}

impl Embedding {
    /// (V, C); the row `padding` gets no gradient.
    pub fn new(mut at: Builder, v: usize, c: usize, init: Init, padding: Option<usize>) -> Self {
        Embedding { w: at.parameter("weight", &[v, c], init), padding }
    }

    /// ids (...) i32 -> (..., C).
    #[track_caller]
    pub fn forward<'t>(&self, tape: &'t Tape<'t>, ids: &mdetr_kernels::Tensor) -> Var<'t> {
        f::embedding(&tape.parameter(self.w), ids, self.padding)
    }
}

/// Linear maps with ReLU between them.
#[derive(Debug)]
pub struct Mlp {
    layers: Vec<Linear>,
}

impl Mlp {
    /// `widths` from input to output.
    pub fn new(mut at: Builder, widths: &[usize]) -> Self {
        let layers = widths.windows(2).enumerate();
        Mlp { layers: layers.map(|(i, w)| Linear::fan_in(at.at("layers").at(i), w[0], w[1])).collect() }
    }

    /// x (..., I) -> act (..., O).
    pub fn forward<'t>(&self, x: &Var<'t>, last: Activation) -> Var<'t> {
        let count = self.layers.len();
        self.layers.iter().enumerate().fold(x.clone(), |x, (i, layer)| {
            layer.forward_with(&x, if i + 1 == count { last } else { Activation::Relu })
        })
    }
}

/// Multi-head attention with packed projections, parameters as in the published checkpoints.
#[derive(Debug)]
pub struct MultiheadAttention {
    in_proj_weight: ParameterId, // (3 C, C): query, key, value
    in_proj_bias: ParameterId,
    out_proj: Linear,
    heads: usize,
    dropout: f32,
    width: usize,
}

impl MultiheadAttention {
    /// Over C = `width` channels.
    pub fn new(mut at: Builder, width: usize, heads: usize, dropout: f32) -> Self {
        MultiheadAttention {
            in_proj_weight: at.matrix("in_proj_weight", [3 * width, width], Init::xavier(3 * width, width)),
            in_proj_bias: at.parameter("in_proj_bias", &[3 * width], Init::Constant(0.0)),
            out_proj: Linear::new(at.at("out_proj"), width, width, Init::xavier(width, width)),
            heads,
            dropout,
            width,
        }
    }

    /// Starts the key projection as a copy of the query projection.
    pub fn tie_key_to_query(&self, at: &mut Builder) {
        at.copy_rows(self.in_proj_weight, 0..self.width, self.width);
    }

    /// q (Nq, C), k and v (Nk, C) -> (Nq, C).
    #[track_caller]
    pub fn forward<'t>(&self, q: &Var<'t>, k: &Var<'t>, v: &Var<'t>, segments: &Segments) -> Var<'t> {
        let (w, b) = (q.tape().parameter(self.in_proj_weight), q.tape().parameter(self.in_proj_bias));
        let c = self.width;
        let project =
            |x, i: usize| f::linear(x, &w.rows(i * c..(i + 1) * c), &b.rows(i * c..(i + 1) * c), Activation::None);
        let y = f::attention(&project(q, 0), &project(k, 1), &project(v, 2), self.heads, segments, self.dropout);
        self.out_proj.forward(&y)
    }
}

/// linear2(dropout(relu(linear1(x)))).
#[derive(Debug)]
pub struct FeedForward {
    linear1: Linear,
    linear2: Linear,
    dropout: f32,
}

impl FeedForward {
    /// C -> F -> C; the two maps are children of the layer itself, as published.
    pub fn new(at: &mut Builder, c: usize, f: usize, dropout: f32) -> Self {
        FeedForward {
            linear1: Linear::new(at.at("linear1"), c, f, Init::xavier(f, c)),
            linear2: Linear::new(at.at("linear2"), f, c, Init::xavier(c, f)),
            dropout,
        }
    }

    /// x (N, C) -> (N, C).
    pub fn forward<'t>(&self, x: &Var<'t>) -> Var<'t> {
        let hidden = self.linear1.forward_with(x, Activation::Relu);
        self.linear2.forward(&f::dropout(&hidden, self.dropout))
    }
}
