//! General matrix products on the CPU, by the `gemm` crate (AVX-512 where present).

use gemm::Parallelism;
use rayon::prelude::*;

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
    let (m, n) = (a.rows, b.columns);
    if m == 0 || n == 0 {
        return;
    }
    assert!(c.len() >= (m - 1) * c_stride + n, "gemm: output of {} for {m} x {n} by {c_stride}", c.len());
    // SAFETY: the assertion keeps every (row, column) of `c` in bounds; it is borrowed for writing, so nothing aliases it.
    unsafe { product(c.as_mut_ptr(), c_stride, accumulate, alpha, a, b) }
}

/// [`gemm`] behind a pointer.
///
/// # Safety
///
/// Elements `c[i * c_stride + j]`, i < a.rows, j < b.columns, are valid, and nobody else reads or writes them meanwhile.
#[track_caller]
unsafe fn product<T: Real>(c: *mut T, c_stride: usize, accumulate: bool, alpha: T, a: Matrix<T>, b: Matrix<T>) {
    assert_eq!(a.columns, b.rows, "gemm: inner sizes");
    let stride = |s: usize| isize::try_from(s).expect("strides fit isize");
    let beta = if accumulate { T::one() } else { T::zero() };
    // SAFETY: the constructors keep every (row, column) of `a` and `b` in bounds, the caller those of `c`.
    unsafe {
        gemm::gemm(
            a.rows,
            b.columns,
            a.columns,
            c,
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

/// Rows of a product that one task computes: a size that fills the packing buffers of a core.
pub const TASK_ROWS: usize = 256;

/// Columns that one task computes of a product with too few rows to share.
const TASK_COLUMNS: usize = 128;

/// [`gemm()`] with the rows of `c` split over threads, [`TASK_ROWS`] at a time (the columns, if there are no more rows than
/// that). `epilogue` gets rows of `c`, and the first one's index, while they are in cache.
#[track_caller]
pub fn gemm_rows<T: Real>(
    c: &mut [T],
    accumulate: bool,
    alpha: T,
    a: Matrix<T>,
    b: Matrix<T>,
    epilogue: impl Fn(usize, &mut [T]) + Sync,
) {
    let n = b.columns;
    if n == 0 || a.rows == 0 {
        return;
    }
    assert_eq!(c.len(), a.rows * n, "gemm_rows: output size");
    if a.rows <= TASK_ROWS {
        gemm_columns(c, accumulate, alpha, a, b);
        return epilogue(0, c);
    }
    c.par_chunks_mut(TASK_ROWS * n).enumerate().for_each(|(task, c)| {
        let start = task * TASK_ROWS;
        let rows = c.len() / n;
        let a = Matrix { data: &a.data[start * a.row_stride..], rows, ..a };
        gemm(c, n, accumulate, alpha, a, b);
        epilogue(start, c);
    });
}

/// [`gemm`] with the columns of `c`, whose rows lie without gaps, split over threads.
fn gemm_columns<T: Real>(c: &mut [T], accumulate: bool, alpha: T, a: Matrix<T>, b: Matrix<T>) {
    let n = b.columns;
    let c = Columns(c.as_mut_ptr());
    (0..n.div_ceil(TASK_COLUMNS)).into_par_iter().for_each(|task| {
        let first = task * TASK_COLUMNS;
        let data = &b.data[(first * b.column_stride).min(b.data.len())..];
        let b = Matrix { data, columns: TASK_COLUMNS.min(n - first), ..b };
        // SAFETY: `c` holds a.rows * n elements, borrowed for writing while the tasks run, and tasks own distinct columns.
        unsafe { product(c.at(first), n, accumulate, alpha, a, b) }
    });
}

/// A matrix whose columns several tasks write.
struct Columns<T>(*mut T);

// SAFETY: the tasks write distinct elements.
unsafe impl<T: Send> Sync for Columns<T> {}

impl<T> Columns<T> {
    fn at(&self, column: usize) -> *mut T {
        self.0.wrapping_add(column)
    }
}

/// out (C, N) = x (N, C) transposed, over threads; `epilogue` gets rows of `out` while they are in cache.
#[track_caller]
pub fn transpose<T: Real>(out: &mut [T], x: &[T], c: usize, epilogue: impl Fn(&mut [T]) + Sync) {
    const TILE: usize = 16; // about a cache line of either side
    if x.is_empty() {
        return;
    }
    assert_eq!(out.len(), x.len(), "transpose: output size");
    let n = x.len() / c;
    out.par_chunks_mut(TILE * n).enumerate().for_each(|(task, out)| {
        for (tile, rows) in x.chunks(TILE * c).enumerate() {
            for (column, out) in out.chunks_mut(n).enumerate() {
                for (o, row) in out[tile * TILE..].iter_mut().zip(rows.chunks(c)) {
                    *o = row[task * TILE + column];
                }
            }
        }
        epilogue(out);
    });
}
