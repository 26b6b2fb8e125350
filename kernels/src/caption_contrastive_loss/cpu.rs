//! The fast version: blocked products, then phrases over threads.

use rayon::prelude::*;

use super::Problem;
use crate::Real;
use crate::exp::logsumexp;
use crate::gemm::{Matrix, gemm_rows};
use crate::op::GradSlot;

pub fn forward<T: Real>(coefficients: &mut [T], problem: &Problem<T>) -> T {
    let &Problem { features, phrases, image_of_phrase, candidates, cells, scale, divisor } = problem;
    let (images, p) = (cells.len() - 1, image_of_phrase.len());
    let n = cells[images];
    if n * p == 0 {
        return T::zero();
    }
    let c = features.len() / n;
    gemm_rows(coefficients, false, scale, Matrix::new(phrases, p, c, c), Matrix::new(features, n, c, c).t());
    let inverse = T::from_f64(p as f64).recip();
    let losses: Vec<T> = coefficients
        .par_chunks_mut(n)
        .zip(image_of_phrase)
        .zip(candidates.par_chunks(images))
        .map(|((logits, &own), candidates)| {
            let own = own as usize;
            let normalizers: Vec<T> = cells.windows(2).map(|w| logsumexp(&logits[w[0]..w[1]])).collect();
            let is_compared = |b: usize| b == own || candidates[b] != 0;
            let score = |b: usize| if is_compared(b) { normalizers[b] / divisor } else { T::neg_infinity() };
            let total = logsumexp(&(0..images).map(score).collect::<Vec<T>>());
            for (b, &normalizer) in normalizers.iter().enumerate() {
                let probability = (score(b) - total).vector_exp();
                let d_score = inverse * (if b == own { probability - T::one() } else { probability });
                for x in &mut logits[cells[b]..cells[b + 1]] {
                    *x = d_score * scale / divisor * (*x - normalizer).vector_exp();
                }
            }
            inverse * (total - score(own))
        })
        .collect();
    losses.into_iter().sum()
}

pub fn backward<T: Real>(
    dfeatures: &mut GradSlot,
    dphrases: &mut GradSlot,
    dy: T,
    features: &[T],
    phrases: &[T],
    coefficients: &[T],
    c: usize,
) {
    let (n, p) = (features.len() / c, phrases.len() / c);
    let coefficients = Matrix::new(coefficients, p, n, n);
    if let Some((dfeatures, accumulate)) = dfeatures.target::<T>() {
        gemm_rows(dfeatures, accumulate, dy, coefficients.t(), Matrix::new(phrases, p, c, c));
    }
    if let Some((dphrases, accumulate)) = dphrases.target::<T>() {
        gemm_rows(dphrases, accumulate, dy, coefficients, Matrix::new(features, n, c, c));
    }
}
