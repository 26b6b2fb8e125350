//! The product of two matrices, by the `gemm` crate.

use gemm::Parallelism;

use super::element::Real;

/// A matrix whose element (i, j) is at `i * row + j * col`.
#[derive(Clone, Copy, Debug)]
pub struct Strided<'a, R> {
    /// The elements.
    pub values: &'a [R],
    /// From a row to the next.
    pub row: usize,
    /// From a column to the next.
    pub col: usize,
}

/// [`Strided`], to be written.
#[derive(Debug)]
pub struct StridedMut<'a, R> {
    /// The elements.
    pub values: &'a mut [R],
    /// From a row to the next.
    pub row: usize,
    /// From a column to the next.
    pub col: usize,
}

/// Adds the product of `a` (m, k) and `b` (k, n) to `c` (m, n), on the calling thread.
///
/// # Panics
/// If a matrix reaches beyond its elements.
pub fn product<R: Real>([m, n, k]: [usize; 3], c: StridedMut<'_, R>, a: Strided<'_, R>, b: Strided<'_, R>) {
    if m == 0 || n == 0 || k == 0 {
        return;
    }
    let last = |rows: usize, cols: usize, row: usize, col: usize| (rows - 1) * row + (cols - 1) * col;
    assert!(last(m, k, a.row, a.col) < a.values.len(), "a ({m}, {k}) reaches beyond its elements");
    assert!(last(k, n, b.row, b.col) < b.values.len(), "b ({k}, {n}) reaches beyond its elements");
    assert!(last(m, n, c.row, c.col) < c.values.len(), "c ({m}, {n}) reaches beyond its elements");
    // SAFETY: every element is inside, as just checked, and `c` is borrowed exclusively.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            c.values.as_mut_ptr(),
            c.col as isize,
            c.row as isize,
            true,
            a.values.as_ptr(),
            a.col as isize,
            a.row as isize,
            b.values.as_ptr(),
            b.col as isize,
            b.row as isize,
            R::ONE,
            R::ONE,
            false,
            false,
            false,
            Parallelism::None,
        );
    }
}
