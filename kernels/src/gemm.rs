//! General matrix products on the CPU, by the kernels of the `gemm` crate for the level at hand.

use gemm_common::Parallelism;
use gemm_common::gemm::{Conj, gemm_basic_generic};
use gemm_common::microkernel::{HMicroKernelFn, MicroKernelFn};
use gemm_common::simd::{MixedSimd, Scalar};
#[cfg(target_arch = "x86_64")]
use gemm_common::simd::{V3, V4};
use rayon::prelude::*;

use crate::dtype::Real;
#[cfg(target_arch = "x86_64")]
use crate::simd::{self, Level};

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
    unsafe { T::product(c.as_mut_ptr(), c_stride, accumulate, alpha, a, b) }
}

/// Types that have kernels.
pub trait Product: Sized {
    /// [`gemm`] behind a pointer.
    ///
    /// # Safety
    ///
    /// Elements `c[i * c_stride + j]`, i < a.rows, j < b.columns, are valid, and nobody else reads or writes them
    /// meanwhile.
    unsafe fn product(c: *mut Self, c_stride: usize, accumulate: bool, alpha: Self, a: Matrix<Self>, b: Matrix<Self>);
}

/// [`Product`] by a library's kernels for the level at hand: its own entry point takes the best that the machine has.
macro_rules! product {
    ($type:ident, $library:ident) => {
        impl Product for $type {
            // SAFETY: the contract is that of `multiply`.
            #[track_caller]
            unsafe fn product(
                c: *mut Self,
                c_stride: usize,
                accumulate: bool,
                alpha: Self,
                a: Matrix<Self>,
                b: Matrix<Self>,
            ) {
                macro_rules! by {
                    ($kernels:ident, $simd:ident, $lanes:expr) => {{
                        use $library::microkernel::$kernels::$type::{H_UKR, MR_DIV_N, UKR};
                        // SAFETY: as for this function.
                        unsafe {
                            multiply::<$simd, _, { $lanes }, { MR_DIV_N * $lanes }, _, _, _, _>(
                                c, c_stride, accumulate, alpha, a, b, &UKR, &H_UKR,
                            )
                        }
                    }};
                }
                #[cfg(target_arch = "x86_64")]
                match simd::level() {
                    Level::Baseline => by!(scalar, Scalar, 1),
                    Level::Avx2 => by!(fma, V3, 32 / size_of::<$type>()),
                    Level::Avx512 | Level::Avx512Bf16 => by!(avx512f, V4, 64 / size_of::<$type>()),
                }
                #[cfg(target_arch = "aarch64")]
                by!(neon, Scalar, 16 / size_of::<$type>());
                #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
                by!(scalar, Scalar, 1);
            }
        }
    };
}

product!(f32, gemm_f32);
product!(f64, gemm_f64);

/// [`Product::product`] by given kernels.
///
/// # Safety
///
/// As there.
#[track_caller]
#[expect(clippy::too_many_arguments, reason = "a product's operands, and its kernels")]
unsafe fn multiply<
    S: MixedSimd<T, T, T, T>,
    T: Real + Conj,
    const LANES: usize,
    const MR: usize,
    const NR: usize,
    const VECTORS: usize,
    const H_M: usize,
    const H_N: usize,
>(
    c: *mut T,
    c_stride: usize,
    accumulate: bool,
    alpha: T,
    a: Matrix<T>,
    b: Matrix<T>,
    kernels: &[[MicroKernelFn<T>; NR]; VECTORS],
    horizontal_kernels: &[[HMicroKernelFn<T>; H_N]; H_M],
) {
    assert_eq!(a.columns, b.rows, "gemm: inner sizes");
    let stride = |s: usize| isize::try_from(s).expect("strides fit isize");
    // The kernels write columns that lie without gaps: c^T = b^T a^T.
    // SAFETY: the constructors keep every (row, column) of `a` and `b` in bounds, the caller those of `c`.
    unsafe {
        gemm_basic_generic::<S, T, LANES, MR, NR, VECTORS, H_M, H_N>(
            S::try_new().expect("the machine has its level"),
            b.columns,
            a.rows,
            a.columns,
            c,
            stride(c_stride),
            1,
            accumulate,
            b.data.as_ptr(),
            stride(b.row_stride),
            stride(b.column_stride),
            a.data.as_ptr(),
            stride(a.row_stride),
            stride(a.column_stride),
            T::one(),
            alpha,
            false,
            false,
            false,
            |x, y, z| x * y + z,
            kernels,
            horizontal_kernels,
            false,
            Parallelism::None,
        );
    }
}

/// Rows of a product that one task computes: a size that fills the packing buffers of a core.
const TASK_ROWS: usize = 256;

/// Columns that one task computes of a product with too few rows to share.
const TASK_COLUMNS: usize = 128;

/// [`gemm()`] with the rows of `c` split over threads in equal tasks (the columns, if there are few rows).
#[track_caller]
pub fn gemm_rows<T: Real>(c: &mut [T], accumulate: bool, alpha: T, a: Matrix<T>, b: Matrix<T>) {
    let n = b.columns;
    if n == 0 || a.rows == 0 {
        return;
    }
    assert_eq!(c.len(), a.rows * n, "gemm_rows: output size");
    if a.rows <= TASK_ROWS {
        return gemm_columns(c, accumulate, alpha, a, b);
    }
    // As many for each of two threads.
    let task_rows = a.rows.div_ceil(a.rows.div_ceil(TASK_ROWS).next_multiple_of(2));
    c.par_chunks_mut(task_rows * n).with_max_len(1).enumerate().for_each(|(task, c)| {
        let start = task * task_rows;
        let rows = c.len() / n;
        let a = Matrix { data: &a.data[start * a.row_stride..], rows, ..a };
        gemm(c, n, accumulate, alpha, a, b);
    });
}

/// [`gemm`] with the columns of `c`, whose rows lie without gaps, split over threads.
fn gemm_columns<T: Real>(c: &mut [T], accumulate: bool, alpha: T, a: Matrix<T>, b: Matrix<T>) {
    let n = b.columns;
    let c = Columns(c.as_mut_ptr());
    (0..n.div_ceil(TASK_COLUMNS)).into_par_iter().with_max_len(1).for_each(|task| {
        let first = task * TASK_COLUMNS;
        let data = &b.data[(first * b.column_stride).min(b.data.len())..];
        let b = Matrix { data, columns: TASK_COLUMNS.min(n - first), ..b };
        // SAFETY: `c` holds a.rows * n elements, borrowed for writing while the tasks run, and tasks own distinct columns.
        unsafe { T::product(c.at(first), n, accumulate, alpha, a, b) }
    });
}

/// A matrix whose columns several tasks write.
pub(crate) struct Columns<T>(pub(crate) *mut T);

// SAFETY: the tasks write distinct elements.
unsafe impl<T: Send> Sync for Columns<T> {}

impl<T> Columns<T> {
    /// The first element of a column.
    pub(crate) fn at(&self, column: usize) -> *mut T {
        self.0.wrapping_add(column)
    }
}

/// out (up to C, N) = x (N, C) transposed, over threads: the first columns of x, as many as out has rows. `epilogue` gets
/// rows of `out` while they are in cache.
#[track_caller]
pub fn transpose<T: Real>(out: &mut [T], x: &[T], c: usize, epilogue: impl Fn(&mut [T]) + Sync) {
    const TILE: usize = 16; // about a cache line of either side
    if x.is_empty() {
        return;
    }
    let n = x.len() / c;
    assert!(out.len() <= x.len() && out.len().is_multiple_of(n), "transpose: output size");
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd::{self, Level};

    #[test]
    fn products_run_at_the_level() {
        // (1 + e)^2 - (1 + 2e) is e^2 if multiplication and addition are fused, and else 0.
        let e = f32::EPSILON;
        let (rows, columns, depth) = (64, 64, 8);
        let a: Vec<f32> = (0..rows).flat_map(|_| [1.0, 1.0 + e, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]).collect();
        let mut b = vec![0.0; depth * columns];
        b[..columns].fill(-1.0 - 2.0 * e);
        b[columns..2 * columns].fill(1.0 + e);
        let mut c = vec![f32::NAN; rows * columns];
        gemm(
            &mut c,
            columns,
            false,
            1.0,
            Matrix::new(&a, rows, depth, depth),
            Matrix::new(&b, depth, columns, columns),
        );
        let is_fused = cfg!(target_arch = "aarch64") || simd::level() >= Level::Avx2;
        let want = if is_fused { e * e } else { 0.0 };
        assert!(c.iter().all(|&c| c == want), "{} instead of {want}", c[0]);
    }
}
