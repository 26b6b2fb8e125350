//! The fast version of forward: blocks of queries against all keys of their segment, scores by matrix products that stay
//! in cache. Tasks are blocks of queries with all heads: a block's rows of y are its own.

use std::ops::Range;

use rayon::prelude::*;

use super::{Problem, rows};
use crate::Segment;
use crate::gemm::{Matrix, gemm, transpose};

/// Queries of a block at most: with 860 keys its scores fill a quarter of a core's second-level cache.
const BLOCK: usize = 80;

/// 0..queries in blocks of nearly equal size.
pub fn query_blocks(queries: usize) -> impl Iterator<Item = Range<usize>> {
    let rows = queries.div_ceil(queries.div_ceil(BLOCK).max(1)).max(1);
    (0..queries).step_by(rows).map(move |first| first..queries.min(first + rows))
}

impl Problem<'_, f32> {
    /// One head's channels of rows of q, k, v or of what is shaped like them: (rows, head_dim).
    pub fn head<'x>(&self, x: &'x [f32], first: usize, rows: usize, head: usize) -> Matrix<'x, f32> {
        let d = self.head_dim();
        let start = if rows == 0 { 0 } else { first * self.c + head * d };
        Matrix::new(&x[start..], rows, d, self.c)
    }

    /// One head's channels of a segment's keys, of what [`transposed`] made: (head_dim, keys).
    pub fn transposed_head<'x>(&self, x: &'x [f32], s: &Segment, head: usize) -> Matrix<'x, f32> {
        let (d, n) = (self.head_dim(), self.k.len() / self.c);
        let start = if s.keys == 0 { 0 } else { head * d * n + s.key };
        Matrix::new(&x[start..], d, s.keys, n)
    }

    /// The dropout mask of a block, (queries, keys) without gaps, if anything is dropped.
    pub fn mask<'m>(
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

/// x (N, C) -> (C, N). Products whose columns are keys read it without packing it again for every block.
pub fn transposed(x: &[f32], c: usize) -> Vec<f32> {
    let mut out = vec![0.0; x.len()];
    transpose(&mut out, x, c, |_| {});
    out
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
    let kt = transposed(problem.k, c);
    blocks.into_par_iter().with_max_len(1).for_each_init(Default::default, |(scores, mask), block| {
        forward_block(block, scores, mask, &kt, problem);
    });
}

fn forward_block(block: Block, scores: &mut Vec<f32>, mask: &mut Vec<f32>, kt: &[f32], problem: &Problem<f32>) {
    let Block { segment, queries, y, logsumexp } = block;
    let s = &problem.segments[segment];
    if s.keys == 0 {
        y.fill(0.0);
        logsumexp.fill(0.0);
        return;
    }
    let (c, d, heads, stride) = (problem.c, problem.head_dim(), problem.heads, rows::stride(s.keys));
    scores.resize(queries.len() * stride, 0.0);
    for head in 0..heads {
        let q = problem.head(problem.q, s.query + queries.start, queries.len(), head);
        gemm(scores, stride, false, problem.scale() as f32, q, problem.transposed_head(kt, s, head));
        let mut sums = [0.0; BLOCK];
        rows::exponentials(scores, &mut sums, logsumexp[head..].iter_mut().step_by(heads), s.keys);
        if let Some(mask) = problem.mask(mask, segment, &queries, head) {
            rows::drop(scores, mask, s.keys);
        }
        let weights = Matrix::new(scores, queries.len(), s.keys, stride);
        gemm(&mut y[head * d..], c, false, 1.0, weights, problem.head(problem.v, s.key, s.keys, head));
        for (row, sum) in y.chunks_mut(c).zip(&sums) {
            row[head * d..][..d].iter_mut().for_each(|y| *y /= sum);
        }
    }
}
