//! A table look-up:
//!
//! ```text
//! y[n] = table[ids[n]]        dtable[v] = sum over n with ids[n] = v of dy[n], 0 for the padding id
//! ```
//!
//! Saved: ids.

pub mod cases;
mod cuda;
mod reference;

pub use cuda::KERNELS;

use crate::op::{Cost, Cx, GradSlot, Op, Outputs, Pass, Saved};
use crate::{DType, Device, Tensor, dispatch_real};

/// Inputs table (V, C) and ids (any shape S, i32, in 0..V); output y (S, C).
#[derive(Clone, Copy, Debug)]
pub struct Embedding {
    /// The id whose row gets no gradient.
    pub padding_idx: Option<usize>,
}

impl Op for Embedding {
    fn name(&self) -> &'static str {
        "embedding"
    }

    #[track_caller]
    fn forward(&self, cx: &mut Cx, inputs: &[&Tensor]) -> Outputs {
        let &[table, ids] = inputs else { panic!("embedding: takes table, ids") };
        let &[v, c] = table.shape() else { panic!("embedding: table is {:?}, not (V, C)", table.shape()) };
        assert_eq!(ids.dtype(), DType::I32, "embedding: ids are {:?}", ids.dtype());
        let mut y = Tensor::empty(&[ids.shape(), &[c]].concat(), table.dtype(), cx.device);
        if let Device::Cuda(cuda) = cx.device {
            cuda::forward(cuda, &mut y, table, ids);
            return Outputs::one(y, Saved::tensors([ids]));
        }
        if let Some(id) = ids.as_slice::<i32>().iter().find(|&&id| id < 0 || id as usize >= v) {
            panic!("embedding: id {id} is not a row of the table {:?}", table.shape());
        }
        dispatch_real!("embedding", table.dtype(), T => {
            reference::forward::<T>(y.as_mut_slice(), table.as_slice(), ids.as_slice(), c);
        });
        Outputs::one(y, Saved::tensors([ids]))
    }

    fn backward(&self, cx: &mut Cx, saved: Saved, grad_outs: &[Option<&Tensor>], grads: &mut [GradSlot]) {
        let ([ids], Some(dy)) = (&saved.tensors[..], grad_outs[0]) else { return };
        let [dtable, _] = grads else { panic!("embedding: two gradients") };
        if let Device::Cuda(cuda) = cx.device {
            return cuda::backward(cuda, dtable, dy, ids, self.padding_idx);
        }
        dispatch_real!("embedding", dy.dtype(), T => {
            reference::backward::<T>(dtable, dy.as_slice(), ids.as_slice(), self.padding_idx, dy.last_axis());
        });
    }

    fn cost(&self, pass: Pass, inputs: &[&Tensor]) -> Cost {
        let (table, ids) = (inputs[0], inputs[1]);
        let (rows, size) = (ids.len() * table.last_axis(), table.dtype().size());
        match pass {
            Pass::Forward => Cost::new(0, 2 * rows * size + ids.len() * 4),
            Pass::Backward => Cost::new(rows, (2 * rows + table.len()) * size),
        }
    }

    fn has_sparse_gradients(&self) -> bool {
        true
    }
}
