//! Dropout, a residual connection and layer normalization in one pass, as post-norm sublayers end (Vaswani et al., 2017,
//! arXiv 1706.03762), and the sum with positions from which the next attention makes queries and keys (Carion et al., 2020,
//! arXiv 2005.12872):
//!
//! ```text
//! s = x + m r                   m = 0 with probability p, else 1 / (1 - p); 1 outside of training
//! z = (s - mean) / sqrt(var + eps) * w + b
//! z_pos[n] = z[n] + positions[n mod Q]
//! ```
//!
//! Saved: s, w, per row (mean, 1 / sqrt(var + eps)), and the stream of m.

pub mod cases;
mod cpu;
mod cuda;
mod reference;

pub use cuda::KERNELS;

use std::borrow::Cow;

use rayon::prelude::*;

use crate::op::{Cost, Cx, GradSlot, Op, Outputs, Pass, Saved};
use crate::simd::BLOCK;
use crate::{DType, Device, Real, Tensor};

/// Inputs x (..., C), r (..., C), w (C), b (C) and, if wanted, positions (Q, C), where Q divides the number of rows; outputs
/// z (..., C) and, with positions, z_pos (..., C).
#[derive(Clone, Copy, Debug)]
pub struct ResidualNorm {
    /// The probability that an element of r is dropped, in [0, 1).
    pub p: f32,
    /// Added to the variance.
    pub eps: f64,
}

impl Op for ResidualNorm {
    fn name(&self) -> &'static str {
        "residual_norm"
    }

    #[track_caller]
    fn forward(&self, cx: &mut Cx, inputs: &[&Tensor]) -> Outputs {
        let &[x, r, w, b, ref positions @ ..] = inputs else { panic!("residual_norm: takes x, r, w, b, positions") };
        let positions = positions.first().copied();
        self.check(x, r, [w, b], positions);
        let philox = (cx.training && self.p > 0.0).then(|| cx.next_philox());
        let like_x = || Tensor::empty(x.shape(), x.dtype(), cx.device);
        let (mut z, mut z_pos, mut s) = (like_x(), positions.map(|_| like_x()), like_x());
        let mut statistics = Tensor::empty(&[x.rows(), 2], x.dtype().statistics(), cx.device); // (mean, rstd) a row
        match x.dtype() {
            _ if let Device::Cuda(cuda) = cx.device => {
                let (mask, p, eps) = (cx.philox_arg(philox), philox.map_or(0.0, |_| self.p), self.eps as f32);
                let outputs = (&mut z, z_pos.as_mut(), &mut s, &mut statistics);
                cuda::forward(cuda, outputs, x, r, w, b, positions, mask, p, eps);
            }
            DType::F32 => {
                let saved = (s.as_mut_slice(), statistics.as_mut_slice());
                let (x, r, w, b) = (x.as_slice(), r.as_slice(), w.as_slice(), b.as_slice());
                cpu::forward(z.as_mut_slice(), saved, x, r, w, b, philox, self.p, self.eps as f32);
                if let (Some(z_pos), Some(positions)) = (&mut z_pos, positions) {
                    cpu::add_positions(z_pos.as_mut_slice(), z.as_slice(), positions.as_slice());
                }
            }
            DType::F64 => {
                let saved = (s.as_mut_slice(), statistics.as_mut_slice());
                let (x, r, w, b) = (x.as_slice(), r.as_slice(), w.as_slice(), b.as_slice());
                reference::forward::<f64>(z.as_mut_slice(), saved, x, r, w, b, philox, self.p, self.eps);
                if let (Some(z_pos), Some(positions)) = (&mut z_pos, positions) {
                    reference::add_positions::<f64>(z_pos.as_mut_slice(), z.as_slice(), positions.as_slice());
                }
            }
            other => panic!("residual_norm: dtype {other:?} has no CPU implementation"),
        }
        let saved = Saved { tensors: vec![s, w.clone(), statistics], philox };
        Outputs { tensors: std::iter::once(z).chain(z_pos).collect(), saved }
    }

    fn backward(&self, cx: &mut Cx, saved: Saved, grad_outs: &[Option<&Tensor>], grads: &mut [GradSlot]) {
        let [s, w, statistics] = &saved.tensors[..] else { panic!("residual_norm: s, w, statistics are saved") };
        let (dz, dz_pos) = (grad_outs[0], grad_outs.get(1).copied().flatten());
        let [dx, dr, dw, db, dpositions @ ..] = grads else { panic!("residual_norm: four gradients or five") };
        if dz.is_none() && dz_pos.is_none() {
            return;
        }
        if let ([GradSlot::Write(dpositions)], None) = (&mut *dpositions, dz_pos) {
            dpositions.zero();
        }
        match s.dtype() {
            _ if let Device::Cuda(cuda) = cx.device => {
                let (mask, p) = (cx.philox_arg(saved.philox), saved.philox.map_or(0.0, |_| self.p));
                cuda::backward(cuda, [dx, dr, dw, db], [dz, dz_pos], s, w, statistics, mask, p);
                if let (Some(dz_pos), Some(dpositions)) = (dz_pos, dpositions.first_mut()) {
                    cuda::backward_positions(cuda, dpositions, dz_pos);
                }
            }
            DType::F32 => {
                let dz = sum_of_gradients(dz, dz_pos);
                let (s, w, statistics) = (s.as_slice(), w.as_slice(), statistics.as_slice());
                cpu::backward([dx, dr, dw, db], &dz, s, w, statistics, saved.philox, self.p);
                if let (Some(dz_pos), Some(dpositions)) = (dz_pos, dpositions.first_mut()) {
                    cpu::backward_positions(dpositions, dz_pos.as_slice());
                }
            }
            _ => {
                let dz = sum_of_gradients::<f64>(dz, dz_pos);
                let (s, w, statistics) = (s.as_slice(), w.as_slice(), statistics.as_slice());
                reference::backward([dx, dr, dw, db], &dz, s, w, statistics, saved.philox, self.p);
                if let (Some(dz_pos), Some(dpositions)) = (dz_pos, dpositions.first_mut()) {
                    reference::backward_positions::<f64>(dpositions, dz_pos.as_slice());
                }
            }
        }
    }

    fn cost(&self, pass: Pass, inputs: &[&Tensor]) -> Cost {
        let (n, size) = (inputs[0].len(), inputs[0].dtype().size());
        let (extra, positions) = inputs.get(4).map_or((0, 0), |positions| (n, positions.len()));
        match pass {
            Pass::Forward => {
                let saved = n * size + inputs[0].rows() * 2 * inputs[0].dtype().statistics().size();
                Cost::new(10 * n + extra, (4 * n + extra + positions) * size).saving(saved)
            }
            Pass::Backward => Cost::new(15 * n + 2 * extra, (4 * n + extra + positions) * size),
        }
    }
}

impl ResidualNorm {
    #[track_caller]
    fn check(&self, x: &Tensor, r: &Tensor, parameters: [&Tensor; 2], positions: Option<&Tensor>) {
        let c = x.last_axis();
        assert!((0.0..1.0).contains(&self.p), "residual_norm: p is {}, which is not in [0, 1)", self.p);
        assert_eq!(x.shape(), r.shape(), "residual_norm: x is {:?}, r {:?}", x.shape(), r.shape());
        for (name, t) in ["w", "b"].into_iter().zip(parameters) {
            assert_eq!(t.shape(), [c], "residual_norm: {name} is {:?}, x {:?}", t.shape(), x.shape());
        }
        if let Some(positions) = positions {
            let fits = matches!(*positions.shape(), [q, width] if width == c && x.rows().is_multiple_of(q));
            assert!(fits, "residual_norm: positions are {:?}, x {:?}", positions.shape(), x.shape());
        }
    }
}

/// The gradient that reaches z by both outputs.
fn sum_of_gradients<'a, T: Real>(dz: Option<&'a Tensor>, dz_pos: Option<&'a Tensor>) -> Cow<'a, [T]> {
    match (dz, dz_pos) {
        (Some(dz), Some(dz_pos)) => {
            let pairs = dz.as_slice::<T>().par_iter().zip(dz_pos.as_slice::<T>()).with_min_len(BLOCK);
            pairs.map(|(&a, &b)| a + b).collect::<Vec<T>>().into()
        }
        (Some(dz), None) | (None, Some(dz)) => dz.as_slice::<T>().into(),
        (None, None) => Cow::default(),
    }
}
