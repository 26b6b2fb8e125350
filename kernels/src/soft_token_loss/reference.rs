//! The definition, a query at a time.

use super::Problem;
use crate::Real;
use crate::op::GradSlot;

impl<T: Real> Problem<'_, T> {
    /// The weight of a query and its target distribution.
    fn weight_and_target(&self, row: usize) -> (T, Vec<T>) {
        match self.target(self.target_of_row[row]) {
            Some(target) => (T::one(), target.to_vec()),
            None => (self.eos_coef, (0..self.k).map(|c| T::from_f64((c == self.k - 1).into())).collect()),
        }
    }
}

/// row_loss (R) = -weight (log_softmax . target), normalizer (R) = logsumexp.
pub fn forward<T: Real>(row_loss: &mut [T], normalizer: &mut [T], problem: &Problem<T>) {
    for (row, logits) in problem.logits.chunks(problem.k).enumerate() {
        let max = logits.iter().fold(T::neg_infinity(), |m, &x| m.max(x));
        normalizer[row] = max + logits.iter().map(|&x| (x - max).exp()).sum::<T>().ln();
        let (weight, target) = problem.weight_and_target(row);
        row_loss[row] = weight * logits.iter().zip(target).map(|(&x, t)| t * (normalizer[row] - x)).sum::<T>();
    }
}

/// dlogits = scale weight (softmax sum(target) - target), with one scale a layer.
pub fn backward<T: Real>(dlogits: &mut GradSlot, scales: &[f64], normalizer: &[T], problem: &Problem<T>) {
    let rows_of_layer = problem.target_of_row.len() / scales.len().max(1);
    let rows: Vec<(T, Vec<T>)> = (0..problem.target_of_row.len()).map(|row| problem.weight_and_target(row)).collect();
    dlogits.store::<T>(|at| {
        let (row, column) = (at / problem.k, at % problem.k);
        let (weight, target) = &rows[row];
        let probability = (problem.logits[at] - normalizer[row]).exp();
        let total: T = target.iter().copied().sum();
        T::from_f64(scales[row / rows_of_layer]) * *weight * (probability * total - target[column])
    });
}
