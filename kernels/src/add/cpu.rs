//! The fast version: blocks of elements over threads, in runs that meet b's elements in order.

use rayon::prelude::*;

use crate::op::GradSlot;
use crate::reduce::column_sums;
use crate::simd::BLOCK;

pub fn forward(y: &mut [f32], a: &[f32], b: &[f32]) {
    y.par_chunks_mut(BLOCK).zip(a.par_chunks(BLOCK)).enumerate().for_each(|(task, (mut y, mut a))| {
        let mut first = task * BLOCK % b.len();
        while !y.is_empty() {
            let b = &b[first..];
            let n = b.len().min(y.len());
            for ((y, a), b) in y[..n].iter_mut().zip(a).zip(b) {
                *y = a + b;
            }
            (y, a, first) = (&mut y[n..], &a[n..], 0);
        }
    });
}

pub fn backward(da: &mut GradSlot, db: &mut GradSlot, dy: &[f32]) {
    put(da.target(), dy);
    let db = db.target();
    match db.as_ref().map_or(0, |(db, _)| db.len()) {
        n if n == dy.len() => put(db, dy),
        n => put(db, &column_sums(dy, n)),
    }
}

/// Stores or adds a gradient.
fn put(target: Option<(&mut [f32], bool)>, value: &[f32]) {
    let Some((grad, accumulate)) = target else { return };
    grad.par_chunks_mut(BLOCK).zip(value.par_chunks(BLOCK)).for_each(|(grad, value)| match accumulate {
        true => grad.iter_mut().zip(value).for_each(|(g, v)| *g += v),
        false => grad.copy_from_slice(value),
    });
}
