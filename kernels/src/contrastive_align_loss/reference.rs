//! The definition, a query and a token at a time.

use super::{Sizes, divisor};
use crate::Real;
use crate::op::GradSlot;

/// loss (L, B) = (boxes + tokens) / 2 of an image; coefficients (L, B, Q, N) its derivative by x = logits.
pub fn forward<T: Real>(
    loss: &mut [T],
    coefficients: &mut [T],
    queries: &[T],
    tokens: &[T],
    positives: &[T],
    Sizes { images, queries: q, tokens: n, there, channels: c, .. }: Sizes,
    temperature: T,
) {
    coefficients.fill(T::zero());
    let half = T::from_f64(0.5);
    for (at, loss) in loss.iter_mut().enumerate() {
        let start = at * q * n;
        let dot = |i: usize, j: usize| -> T {
            let (query, token) = ((at * q + i) * c, (at % images * n + j) * c);
            (0..c).map(|k| queries[query + k] * tokens[token + k]).sum()
        };
        let logits: Vec<T> = (0..q * n).map(|e| dot(e / n, e % n) / temperature).collect();
        let rows = (0..q).map(|i| (0..there).map(|j| i * n + j).collect::<Vec<usize>>());
        let columns = (0..n).map(|j| (0..q).map(|i| i * n + j).collect::<Vec<usize>>());
        *loss = T::zero();
        for line in rows.chain(columns) {
            let count: T = line.iter().map(|&e| positives[start + e]).sum();
            if count == T::zero() {
                continue;
            }
            let share = |e: usize| positives[start + e] / divisor(count);
            let max = line.iter().fold(T::neg_infinity(), |m, &e| m.max(logits[e]));
            let normalizer = max + line.iter().map(|&e| (logits[e] - max).exp()).sum::<T>().ln();
            *loss += half * (normalizer - line.iter().map(|&e| share(e) * logits[e]).sum::<T>());
            for &e in &line {
                coefficients[start + e] += half * ((logits[e] - normalizer).exp() - share(e));
            }
        }
    }
}

/// dqueries = scale coefficients tokens, dtokens = sum over layers of scale coefficients^T queries.
pub fn backward<T: Real>(
    dqueries: &mut GradSlot,
    dtokens: &mut GradSlot,
    scales: &[T],
    queries: &[T],
    tokens: &[T],
    coefficients: &[T],
    Sizes { layers, images, queries: q, tokens: n, channels: c, .. }: Sizes,
) {
    dqueries.store::<T>(|e| {
        let (row, k) = (e / c, e % c);
        let (layer, image) = (row / q / images, row / q % images);
        scales[layer] * (0..n).map(|j| coefficients[row * n + j] * tokens[(image * n + j) * c + k]).sum::<T>()
    });
    dtokens.store::<T>(|e| {
        let (image, j, k) = (e / c / n, e / c % n, e % c);
        let in_layer = |layer: usize| -> T {
            let rows = (layer * images + image) * q..(layer * images + image + 1) * q;
            rows.map(|row| coefficients[row * n + j] * queries[row * c + k]).sum()
        };
        (0..layers).map(|layer| scales[layer] * in_layer(layer)).sum()
    });
}
