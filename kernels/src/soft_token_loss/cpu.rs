//! The fast version: rows over threads, with exponentials that vectorize. Most queries have no target, so only the last
//! column of theirs is looked at.

use rayon::prelude::*;

use super::Problem;
use crate::Real;
use crate::exp::{add_exp, logsumexp};
use crate::op::GradSlot;

/// Rows a task handles.
const BLOCK: usize = 32;

pub fn forward<T: Real>(row_loss: &mut [T], normalizer: &mut [T], problem: &Problem<T>) {
    let k = problem.k;
    row_loss
        .par_iter_mut()
        .zip(normalizer)
        .zip(problem.logits.par_chunks(k))
        .zip(problem.target_of_row)
        .with_min_len(BLOCK)
        .for_each(|(((loss, normalizer), logits), &target)| {
            *normalizer = logsumexp(logits);
            *loss = match problem.target(target) {
                Some(target) => logits.iter().zip(target).map(|(&x, &t)| t * (*normalizer - x)).sum(),
                None => problem.eos_coef * (*normalizer - logits[k - 1]),
            };
        });
}

pub fn backward<T: Real>(dlogits: &mut GradSlot, scales: &[f64], normalizer: &[T], problem: &Problem<T>) {
    let Some((dlogits, accumulate)) = dlogits.target::<T>() else { return };
    let k = problem.k;
    let rows_of_layer = problem.target_of_row.len() / scales.len().max(1);
    dlogits
        .par_chunks_mut(k)
        .zip(problem.logits.par_chunks(k))
        .zip(normalizer)
        .zip(problem.target_of_row)
        .enumerate()
        .with_min_len(BLOCK)
        .for_each(|(row, (((dx, x), &normalizer), &target))| {
            if !accumulate {
                dx.fill(T::zero());
            }
            let scale = T::from_f64(scales[row / rows_of_layer]);
            match problem.target(target) {
                Some(target) => {
                    add_exp(dx, scale * target.iter().copied().sum::<T>(), x, normalizer);
                    dx.iter_mut().zip(target).for_each(|(dx, &t)| *dx -= scale * t);
                }
                None => {
                    add_exp(dx, scale * problem.eos_coef, x, normalizer);
                    dx[k - 1] -= scale * problem.eos_coef;
                }
            }
        });
}
