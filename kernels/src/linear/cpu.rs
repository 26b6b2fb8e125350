//! The fast version: blocked products with bias and activation applied while a task's rows are in cache.

use crate::activation::Activation;
use crate::gemm::{Matrix, gemm_rows};
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
    let (x, w) = (Matrix::new(x, rows, inner, inner), Matrix::new(w, o, inner, inner).t());
    let add_bias = |rows: &mut [f32]| {
        for row in rows.chunks_mut(o) {
            for (v, b) in row.iter_mut().zip(b) {
                *v += b;
            }
        }
    };
    match z {
        Some(z) => {
            gemm_rows(z, false, 1.0, x, w, |_, z| add_bias(z));
            activation.map(y, z);
        }
        None => gemm_rows(y, false, 1.0, x, w, |_, y| {
            add_bias(y);
            activation.apply(y);
        }),
    }
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
