//! The definition, a phrase at a time.

use super::Problem;
use crate::Real;
use crate::op::GradSlot;

fn logsumexp<T: Real>(values: impl Iterator<Item = T> + Clone) -> T {
    let max = values.clone().fold(T::neg_infinity(), T::max);
    max + values.map(|x| (x - max).exp()).sum::<T>().ln()
}

/// The loss; coefficients (P, N) its derivative by the cosines.
pub fn forward<T: Real>(coefficients: &mut [T], problem: &Problem<T>) -> T {
    let &Problem { features, phrases, image_of_phrase, candidates, cells, scale, divisor } = problem;
    let (images, p) = (cells.len() - 1, image_of_phrase.len());
    let n = cells[images];
    let c = features.len() / n.max(1);
    coefficients.fill(T::zero());
    let mut loss = T::zero();
    for (at, &own) in image_of_phrase.iter().enumerate() {
        let own = own as usize;
        let logit = |cell: usize| scale * (0..c).map(|k| features[cell * c + k] * phrases[at * c + k]).sum::<T>();
        let of_image = |b: usize| (cells[b]..cells[b + 1]).map(logit);
        let compared: Vec<usize> = (0..images).filter(|&b| b == own || candidates[at * images + b] != 0).collect();
        let score = |b: usize| logsumexp(of_image(b)) / divisor;
        let total = logsumexp(compared.iter().map(|&b| score(b)));
        let count = T::from_f64(p as f64);
        loss += (total - score(own)) / count;
        for &b in &compared {
            let is_own = T::from_f64(f64::from(b == own));
            let d_score = ((score(b) - total).exp() - is_own) / count;
            for cell in cells[b]..cells[b + 1] {
                let share = (logit(cell) - divisor * score(b)).exp();
                coefficients[at * n + cell] = d_score * share * scale / divisor;
            }
        }
    }
    loss
}

/// dfeatures = dy coefficients^T phrases, dphrases = dy coefficients features.
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
    dfeatures.store::<T>(|e| dy * (0..p).map(|i| coefficients[i * n + e / c] * phrases[i * c + e % c]).sum::<T>());
    dphrases.store::<T>(|e| dy * (0..n).map(|j| coefficients[e / c * n + j] * features[j * c + e % c]).sum::<T>());
}
