//! Typed wrappers: one function an op, from variables to variables.

use mdetr_kernels::activation::Activation;
use mdetr_kernels::layer_norm::LayerNorm;
use mdetr_kernels::linear::Linear;

use crate::tape::Var;

/// x (..., I), w (O, I), b (O) -> act(x w^T + b) (..., O).
#[track_caller]
pub fn linear<'t>(x: &Var<'t>, w: &Var<'t>, b: &Var<'t>, activation: Activation) -> Var<'t> {
    x.tape().apply(Linear { activation }, &[x, w, b]).remove(0)
}

/// Layer normalization of the last axis: x (..., C), w (C), b (C).
#[track_caller]
pub fn layer_norm<'t>(x: &Var<'t>, w: &Var<'t>, b: &Var<'t>, eps: f64) -> Var<'t> {
    x.tape().apply(LayerNorm { eps }, &[x, w, b]).remove(0)
}
