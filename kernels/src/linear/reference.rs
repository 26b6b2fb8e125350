//! The definition: three loops.

use crate::Real;
use crate::activation::Activation;
use crate::op::GradSlot;

/// y (N, O), z (N, O) the pre-activation if asked for, x (N, I), w (O, I), b (O).
pub fn forward<T: Real>(
    y: &mut [T],
    mut z: Option<&mut [T]>,
    x: &[T],
    w: &[T],
    b: &[T],
    activation: Activation,
    inner: usize,
) {
    let o = b.len();
    for (at, y) in y.iter_mut().enumerate() {
        let (row, column) = (at / o, at % o);
        let dot: T = (0..inner).map(|i| x[row * inner + i] * w[column * inner + i]).sum();
        let sum = dot + b[column];
        if let Some(z) = &mut z {
            z[at] = sum;
        }
        *y = activation.forward(sum);
    }
}

/// dx = dz W, dW = dz^T x, db = column sums of dz.
pub fn backward<T: Real>(
    dx: &mut GradSlot,
    dw: &mut GradSlot,
    db: &mut GradSlot,
    dz: &[T],
    x: &[T],
    w: &[T],
    inner: usize,
) {
    let o = w.len() / inner.max(1);
    let rows = x.len() / inner.max(1);
    dx.store::<T>(|at| (0..o).map(|j| dz[at / inner * o + j] * w[j * inner + at % inner]).sum());
    dw.store::<T>(|at| (0..rows).map(|row| dz[row * o + at / inner] * x[row * inner + at % inner]).sum());
    db.store::<T>(|j| (0..rows).map(|row| dz[row * o + j]).sum());
}
