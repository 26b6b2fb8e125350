//! Another float type:
//!
//! ```text
//! y = x as `to`, to nearest, ties to even
//! ```
//!
//! The gradient takes the way back: dx = dy in the type of x. An f64 x stays f64: the reference path is not rounded.
//! Nothing is saved.

pub mod cases;

use crate::op::{Cost, Cx, GradSlot, Op, Outputs, Pass, Saved};
use crate::{DType, Tensor, rounding};

/// Input x of any shape and float type; output y of the same shape.
#[derive(Clone, Copy, Debug)]
pub struct Cast {
    /// The type of y.
    pub to: DType,
}

impl Op for Cast {
    fn name(&self) -> &'static str {
        "cast"
    }

    #[track_caller]
    fn forward(&self, _: &mut Cx, inputs: &[&Tensor]) -> Outputs {
        let &[x] = inputs else { panic!("cast: takes x") };
        let y = if x.dtype() == DType::F64 { x.clone() } else { x.to_dtype(self.to) };
        Outputs::one(y, Saved::default())
    }

    fn backward(&self, _: &mut Cx, _: Saved, grad_outs: &[Option<&Tensor>], grads: &mut [GradSlot]) {
        let Some(dy) = grad_outs[0] else { return };
        let [dx] = grads else { panic!("cast: one gradient") };
        rounding::store(dx, dy);
    }

    fn cost(&self, _: Pass, inputs: &[&Tensor]) -> Cost {
        let &[x] = inputs else { panic!("cast: takes x") };
        Cost::new(0, x.len() * (x.dtype().size() + self.to.size()))
    }
}
