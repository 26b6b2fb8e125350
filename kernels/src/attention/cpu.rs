//! The fast version: blocks of queries against all keys of their segment, scores by matrix products that stay in cache.
//!
//! Forward runs over threads by blocks of queries (all heads: a block's rows of y are its own), backward by segment and
//! head into scratch (its gradients sum over queries), which is then put in place by rows.

use std::ops::Range;

use rayon::prelude::*;

use super::{Forwarded, Problem};
use crate::Segment;
use crate::exp::exp;
use crate::gemm::{Matrix, gemm};
use crate::op::GradSlot;
use crate::simd::vectorized;

/// Queries of a block at most: with 860 keys its scores fill a quarter of a core's second-level cache.
const BLOCK: usize = 80;

/// Rows of a gradient that a task puts in place.
const ROWS: usize = 64;

/// 0..queries in blocks of nearly equal size.
fn query_blocks(queries: usize) -> impl Iterator<Item = Range<usize>> {
    let rows = queries.div_ceil(queries.div_ceil(BLOCK).max(1)).max(1);
    (0..queries).step_by(rows).map(move |first| first..queries.min(first + rows))
}

impl<'a> Problem<'a, f32> {
    /// One head's channels of rows of q, k, v or of what is shaped like them.
    fn head(&self, x: &'a [f32], first: usize, rows: usize, head: usize) -> Matrix<'a, f32> {
        let d = self.head_dim();
        let start = if rows == 0 { 0 } else { first * self.c + head * d };
        Matrix::new(&x[start..], rows, d, self.c)
    }

    fn keys_of(&self, x: &'a [f32], s: &Segment, head: usize) -> Matrix<'a, f32> {
        self.head(x, s.key, s.keys, head)
    }

    /// scores = scale q k^T for a block of queries of a segment.
    fn scores(&self, scores: &mut [f32], s: &Segment, queries: &Range<usize>, head: usize) {
        let q = self.head(self.q, s.query + queries.start, queries.len(), head);
        gemm(scores, s.keys, false, self.scale() as f32, q, self.keys_of(self.k, s, head).t());
    }

    /// The dropout mask of a block, if anything is dropped.
    fn mask<'m>(
        &self,
        mask: &'m mut Vec<f32>,
        segment: usize,
        queries: &Range<usize>,
        head: usize,
    ) -> Option<&'m [f32]> {
        let (philox, p) = self.dropout?;
        mask.resize(queries.len() * self.segments[segment].keys, 0.0);
        philox.keep_all(self.mask_index(segment, head, queries.start), p, mask);
        Some(mask)
    }
}

/// A block of queries with its rows of the outputs.
struct Block<'a> {
    segment: usize,
    queries: Range<usize>,
    y: &'a mut [f32],
    logsumexp: &'a mut [f32],
}

/// y (Nq, C), logsumexp (Nq, heads).
pub fn forward(mut y: &mut [f32], mut logsumexp: &mut [f32], problem: &Problem<f32>) {
    let (c, heads) = (problem.c, problem.heads);
    let mut take = |rows: usize| {
        let y = y.split_off_mut(..rows * c).expect("segments lie within the queries");
        (y, logsumexp.split_off_mut(..rows * heads).expect("segments lie within the queries"))
    };
    let mut blocks = Vec::new();
    let mut row = 0;
    for (segment, s) in problem.segments.iter().enumerate() {
        let (y, logsumexp) = take(s.query - row);
        y.fill(0.0);
        logsumexp.fill(0.0);
        for queries in query_blocks(s.queries) {
            let (y, logsumexp) = take(queries.len());
            blocks.push(Block { segment, queries, y, logsumexp });
        }
        row = s.query + s.queries;
    }
    y.fill(0.0);
    logsumexp.fill(0.0);
    blocks.into_par_iter().for_each_init(Default::default, |(scores, mask), block| {
        forward_block(block, scores, mask, problem);
    });
}

fn forward_block(block: Block, scores: &mut Vec<f32>, mask: &mut Vec<f32>, problem: &Problem<f32>) {
    let Block { segment, queries, y, logsumexp } = block;
    let s = &problem.segments[segment];
    if s.keys == 0 {
        y.fill(0.0);
        logsumexp.fill(0.0);
        return;
    }
    let (c, d, heads) = (problem.c, problem.head_dim(), problem.heads);
    scores.resize(queries.len() * s.keys, 0.0);
    for head in 0..heads {
        problem.scores(scores, s, &queries, head);
        let mut sums = [0.0; BLOCK];
        vectorized(|| {
            let rows = scores.chunks_mut(s.keys).zip(&mut sums).zip(logsumexp[head..].iter_mut().step_by(heads));
            for ((row, sum), logsumexp) in rows {
                let max = maximum(row);
                *sum = exponentials(row, max);
                *logsumexp = max + sum.ln();
            }
        });
        if let Some(mask) = problem.mask(mask, segment, &queries, head) {
            scores.iter_mut().zip(mask).for_each(|(p, m)| *p *= m);
        }
        let weights = Matrix::new(scores, queries.len(), s.keys, s.keys);
        gemm(&mut y[head * d..], c, false, 1.0, weights, problem.keys_of(problem.v, s, head));
        for (row, sum) in y.chunks_mut(c).zip(&sums) {
            row[head * d..][..d].iter_mut().for_each(|y| *y /= sum);
        }
    }
}

/// Elements of the widest vector.
const LANES: usize = 16;

#[inline(always)]
fn maximum(row: &[f32]) -> f32 {
    let mut max = [f32::NEG_INFINITY; LANES];
    let (chunks, rest) = row.as_chunks::<LANES>();
    for chunk in chunks {
        for (m, &x) in max.iter_mut().zip(chunk) {
            *m = if x > *m { x } else { *m };
        }
    }
    max.iter().chain(rest).fold(f32::NEG_INFINITY, |m, &x| m.max(x))
}

/// x = e^(x - max) in place; returns their sum.
#[inline(always)]
fn exponentials(row: &mut [f32], max: f32) -> f32 {
    let mut sums = [0.0; LANES];
    let (chunks, rest) = row.as_chunks_mut::<LANES>();
    for chunk in chunks {
        for (s, x) in sums.iter_mut().zip(chunk) {
            *x = exp(*x - max);
            *s += *x;
        }
    }
    for (s, x) in sums.iter_mut().zip(rest) {
        *x = exp(*x - max);
        *s += *x;
    }
    sums.iter().sum()
}

/// Gradients of one head of one segment; those that nobody needs are empty.
struct HeadGrads {
    dq: Vec<f32>, // (queries, head_dim)
    dk: Vec<f32>, // (keys, head_dim)
    dv: Vec<f32>, // (keys, head_dim)
}

/// Formulas as in the reference.
pub fn backward(grads: &mut [GradSlot], forwarded: &Forwarded<f32>, problem: &Problem<f32>) {
    let [dq, dk, dv] = grads else { panic!("attention: three gradients") };
    let needed = [dq.is_needed(), dk.is_needed(), dv.is_needed()];
    let parts: Vec<HeadGrads> = (0..problem.segments.len() * problem.heads)
        .into_par_iter()
        .map_init(Scratch::default, |scratch, task| {
            backward_head(scratch, task / problem.heads, task % problem.heads, needed, forwarded, problem)
        })
        .collect();
    put(dq, problem, |s| s.query..s.query + s.queries, |head| &parts[head].dq);
    put(dk, problem, |s| s.key..s.key + s.keys, |head| &parts[head].dk);
    put(dv, problem, |s| s.key..s.key + s.keys, |head| &parts[head].dv);
}

/// Matrices of a block: (queries, keys).
#[derive(Default)]
struct Scratch {
    p: Vec<f32>,
    ds: Vec<f32>,
    mask: Vec<f32>,
}

fn backward_head(
    scratch: &mut Scratch,
    segment: usize,
    head: usize,
    [need_dq, need_dk, need_dv]: [bool; 3],
    forwarded: &Forwarded<f32>,
    problem: &Problem<f32>,
) -> HeadGrads {
    let s = &problem.segments[segment];
    let (d, scale, keys) = (problem.head_dim(), problem.scale() as f32, s.keys);
    let zeros = |needed: bool, rows: usize| vec![0.0; if needed { rows * d } else { 0 }];
    let mut grads = HeadGrads { dq: zeros(need_dq, s.queries), dk: zeros(need_dk, keys), dv: zeros(need_dv, keys) };
    if keys == 0 {
        return grads;
    }
    let (k, v) = (problem.keys_of(problem.k, s, head), problem.keys_of(problem.v, s, head));
    for queries in query_blocks(s.queries) {
        let (first, rows) = (s.query + queries.start, queries.len());
        let (q, dy) = (problem.head(problem.q, first, rows, head), problem.head(forwarded.dy, first, rows, head));
        let Scratch { p, ds, mask } = &mut *scratch;
        p.resize(rows * keys, 0.0);
        problem.scores(p, s, &queries, head);
        let logsumexp = &forwarded.logsumexp[first * problem.heads + head..];
        vectorized(|| {
            for (row, &logsumexp) in p.chunks_mut(keys).zip(logsumexp.iter().step_by(problem.heads)) {
                row.iter_mut().for_each(|p| *p = exp(*p - logsumexp));
            }
        });
        let mask = problem.mask(mask, segment, &queries, head);
        if need_dq || need_dk {
            ds.resize(rows * keys, 0.0);
            gemm(ds, keys, false, 1.0, dy, v.t());
            if let Some(mask) = mask {
                ds.iter_mut().zip(mask).for_each(|(ds, m)| *ds *= m);
            }
            vectorized(|| {
                for (i, (ds, p)) in ds.chunks_mut(keys).zip(p.chunks(keys)).enumerate() {
                    let at = (first + i) * problem.c + head * d..(first + i) * problem.c + (head + 1) * d;
                    let delta: f32 = forwarded.dy[at.clone()].iter().zip(&forwarded.y[at]).map(|(g, y)| g * y).sum();
                    ds.iter_mut().zip(p).for_each(|(ds, p)| *ds = p * (*ds - delta));
                }
            });
            let ds = Matrix::new(ds, rows, keys, keys);
            if need_dq {
                gemm(&mut grads.dq[queries.start * d..], d, false, scale, ds, k);
            }
            if need_dk {
                gemm(&mut grads.dk, d, true, scale, ds.t(), q);
            }
        }
        if need_dv {
            if let Some(mask) = mask {
                p.iter_mut().zip(mask).for_each(|(p, m)| *p *= m);
            }
            gemm(&mut grads.dv, d, true, 1.0, Matrix::new(p, rows, keys, keys).t(), dy);
        }
    }
    grads
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
