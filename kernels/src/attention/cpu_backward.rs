//! The fast version of backward, formulas as in the reference. Tasks are heads of segments, since the gradients of keys
//! sum over queries; they write to scratch, which is then put in place by rows.

use std::ops::Range;

use rayon::prelude::*;

use super::cpu::{query_blocks, transposed};
use super::{Forwarded, Problem, rows};
use crate::Segment;
use crate::gemm::{Matrix, gemm};
use crate::op::GradSlot;

/// Rows of a gradient that a task puts in place.
const ROWS: usize = 64;

/// Gradients of one head of one segment; those that nobody needs are empty.
struct HeadGrads {
    dq: Vec<f32>, // (queries, head_dim)
    dk: Vec<f32>, // (keys, head_dim)
    dv: Vec<f32>, // (keys, head_dim)
}

/// Which gradients somebody needs.
#[derive(Clone, Copy)]
struct Needed {
    dq: bool,
    dk: bool,
    dv: bool,
}

/// (C, Nk) of k and v.
struct Transposed {
    k: Vec<f32>,
    v: Vec<f32>,
}

/// Matrices of a block, (queries, keys).
#[derive(Default)]
struct Scratch {
    p: Vec<f32>,
    ds: Vec<f32>,
    mask: Vec<f32>,
}

/// dq (Nq, C), dk (Nk, C), dv (Nk, C).
pub fn backward(grads: &mut [GradSlot], forwarded: &Forwarded<f32>, problem: &Problem<f32>) {
    let [dq, dk, dv] = grads else { panic!("attention: three gradients") };
    let needed = Needed { dq: dq.is_needed(), dk: dk.is_needed(), dv: dv.is_needed() };
    let transposed = Transposed { k: transposed(problem.k, problem.c), v: transposed(problem.v, problem.c) };
    let parts: Vec<HeadGrads> = (0..problem.segments.len() * problem.heads)
        .into_par_iter()
        .with_max_len(1)
        .map_init(Scratch::default, |scratch, task| {
            let (segment, head) = (task / problem.heads, task % problem.heads);
            backward_head(scratch, segment, head, needed, &transposed, forwarded, problem)
        })
        .collect();
    put(dq, problem, |s| s.query..s.query + s.queries, |head| &parts[head].dq);
    put(dk, problem, |s| s.key..s.key + s.keys, |head| &parts[head].dk);
    put(dv, problem, |s| s.key..s.key + s.keys, |head| &parts[head].dv);
}

fn backward_head(
    scratch: &mut Scratch,
    segment: usize,
    head: usize,
    needed: Needed,
    transposed: &Transposed,
    forwarded: &Forwarded<f32>,
    problem: &Problem<f32>,
) -> HeadGrads {
    let s = &problem.segments[segment];
    let (d, scale, keys, stride) = (problem.head_dim(), problem.scale() as f32, s.keys, rows::stride(s.keys));
    let zeros = |needed: bool, rows: usize| vec![0.0; if needed { rows * d } else { 0 }];
    let mut grads =
        HeadGrads { dq: zeros(needed.dq, s.queries), dk: zeros(needed.dk, keys), dv: zeros(needed.dv, keys) };
    if keys == 0 {
        return grads;
    }
    let k = problem.head(problem.k, s.key, keys, head);
    let kt = problem.transposed_head(&transposed.k, s, head);
    let vt = problem.transposed_head(&transposed.v, s, head);
    for queries in query_blocks(s.queries) {
        let (first, n) = (s.query + queries.start, queries.len());
        let (q, dy) = (problem.head(problem.q, first, n, head), problem.head(forwarded.dy, first, n, head));
        let Scratch { p, ds, mask } = &mut *scratch;
        p.resize(n * stride, 0.0);
        ds.resize(n * stride, 0.0);
        gemm(p, stride, false, scale, q, kt);
        let logsumexp = forwarded.logsumexp[first * problem.heads + head..].iter().step_by(problem.heads);
        rows::probabilities(p, logsumexp, keys);
        gemm(ds, stride, false, 1.0, dy, vt);
        let deltas: Vec<f32> = (first..first + n).map(|row| forwarded.delta(row * problem.c + head * d, d)).collect();
        match problem.mask(mask, segment, &queries, head) {
            None => rows::score_gradients(ds, p, &deltas, keys),
            Some(mask) => rows::dropped_score_gradients(ds, p, mask, &deltas, keys),
        }
        let (p, ds) = (Matrix::new(p, n, keys, stride), Matrix::new(ds, n, keys, stride));
        if needed.dq {
            gemm(&mut grads.dq[queries.start * d..], d, false, scale, ds, k);
        }
        if needed.dk {
            gemm(&mut grads.dk, d, true, scale, ds.t(), q);
        }
        if needed.dv {
            gemm(&mut grads.dv, d, true, 1.0, p.t(), dy);
        }
    }
    grads
}

impl Forwarded<'_, f32> {
    /// dy . y over a head's channels of a row.
    fn delta(&self, at: usize, d: usize) -> f32 {
        self.dy[at..at + d].iter().zip(&self.y[at..at + d]).map(|(dy, y)| dy * y).sum()
    }
}

/// Stores or adds the gradients of all segments and heads, by rows: segments that share keys add up in their order.
fn put<'a>(
    grad: &mut GradSlot,
    problem: &Problem<f32>,
    rows_of: impl Fn(&Segment) -> Range<usize> + Sync,
    part: impl Fn(usize) -> &'a [f32] + Sync,
) {
    let Some((grad, accumulate)) = grad.target::<f32>() else { return };
    let (c, d) = (problem.c, problem.head_dim());
    grad.par_chunks_mut(ROWS * c).enumerate().for_each(|(task, grad)| {
        if !accumulate {
            grad.fill(0.0);
        }
        let first = task * ROWS;
        for (i, s) in problem.segments.iter().enumerate() {
            let rows = rows_of(s);
            for row in rows.start.max(first)..rows.end.min(first + grad.len() / c) {
                for (head, out) in grad[(row - first) * c..][..c].chunks_mut(d).enumerate() {
                    let part = &part(i * problem.heads + head)[(row - rows.start) * d..][..d];
                    out.iter_mut().zip(part).for_each(|(o, g)| *o += g);
                }
            }
        }
    });
}
