//! f16 and bf16 on the CPU: conversions between element types, and ops that read and write half types although they
//! compute in f32, as their CUDA versions do.

use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};
use rayon::prelude::*;

use crate::dtype::Storage;
use crate::op::{Cx, GradSlot, Op, Outputs, Saved};
use crate::registry::ROUND_THEMSELVES;
use crate::simd::{BLOCK, vectorized};
use crate::{DType, Device, Element, Tensor};

/// An op's forward. On the CPU, where kernels compute in f32, half inputs are widened, and float outputs are rounded to the
/// type of the first float input, which is theirs on a GPU too. What is saved is what the op saves: f32.
#[track_caller]
pub fn forward(op: &dyn Op, cx: &mut Cx, inputs: &[&Tensor]) -> Outputs {
    let rounds = inputs.iter().any(|x| is_half(x.dtype())) && is_emulated(op, cx);
    if rounds { forward_in_f32(op, cx, inputs) } else { op.forward(cx, inputs) }
}

/// An op's backward. On the CPU half gradients are widened, and gradients of half inputs are rounded once, after an addition
/// in f32 to what their slot holds.
pub fn backward(op: &dyn Op, cx: &mut Cx, saved: Saved, grad_outs: &[Option<&Tensor>], grads: &mut [GradSlot]) {
    if any_is_half(grad_outs, grads) && is_emulated(op, cx) {
        backward_in_f32(op, cx, saved, grad_outs, grads);
    } else {
        op.backward(cx, saved, grad_outs, grads);
    }
}

fn is_emulated(op: &dyn Op, cx: &Cx) -> bool {
    matches!(cx.device, Device::Cpu) && !ROUND_THEMSELVES.contains(&op.name())
}

/// Whether a gradient that is given or wanted is of a half type.
pub(crate) fn any_is_half(grad_outs: &[Option<&Tensor>], grads: &[GradSlot]) -> bool {
    let given = grad_outs.iter().flatten().any(|grad| is_half(grad.dtype()));
    given || grads.iter().any(|slot| half_shape(slot).is_some())
}

pub(crate) fn is_half(dtype: DType) -> bool {
    matches!(dtype, DType::F16 | DType::BF16)
}

/// The shape of a gradient that is wanted in a half type.
fn half_shape<'a>(slot: &'a GradSlot) -> Option<&'a [usize]> {
    match slot {
        GradSlot::Write(target) | GradSlot::Accumulate(target) if is_half(target.dtype()) => Some(target.shape()),
        _ => None,
    }
}

/// [`forward`] of an op that has only f32 kernels.
#[track_caller]
pub(crate) fn forward_in_f32(op: &dyn Op, cx: &mut Cx, inputs: &[&Tensor]) -> Outputs {
    let dtype = inputs.iter().map(|x| x.dtype()).find(|dtype| dtype.is_float()).expect("a half input is float");
    let wide: Vec<Tensor> = inputs.iter().map(|x| widened(x)).collect();
    // As if a backward came: what is made of weights to be kept with them would be gone with their wide copies.
    let saving = std::mem::replace(&mut cx.saving, true);
    let mut outputs = op.forward(cx, &wide.iter().collect::<Vec<_>>());
    cx.saving = saving;
    if !saving {
        outputs.saved = Saved::default();
    }
    if is_half(dtype) {
        for y in outputs.tensors.iter_mut().filter(|y| y.dtype() == DType::F32) {
            *y = y.to_dtype(dtype);
        }
    }
    outputs
}

/// [`backward`] of an op that has only f32 kernels.
pub(crate) fn backward_in_f32(
    op: &dyn Op,
    cx: &mut Cx,
    saved: Saved,
    grad_outs: &[Option<&Tensor>],
    grads: &mut [GradSlot],
) {
    let wide: Vec<Option<Tensor>> = grad_outs.iter().map(|grad| grad.map(widened)).collect();
    let own = |slot: &GradSlot| half_shape(slot).map(|shape| Tensor::empty(shape, DType::F32, cx.device));
    let mut own: Vec<Option<Tensor>> = grads.iter().map(own).collect();
    let mut slots: Vec<GradSlot> = Vec::new();
    for (slot, own) in grads.iter_mut().zip(&mut own) {
        slots.push(match own {
            Some(grad) => GradSlot::Write(grad.view_mut()),
            None => std::mem::replace(slot, GradSlot::Skip),
        });
    }
    op.backward(cx, saved, &wide.iter().map(Option::as_ref).collect::<Vec<_>>(), &mut slots);
    drop(slots);
    for (slot, grad) in grads.iter_mut().zip(&own) {
        grad.iter().for_each(|grad| store(slot, grad));
    }
}

/// f32 for half types; everything else as it is.
pub(crate) fn widened(x: &Tensor) -> Tensor {
    if is_half(x.dtype()) { x.to_dtype(DType::F32) } else { x.clone() }
}

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
        (DType::F32, DType::BF16) => blocks(out.as_mut_slice::<bf16>(), x.as_slice(), narrow_bf16),
        (DType::F16, DType::F32) => blocks(out.as_mut_slice(), x.as_slice::<f16>(), widen),
        (DType::BF16, DType::F32) => blocks(out.as_mut_slice(), x.as_slice::<bf16>(), widen_bf16),
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
    let wide = widened(grad);
    match (wide.dtype(), target.dtype()) {
        (DType::F32, DType::F16) => store_half(target.as_mut_slice::<f16>(), wide.as_slice(), accumulate),
        (DType::F32, DType::BF16) => store_half(target.as_mut_slice::<bf16>(), wide.as_slice(), accumulate),
        (from, to) => with_element!(from, G => with_element!(to, T => {
            blocks(target.as_mut_slice::<T>(), wide.as_slice::<G>(), |out, grad| {
                for (out, grad) in out.iter_mut().zip(grad) {
                    let before = if accumulate { out.to_f64() } else { 0.0 };
                    *out = T::from_f64(before + grad.to_f64());
                }
            })
        })),
    }
}

fn store_half<T: Element>(out: &mut [T], grad: &[f32], accumulate: bool)
where
    [T]: HalfFloatSliceExt,
{
    if !accumulate {
        return blocks(out, grad, narrow);
    }
    blocks(out, grad, |out, grad| {
        let mut sum = vec![0.0; out.len()];
        widen(&mut sum, out);
        sum.iter_mut().zip(grad).for_each(|(sum, grad)| *sum += grad);
        narrow(out, &sum);
    });
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

/// bf16 by our own loops: those of `half` are not compiled for vectors.
fn narrow_bf16(out: &mut [bf16], x: &[f32]) {
    vectorized(
        #[inline(always)]
        || out.iter_mut().zip(x).for_each(|(out, x)| *out = Storage::narrow(*x)),
    );
}

fn widen_bf16(out: &mut [f32], x: &[bf16]) {
    vectorized(
        #[inline(always)]
        || out.iter_mut().zip(x).for_each(|(out, x)| *out = x.widen()),
    );
}

/// Blocks of both slices over threads.
fn blocks<A: Element, B: Element>(out: &mut [B], x: &[A], each: impl Fn(&mut [B], &[A]) + Sync) {
    out.par_chunks_mut(BLOCK).zip(x.par_chunks(BLOCK)).for_each(|(out, x)| each(out, x));
}
