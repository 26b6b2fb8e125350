//! f16 and bf16 on the CPU: conversions between element types, and ops that read and write half types although they
//! compute in f32, as their CUDA versions do.

use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};
use rayon::prelude::*;

use crate::op::GradSlot;
use crate::simd::BLOCK;
use crate::{DType, Element, Tensor};

/// Binds `$t` to the Rust type of a dtype.
macro_rules! with_element {
    ($dtype:expr, $t:ident => $body:expr) => {
        match $dtype {
            DType::F32 => with_element!(@ f32, $t, $body),
            DType::F64 => with_element!(@ f64, $t, $body),
            DType::F16 => with_element!(@ f16, $t, $body),
            DType::BF16 => with_element!(@ bf16, $t, $body),
            DType::I32 => with_element!(@ i32, $t, $body),
        }
    };
    (@ $type:ty, $t:ident, $body:expr) => {{
        type $t = $type;
        $body
    }};
}

/// Every element of `x` as the nearest one of the type of `out`, which has the same shape.
pub(crate) fn convert(out: &mut Tensor, x: &Tensor) {
    match (x.dtype(), out.dtype()) {
        (DType::F32, DType::F16) => blocks(out.as_mut_slice::<f16>(), x.as_slice(), narrow),
        (DType::F32, DType::BF16) => blocks(out.as_mut_slice::<bf16>(), x.as_slice(), narrow),
        (DType::F16, DType::F32) => blocks(out.as_mut_slice(), x.as_slice::<f16>(), widen),
        (DType::BF16, DType::F32) => blocks(out.as_mut_slice(), x.as_slice::<bf16>(), widen),
        (from, to) => with_element!(from, A => with_element!(to, B => {
            blocks(out.as_mut_slice::<B>(), x.as_slice::<A>(), |out, x| {
                out.iter_mut().zip(x).for_each(|(out, x)| *out = B::from_f64(x.to_f64()));
            })
        })),
    }
}

/// Writes a gradient into a slot of any float type, or adds it: in f32, rounded once.
#[track_caller]
pub(crate) fn store(slot: &mut GradSlot, grad: &Tensor) {
    let (target, accumulate) = match slot {
        GradSlot::Skip => return,
        GradSlot::Write(target) => (target, false),
        GradSlot::Accumulate(target) => (target, true),
    };
    with_element!(target.dtype(), T => with_element!(grad.dtype(), G => {
        blocks(target.as_mut_slice::<T>(), grad.as_slice::<G>(), |out, grad| {
            for (out, grad) in out.iter_mut().zip(grad) {
                let before = if accumulate { out.to_f64() } else { 0.0 };
                *out = T::from_f64(before + grad.to_f64());
            }
        })
    }));
}

fn narrow<T>(out: &mut [T], x: &[f32])
where
    [T]: HalfFloatSliceExt,
{
    out.convert_from_f32_slice(x);
}

fn widen<T>(out: &mut [f32], x: &[T])
where
    [T]: HalfFloatSliceExt,
{
    x.convert_to_f32_slice(out);
}

/// Blocks of both slices over threads.
fn blocks<A: Element, B: Element>(out: &mut [B], x: &[A], each: impl Fn(&mut [B], &[A]) + Sync) {
    out.par_chunks_mut(BLOCK).zip(x.par_chunks(BLOCK)).for_each(|(out, x)| each(out, x));
}
