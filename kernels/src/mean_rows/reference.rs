//! The definition, a group at a time. Groups are the few tokens of a phrase: no other version is needed.

use crate::Real;
use crate::op::GradSlot;

/// (m, index[offsets[m]..offsets[m + 1]]) of every group m that has members.
fn groups<'a>(index: &'a [i32], offsets: &'a [i32]) -> impl Iterator<Item = (usize, &'a [i32])> {
    offsets.windows(2).map(|w| &index[w[0] as usize..w[1] as usize]).enumerate().filter(|(_, rows)| !rows.is_empty())
}

/// y (M, C), x (N, C), index (K), offsets (M + 1).
pub fn forward<T: Real>(y: &mut [T], x: &[T], index: &[i32], offsets: &[i32], c: usize) {
    y.fill(T::zero());
    for (m, rows) in groups(index, offsets) {
        let y = &mut y[m * c..][..c];
        for &row in rows {
            y.iter_mut().zip(&x[row as usize * c..][..c]).for_each(|(y, &x)| *y += x);
        }
        let count = T::from_f64(rows.len() as f64);
        y.iter_mut().for_each(|y| *y /= count);
    }
}

/// dx[index[k]] += dy[m] / (size of group m), in the order of k.
pub fn backward<T: Real>(dx: &mut GradSlot, dy: &[T], index: &[i32], offsets: &[i32], c: usize) {
    let Some(dx) = dx.accumulator::<T>() else { return };
    for (m, rows) in groups(index, offsets) {
        let count = T::from_f64(rows.len() as f64);
        for &row in rows {
            let dx = &mut dx[row as usize * c..][..c];
            dx.iter_mut().zip(&dy[m * c..][..c]).for_each(|(d, &g)| *d += g / count);
        }
    }
}
