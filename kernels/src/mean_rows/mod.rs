//! Means of groups of rows:
//!
//! ```text
//! y[m] = mean of x[index[k]] over k in offsets[m]..offsets[m + 1]        zeros for an empty group
//! ```
//!
//! Saved: index and offsets.

pub mod cases;
mod cuda;
mod reference;

pub use cuda::KERNELS;

use crate::op::{Cost, Cx, GradSlot, Op, Outputs, Pass, Saved};
use crate::{DType, Device, Tensor, dispatch_real};

/// Inputs x (N, C), index (K, i32, in 0..N), offsets (M + 1, i32, ascending, in 0..=K); output y (M, C).
#[derive(Clone, Copy, Debug)]
pub struct MeanRows;

impl Op for MeanRows {
    fn name(&self) -> &'static str {
        "mean_rows"
    }

    #[track_caller]
    fn forward(&self, cx: &mut Cx, inputs: &[&Tensor]) -> Outputs {
        let &[x, index, offsets] = inputs else { panic!("mean_rows: takes x, index, offsets") };
        let &[n, c] = x.shape() else { panic!("mean_rows: x is {:?}, not (N, C)", x.shape()) };
        for (name, t) in [("index", index), ("offsets", offsets)] {
            let is_list = t.shape().len() == 1 && t.dtype() == DType::I32;
            assert!(is_list, "mean_rows: {name} is {:?} {:?}, not a list of i32", t.dtype(), t.shape());
        }
        if let Device::Cuda(cuda) = cx.device {
            let groups = offsets.len().checked_sub(1).expect("mean_rows: offsets (M + 1) are empty");
            let mut y = Tensor::empty(&[groups, c], x.dtype(), cx.device);
            cuda::forward(cuda, &mut y, x, index, offsets);
            return Outputs::one(y, Saved::tensors([index, offsets]));
        }
        if let Some(i) = index.as_slice::<i32>().iter().find(|&&i| i < 0 || i as usize >= n) {
            panic!("mean_rows: index {i} is not a row of x {:?}", x.shape());
        }
        let ends = offsets.as_slice::<i32>();
        assert!(
            ends.first().is_some_and(|&first| first >= 0)
                && ends.is_sorted()
                && ends.last().is_some_and(|&last| last as usize <= index.len()),
            "mean_rows: offsets {ends:?} do not ascend from 0 to at most {}",
            index.len()
        );
        let mut y = Tensor::empty(&[ends.len() - 1, c], x.dtype(), cx.device);
        dispatch_real!("mean_rows", x.dtype(), T => {
            reference::forward::<T>(y.as_mut_slice(), x.as_slice(), index.as_slice(), ends, c);
        });
        Outputs::one(y, Saved::tensors([index, offsets]))
    }

    fn backward(&self, cx: &mut Cx, saved: Saved, grad_outs: &[Option<&Tensor>], grads: &mut [GradSlot]) {
        let ([index, offsets], Some(dy)) = (&saved.tensors[..], grad_outs[0]) else { return };
        if let Device::Cuda(cuda) = cx.device {
            return cuda::backward(cuda, &mut grads[0], dy, index, offsets);
        }
        dispatch_real!("mean_rows", dy.dtype(), T => {
            let (index, offsets) = (index.as_slice(), offsets.as_slice());
            reference::backward::<T>(&mut grads[0], dy.as_slice(), index, offsets, dy.last_axis());
        });
    }

    fn cost(&self, pass: Pass, inputs: &[&Tensor]) -> Cost {
        let (x, index, offsets) = (inputs[0], inputs[1], inputs[2]);
        let (c, size) = (x.last_axis(), x.dtype().size());
        let (read, written) = (index.len() * c, (offsets.len() - 1) * c);
        match pass {
            Pass::Forward => Cost::new(read, (read + written) * size),
            Pass::Backward => Cost::new(2 * read, (read + written + x.len()) * size),
        }
    }
}
