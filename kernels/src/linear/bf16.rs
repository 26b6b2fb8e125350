//! bf16 where the CPU has products of it: sums in f32, rounded once behind bias and activation.

use std::sync::Arc;

use half::bf16;

use crate::activation::Activation;
use crate::gemm_bf16::{Epilogue, Panels, product_of_matrix};
use crate::op::Cx;
use crate::{DType, Tensor};

/// y (..., O) from x (..., I) and w (O, I) in bf16 and b (O) in f32.
pub fn forward(cx: &Cx, x: &Tensor, w: &Tensor, b: &Tensor, activation: Activation) -> Tensor {
    let (o, i) = (w.shape()[0], w.shape()[1]);
    let mut shape = x.shape().to_vec();
    shape[x.shape().len() - 1] = o;
    let mut y = Tensor::empty(&shape, DType::BF16, cx.device);
    let make = || Panels::new(o, i, |output, row| row.copy_from_slice(&w.as_slice()[output * i..][..i]));
    // Kept with w where nobody trains it.
    let panels = if cx.saving { Arc::new(make()) } else { w.derived(|_| true, make) };
    let epilogue = Epilogue { bias: Some(b.as_slice()), residual: None, activation };
    product_of_matrix(y.as_mut_slice::<bf16>(), x.as_slice(), &panels, epilogue);
    y
}
