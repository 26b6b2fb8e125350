//! The fast version: images of all layers over threads, with blocked products.

use rayon::prelude::*;

use super::{Sizes, divisor};
use crate::Real;
use crate::exp::{add_exp, logsumexp};
use crate::gemm::{Matrix, gemm};
use crate::op::GradSlot;

pub fn forward<T: Real>(
    loss: &mut [T],
    coefficients: &mut [T],
    queries: &[T],
    tokens: &[T],
    positives: &[T],
    Sizes { images, queries: q, tokens: n, there, channels: c, .. }: Sizes,
    temperature: T,
) {
    if q * n == 0 {
        return loss.fill(T::zero());
    }
    let problems = loss.par_iter_mut().zip(coefficients.par_chunks_mut(q * n)).zip(positives.par_chunks(q * n));
    problems.enumerate().for_each(|(at, ((loss, coefficients), positives))| {
        let queries = Matrix::new(&queries[at * q * c..], q, c, c);
        let tokens = Matrix::new(&tokens[at % images * n * c..], n, c, c);
        let (mut by_query, mut by_token) = (vec![T::zero(); q * n], vec![T::zero(); n * q]);
        gemm(&mut by_query, n, false, temperature.recip(), queries, tokens.t());
        gemm(&mut by_token, q, false, temperature.recip(), tokens, queries.t());
        let (of_queries, by_query) = lines(&by_query, positives, n, there);
        let (of_tokens, by_token) = lines(&by_token, &transposed(positives, n), q, q);
        *loss = of_queries + of_tokens;
        coefficients.copy_from_slice(&by_query);
        coefficients.iter_mut().zip(transposed(&by_token, q)).for_each(|(c, t)| *c += t);
    });
}

fn transposed<T: Real>(x: &[T], columns: usize) -> Vec<T> {
    (0..columns).flat_map(|j| x[j..].iter().step_by(columns).copied()).collect()
}

/// Half the loss of the lines of a matrix of logits, and its derivative. The first `there` logits of a line are there.
fn lines<T: Real>(logits: &[T], positives: &[T], width: usize, there: usize) -> (T, Vec<T>) {
    let half = T::from_f64(0.5);
    let (mut loss, mut derivative) = (T::zero(), vec![T::zero(); logits.len()]);
    for ((dx, x), positives) in derivative.chunks_mut(width).zip(logits.chunks(width)).zip(positives.chunks(width)) {
        let count: T = positives.iter().copied().sum();
        if count == T::zero() {
            continue;
        }
        let (dx, x) = (&mut dx[..there], &x[..there]);
        let share = half / divisor(count);
        let normalizer = logsumexp(x);
        loss += half * normalizer;
        add_exp(dx, half, x, normalizer);
        for ((dx, &x), &p) in dx.iter_mut().zip(x).zip(positives) {
            loss -= share * p * x;
            *dx -= share * p;
        }
    }
    (loss, derivative)
}

pub fn backward<T: Real>(
    dqueries: &mut GradSlot,
    dtokens: &mut GradSlot,
    scales: &[T],
    queries: &[T],
    tokens: &[T],
    coefficients: &[T],
    Sizes { layers, images, queries: q, tokens: n, channels: c, .. }: Sizes,
) {
    let coefficients = |at: usize| Matrix::new(&coefficients[at * q * n..], q, n, n);
    if let Some((dqueries, accumulate)) = dqueries.target::<T>() {
        dqueries.par_chunks_mut((q * c).max(1)).enumerate().for_each(|(at, dqueries)| {
            let tokens = Matrix::new(&tokens[at % images * n * c..], n, c, c);
            gemm(dqueries, c, accumulate, scales[at / images], coefficients(at), tokens);
        });
    }
    if let Some((dtokens, accumulate)) = dtokens.target::<T>() {
        if layers * q == 0 && !accumulate {
            dtokens.fill(T::zero());
        }
        dtokens.par_chunks_mut((n * c).max(1)).enumerate().for_each(|(image, dtokens)| {
            for (layer, &scale) in scales.iter().enumerate() {
                let at = layer * images + image;
                let queries = Matrix::new(&queries[at * q * c..], q, c, c);
                gemm(dtokens, c, accumulate || layer > 0, scale, coefficients(at).t(), queries);
            }
        });
    }
}
