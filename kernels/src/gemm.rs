//! General matrix products on the CPU, by the `gemm` crate (AVX-512 where present).

use gemm::Parallelism;

use crate::dtype::Real;

/// A read-only matrix: element (i, j) is `data[i * row_stride + j * column_stride]`.
#[derive(Clone, Copy)]
pub struct Matrix<'a, T> {
    data: &'a [T],
    rows: usize,
    columns: usize,
    row_stride: usize,
    column_stride: usize,
}

impl<'a, T> Matrix<'a, T> {
    /// A row-major matrix whose rows lie `row_stride` elements apart.
    #[track_caller]
    pub fn new(data: &'a [T], rows: usize, columns: usize, row_stride: usize) -> Self {
        let needed = if rows == 0 || columns == 0 { 0 } else { (rows - 1) * row_stride + columns };
        assert!(data.len() >= needed, "gemm: {rows} x {columns} by {row_stride} needs {needed}, has {}", data.len());
        Matrix { data, rows, columns, row_stride, column_stride: 1 }
    }

    /// The transposed matrix, without a copy.
    pub fn t(self) -> Self {
        Matrix {
            rows: self.columns,
            columns: self.rows,
            row_stride: self.column_stride,
            column_stride: self.row_stride,
            ..self
        }
    }
}

/// c = alpha a b (+ c when `accumulate`), on the calling thread.
///
/// `c` is row-major, (a.rows, b.columns), with rows `c_stride` elements apart. Callers split large products over
/// threads themselves, by rules that depend on shapes only, so that results are bit-equal for any number of threads.
#[track_caller]
pub fn gemm<T: Real>(c: &mut [T], c_stride: usize, accumulate: bool, alpha: T, a: Matrix<T>, b: Matrix<T>) {
    assert_eq!(a.columns, b.rows, "gemm: inner sizes");
    let (m, n, k) = (a.rows, b.columns, a.columns);
    if m == 0 || n == 0 {
        return;
    }
    assert!(c.len() >= (m - 1) * c_stride + n, "gemm: output of {} for {m} x {n} by {c_stride}", c.len());
    let stride = |s: usize| isize::try_from(s).expect("strides fit isize");
    let beta = if accumulate { T::one() } else { T::zero() };
    // SAFETY: the constructors and the assertion above keep every (row, column) of the three matrices in bounds, and
    // `c` is borrowed for writing, so nothing aliases it.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            c.as_mut_ptr(),
            1,
            stride(c_stride),
            accumulate,
            a.data.as_ptr(),
            stride(a.column_stride),
            stride(a.row_stride),
            b.data.as_ptr(),
            stride(b.column_stride),
            stride(b.row_stride),
            beta,
            alpha,
            false,
            false,
            false,
            Parallelism::None,
        );
    }
}

/// Rows (or columns) of a product that one task computes: a size that fills the packing buffers of a core.
pub const TASK_ROWS: usize = 256;

/// [`gemm`] with the rows of `c` split over threads, [`TASK_ROWS`] at a time; each task gets its first row and its rows of
/// `c` afterwards, while they are in cache, through `epilogue`.
#[track_caller]
pub fn gemm_rows<T: Real>(
    c: &mut [T],
    accumulate: bool,
    alpha: T,
    a: Matrix<T>,
    b: Matrix<T>,
    epilogue: impl Fn(usize, &mut [T]) + Sync,
) {
    use rayon::prelude::*;
    let n = b.columns;
    if n == 0 || a.rows == 0 {
        return;
    }
    assert_eq!(c.len(), a.rows * n, "gemm_rows: output size");
    c.par_chunks_mut(TASK_ROWS * n).enumerate().for_each(|(task, c)| {
        let start = task * TASK_ROWS;
        let rows = c.len() / n;
        let a = Matrix { data: &a.data[start * a.row_stride..], rows, ..a };
        gemm(c, n, accumulate, alpha, a, b);
        epilogue(start, c);
    });
}
