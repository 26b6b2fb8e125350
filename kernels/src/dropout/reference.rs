//! The definition, an element at a time.

use crate::Real;
use crate::op::GradSlot;
use crate::philox::Philox;

/// y, x of any one shape.
pub fn forward<T: Real>(y: &mut [T], x: &[T], philox: Philox, p: f32) {
    for (i, y) in y.iter_mut().enumerate() {
        *y = x[i] * T::from_f64(philox.keep(i as u64, p).into());
    }
}

/// dx = dy m; without a stream no mask was drawn, and m is 1.
pub fn backward<T: Real>(dx: &mut GradSlot, dy: &[T], philox: Option<Philox>, p: f32) {
    dx.store::<T>(|i| dy[i] * T::from_f64(philox.map_or(1.0, |philox| philox.keep(i as u64, p).into())));
}
