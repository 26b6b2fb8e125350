//! Multi-head scaled dot-product attention (Vaswani et al., 2017, arXiv 1706.03762) over a ragged batch:
//!
//! ```text
//! y_h = (softmax(q_h k_h^T / sqrt(C / heads)) * m) v_h        for every segment and head h
//! ```
//!
//! A segment's queries see its valid keys and nothing else; m is the inverted dropout mask of the probabilities. Rows
//! outside every segment, and those of a segment without keys, are zero. No (queries, keys) matrix is kept: saved are
//! q, k, v, y and the logsumexp of every query and head, from which backward computes the probabilities again
//! (FlashAttention, Dao et al., 2022, arXiv 2205.14135).

pub mod cases;
mod cpu;
mod cpu_backward;
mod cuda;
mod reference;
mod rows;

pub use cuda::KERNELS;
use cuda::Launcher;

use crate::cuda::Cuda;
use crate::op::{Cost, Cx, GradSlot, Op, Outputs, Pass, Saved};
use crate::philox::Philox;
use crate::{DType, Device, Segment, Segments, Tensor};

/// Inputs q (Nq, C), k (Nk, C), v (Nk, C); output y (Nq, C). Head h owns channels h C/heads..(h + 1) C/heads.
#[derive(Clone, Debug)]
pub struct Attention {
    /// Divides C.
    pub heads: usize,
    /// Query ranges ascend and do not overlap; key ranges may be shared.
    pub segments: Segments,
    /// The probability with which a probability is dropped in training, in [0, 1).
    pub dropout: f32,
}

/// What both versions read in both passes.
struct Problem<'a, T> {
    q: &'a [T],
    k: &'a [T],
    v: &'a [T],
    c: usize,
    heads: usize,
    segments: &'a [Segment],
    /// The stream of the dropout mask and the probability of a zero; `None` where nothing is dropped.
    dropout: Option<(Philox, f32)>,
}

impl<T> Problem<'_, T> {
    /// Channels of a head.
    fn head_dim(&self) -> usize {
        self.c / self.heads
    }

    /// The factor of q k^T.
    fn scale(&self) -> f64 {
        1.0 / (self.head_dim() as f64).sqrt()
    }

    /// The Philox index of the probability of a query of a segment (counted from the segment's first) for its first key;
    /// those of the other keys follow. It does not depend on how a version cuts the problem into blocks.
    fn mask_index(&self, segment: usize, head: usize, query: usize) -> u64 {
        (((segment * self.heads + head) as u64) << 40) + (query * self.segments[segment].keys) as u64
    }
}

/// What backward reads besides the problem.
struct Forwarded<'a, T> {
    dy: &'a [T],
    y: &'a [T],
    logsumexp: &'a [T],
}

impl Attention {
    fn problem<'a, T: crate::Element>(
        &'a self,
        [q, k, v]: [&'a Tensor; 3],
        philox: Option<Philox>,
    ) -> Problem<'a, T> {
        Problem {
            q: q.as_slice(),
            k: k.as_slice(),
            v: v.as_slice(),
            c: q.last_axis(),
            heads: self.heads,
            segments: &self.segments,
            dropout: philox.map(|philox| (philox, self.dropout)),
        }
    }

    fn launcher<'a>(&'a self, cuda: &'static Cuda, cx: &Cx, philox: Option<Philox>) -> Launcher<'a> {
        Launcher {
            cuda,
            heads: self.heads,
            segments: &self.segments,
            philox: cx.philox_arg(philox),
            dropout: philox.map_or(0.0, |_| self.dropout),
        }
    }

    #[track_caller]
    fn check(&self, q: &Tensor, k: &Tensor, v: &Tensor) {
        let (&[nq, c], &[nk, ck]) = (q.shape(), k.shape()) else {
            panic!("attention: q is {:?}, k is {:?}, not (N, C)", q.shape(), k.shape());
        };
        assert!(
            ck == c && v.shape() == k.shape(),
            "attention: q, k, v are {:?}, {:?}, {:?}",
            q.shape(),
            k.shape(),
            v.shape()
        );
        assert!(
            c > 0 && self.heads > 0 && c % self.heads == 0,
            "attention: {} heads do not divide the channels of q {:?}",
            self.heads,
            q.shape()
        );
        assert!((0.0..1.0).contains(&self.dropout), "attention: dropout is {}, which is not in [0, 1)", self.dropout);
        let mut end = 0;
        for s in self.segments.iter() {
            assert!(
                s.query >= end && s.query + s.queries <= nq,
                "attention: {s:?} after query {end} of {:?}",
                q.shape()
            );
            assert!(s.key + s.keys <= nk, "attention: {s:?} in keys {:?}", k.shape());
            end = s.query + s.queries;
        }
    }
}

impl Op for Attention {
    fn name(&self) -> &'static str {
        "attention"
    }

    #[track_caller]
    fn forward(&self, cx: &mut Cx, inputs: &[&Tensor]) -> Outputs {
        let &[q, k, v] = inputs else { panic!("attention: takes q, k, v") };
        self.check(q, k, v);
        let philox = (cx.training && self.dropout > 0.0).then(|| cx.next_philox());
        let mut y = Tensor::empty(q.shape(), q.dtype(), cx.device);
        let mut logsumexp = Tensor::empty(&[q.rows(), self.heads], q.dtype().statistics(), cx.device);
        match q.dtype() {
            _ if let Device::Cuda(cuda) = cx.device => {
                self.launcher(cuda, cx, philox).forward(&mut y, &mut logsumexp, [q, k, v]);
            }
            DType::F32 => {
                cpu::forward(y.as_mut_slice(), logsumexp.as_mut_slice(), &self.problem([q, k, v], philox));
            }
            DType::F64 => {
                let problem = self.problem::<f64>([q, k, v], philox);
                reference::forward(y.as_mut_slice(), logsumexp.as_mut_slice(), &problem);
            }
            other => panic!("attention: dtype {other:?} has no CPU implementation"),
        }
        let saved = Saved { philox, ..Saved::tensors([q, k, v, &y, &logsumexp]) };
        Outputs::one(y, saved)
    }

    fn backward(&self, cx: &mut Cx, saved: Saved, grad_outs: &[Option<&Tensor>], grads: &mut [GradSlot]) {
        let ([q, k, v, y, logsumexp], Some(dy)) = (&saved.tensors[..], grad_outs[0]) else { return };
        match q.dtype() {
            _ if let Device::Cuda(cuda) = cx.device => {
                self.launcher(cuda, cx, saved.philox).backward(grads, dy, [q, k, v], y, logsumexp);
            }
            DType::F32 => cpu_backward::backward(
                grads,
                &Forwarded { dy: dy.as_slice(), y: y.as_slice(), logsumexp: logsumexp.as_slice() },
                &self.problem([q, k, v], saved.philox),
            ),
            _ => reference::backward::<f64>(
                grads,
                &Forwarded { dy: dy.as_slice(), y: y.as_slice(), logsumexp: logsumexp.as_slice() },
                &self.problem([q, k, v], saved.philox),
            ),
        }
    }

    fn cost(&self, pass: Pass, inputs: &[&Tensor]) -> Cost {
        let (q, k, size) = (inputs[0], inputs[1], inputs[0].dtype().size());
        let product: usize = self.segments.iter().map(|s| 2 * s.queries * s.keys * q.last_axis()).sum();
        match pass {
            Pass::Forward => {
                Cost::new(2 * product, 2 * (q.len() + k.len()) * size).saving(q.rows() * self.heads * size)
            }
            Pass::Backward => Cost::new(5 * product, 4 * (q.len() + k.len()) * size),
        }
    }
}
