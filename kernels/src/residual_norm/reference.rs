//! The definition, a row at a time.

use crate::Real;
use crate::op::GradSlot;
use crate::philox::Philox;

/// The factor of element i of r; without a stream no mask was drawn, and it is 1.
fn factor<T: Real>(philox: Option<Philox>, i: usize, p: f32) -> T {
    T::from_f64(philox.map_or(1.0, |philox| philox.keep(i as u64, p).into()))
}

/// z (N, C); saved: s (N, C), statistics (N, 2); x (N, C), r (N, C), w (C), b (C).
#[expect(clippy::too_many_arguments, reason = "outputs, inputs, scalars, sizes, as in every kernel")]
pub fn forward<T: Real>(
    z: &mut [T],
    (s, statistics): (&mut [T], &mut [T]),
    x: &[T],
    r: &[T],
    w: &[T],
    b: &[T],
    philox: Option<Philox>,
    p: f32,
    eps: T,
) {
    let (c, count) = (w.len(), T::from_f64(w.len() as f64));
    for (i, s) in s.iter_mut().enumerate() {
        *s = x[i] + r[i] * factor(philox, i, p);
    }
    for (row, statistics) in statistics.chunks_mut(2).enumerate() {
        let (z, s) = (&mut z[row * c..][..c], &s[row * c..][..c]);
        let mean = s.iter().copied().sum::<T>() / count;
        let var = s.iter().map(|&v| (v - mean) * (v - mean)).sum::<T>() / count;
        let rstd = T::one() / (var + eps).sqrt();
        for j in 0..c {
            z[j] = (s[j] - mean) * rstd * w[j] + b[j];
        }
        statistics.copy_from_slice(&[mean, rstd]);
    }
}

/// z_pos (N, C), z (N, C), positions (Q, C).
pub fn add_positions<T: Real>(z_pos: &mut [T], z: &[T], positions: &[T]) {
    for (i, z_pos) in z_pos.iter_mut().enumerate() {
        *z_pos = z[i] + positions[i % positions.len()];
    }
}

/// With shat = (s - mean) rstd and g = dz w: dx = rstd (g - mean(g) - shat mean(g shat)), dr = m dx, dw = sum dz shat,
/// db = sum dz.
pub fn backward<T: Real>(
    [dx, dr, dw, db]: [&mut GradSlot; 4],
    dz: &[T],
    s: &[T],
    w: &[T],
    statistics: &[T],
    philox: Option<Philox>,
    p: f32,
) {
    let (c, rows) = (w.len(), statistics.len() / 2);
    let shat = |i: usize| (s[i] - statistics[i / c * 2]) * statistics[i / c * 2 + 1];
    let mean =
        |row: usize, f: &dyn Fn(usize) -> T| (row * c..(row + 1) * c).map(f).sum::<T>() / T::from_f64(c as f64);
    let means: Vec<(T, T)> =
        (0..rows).map(|row| (mean(row, &|i| dz[i] * w[i % c]), mean(row, &|i| dz[i] * w[i % c] * shat(i)))).collect();
    let ds = |i: usize| {
        let (mean_g, mean_gs) = means[i / c];
        statistics[i / c * 2 + 1] * (dz[i] * w[i % c] - mean_g - shat(i) * mean_gs)
    };
    dx.store::<T>(ds);
    dr.store::<T>(|i| ds(i) * factor(philox, i, p));
    dw.store::<T>(|j| (0..rows).map(|row| dz[row * c + j] * shat(row * c + j)).sum());
    db.store::<T>(|j| (0..rows).map(|row| dz[row * c + j]).sum());
}

/// dpositions = sum of dz_pos over the repetitions.
pub fn backward_positions<T: Real>(dpositions: &mut GradSlot, dz_pos: &[T]) {
    let n = dpositions.target::<T>().map_or(0, |(d, _)| d.len());
    dpositions.store::<T>(|j| dz_pos.iter().skip(j).step_by(n).copied().sum());
}
