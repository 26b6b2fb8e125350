//! Rows picked from several matrices: how sequences are packed, unpacked, interleaved and cut.
//!
//! ```text
//! y[m] = rows[index[m]]        rows = the sources, one below the other; index -1 gives a row of zeros
//! ```
//!
//! Saved: index and, on the host, where each source begins.

pub mod cases;
mod cuda;
mod reference;

pub use cuda::KERNELS;

use crate::op::{Cost, Cx, GradSlot, Op, Outputs, Pass, Saved};
use crate::{DType, Device, Tensor, dispatch_real};

/// Inputs index (M, i32, in -1..N1+..+Nn), then sources (N1, C), ..., (Nn, C); output y (M, C).
#[derive(Clone, Copy, Debug)]
pub struct GatherRows;

impl Op for GatherRows {
    fn name(&self) -> &'static str {
        "gather_rows"
    }

    #[track_caller]
    fn forward(&self, cx: &mut Cx, inputs: &[&Tensor]) -> Outputs {
        let [index, sources @ ..] = inputs else { panic!("gather_rows: takes index, sources") };
        let Some(first) = sources.first() else { panic!("gather_rows: takes at least one source") };
        let (&[m], DType::I32) = (index.shape(), index.dtype()) else {
            panic!("gather_rows: index is {:?} {:?}, not (M) i32", index.dtype(), index.shape());
        };
        let c = first.last_axis();
        let mut starts = vec![0]; // where each source begins, then the number of rows
        for source in sources {
            let &[n, width] = source.shape() else { panic!("gather_rows: a source is {:?}", source.shape()) };
            assert_eq!(width, c, "gather_rows: sources are {:?} and {:?}", first.shape(), source.shape());
            starts.push(starts[starts.len() - 1] + n as i32);
        }
        let mut y = Tensor::empty(&[m, c], first.dtype(), cx.device);
        let saved = Saved::tensors([*index, &Tensor::from_slice(&starts, &[starts.len()], Device::Cpu)]);
        if let Device::Cuda(cuda) = cx.device {
            cuda::forward(cuda, &mut y, index, sources, &starts);
            return Outputs::one(y, saved);
        }
        let rows = starts[sources.len()];
        if let Some(i) = index.as_slice::<i32>().iter().find(|&&i| i < -1 || i >= rows) {
            panic!("gather_rows: index {i} is not one of the sources' {rows} rows");
        }
        dispatch_real!("gather_rows", first.dtype(), T => {
            let sources: Vec<&[T]> = sources.iter().map(|s| s.as_slice()).collect();
            reference::forward::<T>(y.as_mut_slice(), index.as_slice(), &sources, &starts, c);
        });
        Outputs::one(y, saved)
    }

    fn backward(&self, cx: &mut Cx, saved: Saved, grad_outs: &[Option<&Tensor>], grads: &mut [GradSlot]) {
        let ([index, starts], Some(dy)) = (&saved.tensors[..], grad_outs[0]) else { return };
        if let Device::Cuda(cuda) = cx.device {
            return cuda::backward(cuda, &mut grads[1..], dy, index, starts.as_slice());
        }
        dispatch_real!("gather_rows", dy.dtype(), T => {
            let (index, starts) = (index.as_slice(), starts.as_slice());
            reference::backward::<T>(&mut grads[1..], dy.as_slice(), index, starts, dy.last_axis());
        });
    }

    fn cost(&self, pass: Pass, inputs: &[&Tensor]) -> Cost {
        let rows: usize = inputs[1..].iter().map(|s| s.len()).sum();
        let (n, size) = (inputs[0].len() * inputs[1].last_axis(), inputs[1].dtype().size());
        match pass {
            Pass::Forward => Cost::new(0, 2 * n * size + inputs[0].len() * 4),
            Pass::Backward => Cost::new(n, (2 * n + rows) * size),
        }
    }
}
