//! The fast version: blocked products with bias and activation applied while a task's rows are in cache.

use crate::activation::Activation;
use crate::gemm::{Matrix, TASK_ROWS, gemm_rows, transpose};
use crate::op::GradSlot;
use crate::reduce::column_sums;

pub fn forward(
    y: &mut [f32],
    z: Option<&mut [f32]>,
    x: &[f32],
    w: &[f32],
    b: &[f32],
    activation: Activation,
    inner: usize,
) {
    let o = b.len();
    if o == 0 {
        return;
    }
    let rows = y.len() / o;
    let (x, w) = (Matrix::new(x, rows, inner, inner), Matrix::new(w, o, inner, inner));
    match z {
        Some(z) => {
            affine(z, x, w, b, |_| {});
            activation.map(y, z);
        }
        None => affine(y, x, w, b, |rows| activation.apply(rows)),
    }
}

/// out = x w^T + b; `then` gets rows of it while they are in cache.
fn affine(out: &mut [f32], x: Matrix<f32>, w: Matrix<f32>, b: &[f32], then: impl Fn(&mut [f32]) + Sync) {
    let epilogue = |rows: &mut [f32]| {
        for row in rows.chunks_mut(b.len()) {
            row.iter_mut().zip(b).for_each(|(v, b)| *v += b);
        }
        then(rows);
    };
    let rows = out.len() / b.len();
    if rows > TASK_ROWS {
        return gemm_rows(out, false, 1.0, x, w.t(), |_, rows| epilogue(rows));
    }
    // For few rows, repacking w would cost more than the product: w x^T reads it as it lies.
    let mut transposed = vec![0.0; out.len()]; // (O, rows)
    gemm_rows(&mut transposed, false, 1.0, w, x.t(), |_, _| {});
    transpose(out, &transposed, rows, epilogue);
}

pub fn backward(
    dx: &mut GradSlot,
    dw: &mut GradSlot,
    db: &mut GradSlot,
    dz: &[f32],
    x: &[f32],
    w: &[f32],
    inner: usize,
) {
    if inner == 0 {
        return;
    }
    let (o, rows) = (w.len() / inner, x.len() / inner);
    let (dz_m, x_m, w_m) =
        (Matrix::new(dz, rows, o, o), Matrix::new(x, rows, inner, inner), Matrix::new(w, o, inner, inner));
    if let Some((dx, accumulate)) = dx.target() {
        gemm_rows(dx, accumulate, 1.0, dz_m, w_m, |_, _| {});
    }
    if let Some((dw, accumulate)) = dw.target() {
        gemm_rows(dw, accumulate, 1.0, dz_m.t(), x_m, |_, _| {});
    }
    if db.is_needed() {
        let sums = column_sums(dz, o);
        db.store(|j| sums[j]);
    }
}
