//! Learned position encoding of two axes (Carion et al., 2020, arXiv 2005.12872, appendix A.4):
//!
//! ```text
//! encoding of cell (r, c) = [col_embed[c], row_embed[r]]
//! ```
//!
//! Saved: on a GPU the sizes.

pub mod cases;
mod cuda;
mod reference;

pub use cuda::KERNELS;

use std::sync::Arc;

use crate::op::{Cost, Cx, GradSlot, Op, Outputs, Pass, Saved};
use crate::segments::maps_on_device;
use crate::{Device, Tensor, dispatch_real};

/// Inputs row_embed (R, C/2) and col_embed (R, C/2); output y (cells, C): the cells of feature maps, row-major, one map after
/// the other, and zeros behind them.
#[derive(Clone, Debug)]
pub struct PositionLearned {
    /// (h, w) of every feature map, no side longer than R.
    pub sizes: Arc<[[usize; 2]]>,
    /// The sum of h w at least.
    pub cells: usize,
}

impl Op for PositionLearned {
    fn name(&self) -> &'static str {
        "position_learned"
    }

    #[track_caller]
    fn forward(&self, cx: &mut Cx, inputs: &[&Tensor]) -> Outputs {
        let &[row_embed, col_embed] = inputs else { panic!("position_learned: takes row_embed, col_embed") };
        let (&[rows, half], &[columns, col_half]) = (row_embed.shape(), col_embed.shape()) else {
            panic!("position_learned: embeddings are {:?} and {:?}", row_embed.shape(), col_embed.shape());
        };
        assert_eq!(half, col_half, "position_learned: {:?} and {:?}", row_embed.shape(), col_embed.shape());
        for [h, w] in self.sizes.iter() {
            assert!(
                *h <= rows && *w <= columns,
                "position_learned: a feature map of {h} x {w} exceeds the {rows} learned rows or {columns} columns"
            );
        }
        let there: usize = self.sizes.iter().map(|[h, w]| h * w).sum();
        assert!(there <= self.cells, "position_learned: {there} cells, room for {}", self.cells);
        let mut y = Tensor::empty(&[self.cells, 2 * half], row_embed.dtype(), cx.device);
        if let Device::Cuda(cuda) = cx.device {
            let maps = maps_on_device(&self.sizes, cx.device);
            cuda::forward(cuda, &mut y, row_embed, col_embed, &maps);
            return Outputs::one(y, Saved::tensors([&maps]));
        }
        dispatch_real!("position_learned", row_embed.dtype(), T => {
            let (row_embed, col_embed) = (row_embed.as_slice(), col_embed.as_slice());
            reference::forward::<T>(y.as_mut_slice(), row_embed, col_embed, &self.sizes, half);
        });
        Outputs::one(y, Saved::default())
    }

    fn backward(&self, cx: &mut Cx, saved: Saved, grad_outs: &[Option<&Tensor>], grads: &mut [GradSlot]) {
        let Some(dy) = grad_outs[0] else { return };
        let [drow, dcol] = grads else { panic!("position_learned: two gradients") };
        if let Device::Cuda(cuda) = cx.device {
            return cuda::backward(cuda, drow, dcol, dy, &saved.tensors[0]);
        }
        dispatch_real!("position_learned", dy.dtype(), T => {
            reference::backward::<T>(drow, dcol, dy.as_slice(), &self.sizes, dy.last_axis() / 2);
        });
    }

    fn cost(&self, pass: Pass, inputs: &[&Tensor]) -> Cost {
        let (n, size) = (self.cells * 2 * inputs[0].last_axis(), inputs[0].dtype().size());
        let embeddings = inputs[0].len() + inputs[1].len();
        match pass {
            Pass::Forward => Cost::new(0, (n + embeddings) * size),
            Pass::Backward => Cost::new(n, (n + embeddings) * size),
        }
    }
}
