//! The definition, an element at a time.

use crate::Real;
use crate::op::GradSlot;

/// y (..., S), a (..., S), b (S).
pub fn forward<T: Real>(y: &mut [T], a: &[T], b: &[T]) {
    for (i, y) in y.iter_mut().enumerate() {
        *y = a[i] + b[i % b.len()];
    }
}

/// da = dy, db = sum of dy over the repetitions.
pub fn backward<T: Real>(da: &mut GradSlot, db: &mut GradSlot, dy: &[T]) {
    da.store::<T>(|i| dy[i]);
    let n = db.target::<T>().map_or(0, |(db, _)| db.len());
    db.store::<T>(|j| dy.iter().skip(j).step_by(n).copied().sum());
}
