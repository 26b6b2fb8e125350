//! The number formats of a training step, as one policy.

use crate::DType;

/// What a model computes in. Master weights, moments, normalization and embedding parameters, biases, statistics, and
/// everything from logits and boxes on are f32 in every one of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Precision {
    /// f32 throughout (f64 where the parameters are f64).
    #[default]
    F32,
    /// f32, with matrix products and convolutions on tensor cores, which read 10 bits of a factor's mantissa; on the CPU
    /// the same as [`Precision::F32`].
    TF32,
    /// Activations and matrix weights in f16; the loss must be scaled, since small gradients are zero in f16.
    F16,
    /// Activations and matrix weights in bfloat16.
    BF16,
}

impl Precision {
    /// The type of activations and matrix weights when the masters are `master`.
    pub fn compute_dtype(self, master: DType) -> DType {
        match self {
            Precision::F32 | Precision::TF32 => master,
            Precision::F16 => DType::F16,
            Precision::BF16 => DType::BF16,
        }
    }
}
