//! The definition, a cell at a time: copies, which no other version would make faster.

use crate::Real;
use crate::op::GradSlot;

/// (row, column) of every cell, in order.
fn cells(sizes: &[[usize; 2]]) -> impl Iterator<Item = (usize, usize)> {
    sizes.iter().flat_map(|&[h, w]| (0..h).flat_map(move |row| (0..w).map(move |column| (row, column))))
}

/// y (cells and more, 2 half), row_embed (R, half), col_embed (R, half).
pub fn forward<T: Real>(y: &mut [T], row_embed: &[T], col_embed: &[T], sizes: &[[usize; 2]], half: usize) {
    if half == 0 {
        return;
    }
    let (there, behind) = y.split_at_mut(cells(sizes).count() * 2 * half);
    behind.fill(T::zero());
    for (y, (row, column)) in there.chunks_mut(2 * half).zip(cells(sizes)) {
        y[..half].copy_from_slice(&col_embed[column * half..][..half]);
        y[half..].copy_from_slice(&row_embed[row * half..][..half]);
    }
}

/// drow_embed[r] and dcol_embed[c] sum over the cells of row r and of column c, in order.
pub fn backward<T: Real>(drow: &mut GradSlot, dcol: &mut GradSlot, dy: &[T], sizes: &[[usize; 2]], half: usize) {
    if let Some(drow) = drow.accumulator::<T>() {
        sum(drow, dy, cells(sizes).map(|(row, _)| row), half, half);
    }
    if let Some(dcol) = dcol.accumulator::<T>() {
        sum(dcol, dy, cells(sizes).map(|(_, column)| column), half, 0);
    }
}

/// out[at] += the half of dy's rows that begins at `first`.
fn sum<T: Real>(out: &mut [T], dy: &[T], at: impl Iterator<Item = usize>, half: usize, first: usize) {
    for (dy, at) in dy.chunks((2 * half).max(1)).zip(at) {
        out[at * half..][..half].iter_mut().zip(&dy[first..]).for_each(|(o, &g)| *o += g);
    }
}
