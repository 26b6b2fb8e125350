//! The definition, a row at a time.

use crate::Real;
use crate::op::GradSlot;

fn cast<T: Real>(n: usize) -> T {
    T::from_f64(n as f64)
}

/// y (N, C), statistics (N, 2), x (N, C), w (C), b (C).
pub fn forward<T: Real>(y: &mut [T], statistics: &mut [T], x: &[T], w: &[T], b: &[T], eps: T) {
    let c = w.len();
    for (row, statistics) in statistics.chunks_mut(2).enumerate() {
        let range = row * c..(row + 1) * c;
        let (y, x) = (&mut y[range.clone()], &x[range]);
        let mean = x.iter().copied().sum::<T>() / cast(c);
        let var = x.iter().map(|&v| (v - mean) * (v - mean)).sum::<T>() / cast(c);
        let rstd = T::one() / (var + eps).sqrt();
        for i in 0..c {
            y[i] = (x[i] - mean) * rstd * w[i] + b[i];
        }
        statistics.copy_from_slice(&[mean, rstd]);
    }
}

/// With xhat = (x - mean) rstd and g = dy w: dx = rstd (g - mean(g) - xhat mean(g xhat)), dw = sum dy xhat, db = sum dy.
pub fn backward<T: Real>(
    dx: &mut GradSlot,
    dw: &mut GradSlot,
    db: &mut GradSlot,
    dy: &[T],
    x: &[T],
    w: &[T],
    statistics: &[T],
) {
    let c = w.len();
    let rows = statistics.len() / 2;
    let xhat = |i: usize| (x[i] - statistics[i / c * 2]) * statistics[i / c * 2 + 1];
    let row_mean = |row: usize, f: &dyn Fn(usize) -> T| (row * c..(row + 1) * c).map(f).sum::<T>() / cast(c);
    let means: Vec<(T, T)> = (0..rows)
        .map(|row| (row_mean(row, &|i| dy[i] * w[i % c]), row_mean(row, &|i| dy[i] * w[i % c] * xhat(i))))
        .collect();
    dx.store::<T>(|i| {
        let (mean_g, mean_gx) = means[i / c];
        statistics[i / c * 2 + 1] * (dy[i] * w[i % c] - mean_g - xhat(i) * mean_gx)
    });
    dw.store::<T>(|j| (0..rows).map(|row| dy[row * c + j] * xhat(row * c + j)).sum());
    db.store::<T>(|j| (0..rows).map(|row| dy[row * c + j]).sum());
}
