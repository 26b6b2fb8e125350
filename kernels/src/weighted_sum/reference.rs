//! The definition; there are a few dozen elements.

use crate::Real;
use crate::op::GradSlot;

pub fn forward<T: Real>(inputs: &[&[T]], weights: &[Vec<f64>]) -> T {
    let terms = inputs.iter().zip(weights);
    terms.flat_map(|(x, w)| x.iter().zip(w)).map(|(&x, &w)| T::from_f64(w) * x).sum()
}

/// dx_i[j] = dy weights[i][j].
pub fn backward<T: Real>(grads: &mut [GradSlot], dy: T, weights: &[Vec<f64>]) {
    for (dx, w) in grads.iter_mut().zip(weights) {
        dx.store::<T>(|j| dy * T::from_f64(w[j]));
    }
}
