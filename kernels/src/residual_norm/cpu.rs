//! The fast version: blocks of elements, then rows, over threads.

use rayon::prelude::*;

use crate::op::GradSlot;
use crate::philox::Philox;
use crate::reduce::column_sums;
use crate::simd::BLOCK;
use crate::{DType, Device, Tensor, masked, row_norm};

#[expect(clippy::too_many_arguments, reason = "outputs, inputs, scalars, sizes, as in every kernel")]
pub fn forward(
    z: &mut [f32],
    (s, statistics): (&mut [f32], &mut [f32]),
    x: &[f32],
    r: &[f32],
    w: &[f32],
    b: &[f32],
    philox: Option<Philox>,
    p: f32,
    eps: f32,
) {
    s.par_chunks_mut(BLOCK).zip(x.par_chunks(BLOCK)).for_each(|(s, x)| s.copy_from_slice(x));
    masked::store(Some((&mut *s, true)), r, philox, p);
    row_norm::forward(z, statistics, s, w, b, eps);
}

pub fn add_positions(z_pos: &mut [f32], z: &[f32], positions: &[f32]) {
    let n = positions.len().max(1);
    z_pos.par_chunks_mut(n).zip(z.par_chunks(n)).with_min_len(BLOCK.div_ceil(n)).for_each(|(z_pos, z)| {
        z_pos.iter_mut().zip(z).zip(positions).for_each(|((z_pos, z), p)| *z_pos = z + p);
    });
}

pub fn backward(
    [dx, dr, dw, db]: [&mut GradSlot; 4],
    dz: &[f32],
    s: &[f32],
    w: &[f32],
    statistics: &[f32],
    philox: Option<Philox>,
    p: f32,
) {
    if !dx.is_needed() && !dr.is_needed() {
        return row_norm::backward(&mut GradSlot::Skip, dw, db, dz, s, w, statistics);
    }
    let mut ds = Tensor::empty(&[s.len()], DType::F32, Device::Cpu);
    row_norm::backward(&mut GradSlot::Write(ds.view_mut()), dw, db, dz, s, w, statistics);
    masked::store(dx.target(), ds.as_slice(), None, 0.0);
    masked::store(dr.target(), ds.as_slice(), philox, p);
}

pub fn backward_positions(dpositions: &mut GradSlot, dz_pos: &[f32]) {
    let n = dpositions.target::<f32>().map_or(0, |(d, _)| d.len());
    let sums = column_sums(dz_pos, n);
    dpositions.store(|j| sums[j]);
}
