//! The fast version: products with the smaller factor in panels. Many rows of x meet panels of w; of few rows panels are
//! made, and w is read as it lies, since packing it would cost more than the product.

use std::sync::Arc;

use crate::activation::Activation;
use crate::gemm::transpose;
use crate::gemm_packed::{Start, matrix_times_factor, padded_bias};
use crate::op::{Cx, GradSlot};
use crate::outer_products::transposed_times_panels;
use crate::panels::{self, Factor};
use crate::reduce::column_sums;
use crate::simd::LANES;
use crate::{DType, Device, Tensor};

/// w over its outputs, kept with it.
struct Kept(Factor);

/// Rows of x that are few where w would be packed for them alone.
const FEW: usize = 128;
/// Rows of x that are few where w is packed already.
const FEW_FOR_KEPT: usize = 48;

/// y (..., O) = act(x w^T + b) from x (..., I); z, of y's shape, gets the activation's argument.
pub fn forward(
    cx: &Cx,
    y: &mut [f32],
    z: Option<&mut [f32]>,
    x: &[f32],
    w: &Tensor,
    b: &[f32],
    activation: Activation,
) {
    match z {
        Some(z) => {
            affine(cx, z, x, w, b, |_| {});
            activation.map(y, z);
        }
        None => affine(cx, y, x, w, b, |rows| activation.apply(rows)),
    }
}

/// out = x w^T + b; `then` gets rows of it while they are in cache.
fn affine(cx: &Cx, out: &mut [f32], x: &[f32], w: &Tensor, b: &[f32], then: impl Fn(&mut [f32]) + Sync) {
    let (o, inner) = (w.shape()[0], w.shape()[1]);
    if out.is_empty() {
        return;
    }
    let rows = out.len() / o;
    if rows <= (if cx.saving { FEW } else { FEW_FOR_KEPT }) {
        let width = rows.next_multiple_of(LANES); // whole vectors
        let mut transposed = Tensor::empty(&[o, width], DType::F32, Device::Cpu);
        let x = Factor::passing(panels::from_rows(x, rows, inner, |_| 1.0));
        matrix_times_factor(transposed.as_mut_slice(), width, w.as_slice(), &x, Start::Zero, |_| {});
        return transpose(out, transposed.as_slice(), width, |out| {
            for row in out.chunks_mut(o) {
                row.iter_mut().zip(b).for_each(|(v, b)| *v += b);
            }
            then(out);
        });
    }
    let panels = || panels::from_rows(w.as_slice(), o, inner, |_| 1.0);
    // Kept with w where nobody trains it.
    let w = match cx.saving {
        true => Arc::new(Kept(Factor::passing(panels()))),
        false => w.derived(|_| true, || Kept(Factor::lasting(panels(), o))),
    };
    matrix_times_factor(out, o, x, &w.0, Start::Bias(&padded_bias(b)), then);
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
    if let Some((dx, accumulate)) = dx.target() {
        data_gradient(dx, accumulate, dz, w, inner);
    }
    if let Some((dw, accumulate)) = dw.target() {
        let x = panels::from_columns(inner, rows, |row| (&x[row * inner..][..inner], 1.0));
        transposed_times_panels(dw, inner, accumulate, dz, &x);
    }
    if db.is_needed() {
        let sums = column_sums(dz, o);
        db.store(|j| sums[j]);
    }
}

/// dx = dz w.
fn data_gradient(dx: &mut [f32], accumulate: bool, dz: &[f32], w: &[f32], inner: usize) {
    let (o, rows) = (w.len() / inner, dx.len() / inner);
    if rows > FEW || rows == 0 {
        let w = Factor::passing(panels::from_columns(inner, o, |row| (&w[row * inner..][..inner], 1.0)));
        let start = if accumulate { Start::Accumulate } else { Start::Zero };
        return matrix_times_factor(dx, inner, dz, &w, start, |_| {});
    }
    let panels = panels::from_rows(dz, rows, o, |_| 1.0);
    let width = rows.next_multiple_of(LANES);
    let mut transposed = Tensor::empty(&[inner, width], DType::F32, Device::Cpu);
    transposed_times_panels(transposed.as_mut_slice(), width, false, w, &panels);
    if !accumulate {
        return transpose(dx, transposed.as_slice(), width, |_| {});
    }
    let mut own = vec![0.0; dx.len()];
    transpose(&mut own, transposed.as_slice(), width, |_| {});
    dx.iter_mut().zip(own).for_each(|(dx, own)| *dx += own);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::case::{Input, Values};
    use crate::linear::Linear;
    use crate::op::Op;

    #[test]
    fn kept_panels_are_those_of_the_weight_at_hand() {
        let op = Linear { activation: Activation::None };
        let normal =
            |stream: u64, shape: &[usize]| Input::new("", shape, Values::Normal(1.0)).tensor(DType::F32, stream);
        // The latter's products go by halves.
        for (i, o) in [(20, 70), (256, 256)] {
            let (x, b, packed) = (normal(1, &[FEW + 1, i]), normal(2, &[o]), normal(3, &[2 * o, i]));
            let y = |w: &Tensor| {
                let cx = &mut Cx::new(Device::Cpu, false, false, 0, 0);
                op.forward(cx, &[&x, w, &b]).tensors[0].to_f64_vec()
            };
            for _ in 0..2 {
                for rows in [0..o, o..2 * o] {
                    let w = packed.slice(rows);
                    assert_eq!(y(&w), y(&w.copy()));
                }
            }
            let mut w = packed.slice(0..o).copy();
            let before = y(&w);
            w.as_mut_slice::<f32>()[0] += 1.0;
            assert_ne!(y(&w), before);
            assert_eq!(y(&w), y(&w.copy()));
        }
    }
}
