//! The definition, an image's group at a time.

use super::{GroupNorm, Sizes};
use crate::Real;
use crate::op::GradSlot;

fn cast<T: Real>(n: usize) -> T {
    T::from_f64(n as f64)
}

/// The place of an element's statistics, and its channel.
fn place(at: usize, s: &Sizes) -> (usize, usize) {
    (at / s.image() * s.groups + at % s.c / s.group(), at % s.c)
}

/// y (images, pixels, C), statistics (images, groups, 2), x as y, w (C), b (C).
pub fn forward<T: Real>(
    y: &mut [T],
    statistics: &mut [T],
    x: &[T],
    w: &[T],
    b: &[T],
    norm: &GroupNorm,
    sizes: &Sizes,
) {
    let sums = |f: &dyn Fn(usize) -> T| {
        let mut sums = vec![T::zero(); statistics.len() / 2];
        (0..x.len()).for_each(|at| sums[place(at, sizes).0] += f(at));
        sums
    };
    let count = cast::<T>(sizes.shared());
    let means: Vec<T> = sums(&|at| x[at]).into_iter().map(|sum| sum / count).collect();
    let centred = |at: usize| x[at] - means[place(at, sizes).0];
    let squares = sums(&|at| centred(at) * centred(at));
    for ((statistics, &mean), &sum) in statistics.chunks_mut(2).zip(&means).zip(&squares) {
        statistics.copy_from_slice(&[mean, T::one() / (sum / count + T::from_f64(norm.eps)).sqrt()]);
    }
    for (at, y) in y.iter_mut().enumerate() {
        let (group, c) = place(at, sizes);
        *y = norm.activation.forward(centred(at) * statistics[group * 2 + 1] * w[c] + b[c]);
    }
}

/// With xhat = (x - mean) rstd, h = dy act'(xhat w + b) and g = h w: dx = rstd (g - mean(g) - xhat mean(g xhat)) with means
/// over a group, dw = sum h xhat, db = sum h.
#[expect(clippy::too_many_arguments, reason = "outputs, inputs, scalars, sizes, as in every kernel")]
pub fn backward<T: Real>(
    dx: &mut GradSlot,
    dw: &mut GradSlot,
    db: &mut GradSlot,
    dy: &[T],
    x: &[T],
    w: &[T],
    b: &[T],
    statistics: &[T],
    norm: &GroupNorm,
    sizes: &Sizes,
) {
    let xhat = |at: usize| {
        let (group, _) = place(at, sizes);
        (x[at] - statistics[group * 2]) * statistics[group * 2 + 1]
    };
    let h = |at: usize| {
        let (_, c) = place(at, sizes);
        let z = xhat(at) * w[c] + b[c];
        dy[at] * norm.activation.derivative(norm.activation.forward(z))
    };
    let (mut means, mut w_sums, mut b_sums) =
        (vec![(T::zero(), T::zero()); statistics.len() / 2], vec![T::zero(); w.len()], vec![T::zero(); w.len()]);
    let count = cast::<T>(sizes.shared());
    for at in 0..x.len() {
        let (group, c) = place(at, sizes);
        let (g, gx) = &mut means[group];
        *g += h(at) * w[c] / count;
        *gx += h(at) * w[c] * xhat(at) / count;
        w_sums[c] += h(at) * xhat(at);
        b_sums[c] += h(at);
    }
    dx.store::<T>(|at| {
        let (group, c) = place(at, sizes);
        let (mean_g, mean_gx) = means[group];
        statistics[group * 2 + 1] * (h(at) * w[c] - mean_g - xhat(at) * mean_gx)
    });
    dw.store::<T>(|c| w_sums[c]);
    db.store::<T>(|c| b_sums[c]);
}
