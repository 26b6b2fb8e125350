//! f16 and bf16 on the CPU: as on a GPU, the scale is folded into the f32 weight, and the product is rounded once to the
//! type of x. The rest is the f32 convolution without a scale, between roundings; for bf16, where the CPU has products of
//! it, forward is not.

use super::sizes::Sizes;
use super::{Conv2d, Inputs, bf16};
use crate::activation::Activation;
use crate::op::{Cx, GradSlot, Outputs, Saved};
use crate::{DType, Tensor, gemm_bf16, rounding};

/// x and residual of a half type, the others f32.
pub fn forward(op: &Conv2d, cx: &mut Cx, inputs: &Inputs, sizes: &Sizes) -> Outputs {
    let &Inputs { x, w, scale, bias, residual } = inputs;
    let folded = || scale.map_or_else(|| w.clone(), |scale| scaled(w, scale)).to_dtype(x.dtype());
    let is_empty = sizes.output_pixels() * sizes.o * sizes.i == 0;
    if x.dtype() == DType::BF16 && gemm_bf16::is_available() && !is_empty {
        let y = bf16::forward(cx, inputs, op.activation, sizes);
        let mut saved = Saved::default();
        if cx.saving {
            saved.tensors.extend([x, &folded()].map(rounding::widened));
            saved.tensors.extend((op.activation == Activation::Relu).then(|| rounding::widened(&y)));
            saved.tensors.extend(scale.cloned());
        }
        return Outputs::one(y, saved);
    }
    let folded = folded();
    let inputs: Vec<&Tensor> = [Some(x), Some(&folded), bias, residual].into_iter().flatten().collect();
    let mut outputs = rounding::forward_in_f32(&without_scale(op), cx, &inputs);
    outputs.saved.tensors.extend(scale.cloned());
    outputs
}

pub fn backward(op: &Conv2d, cx: &mut Cx, mut saved: Saved, dy: &Tensor, grads: &mut [GradSlot]) {
    if !op.scale {
        return rounding::backward_in_f32(op, cx, saved, &[Some(dy)], grads);
    }
    let scale = saved.tensors.pop().expect("the scale is saved");
    let [dx, dw, _, rest @ ..] = grads else { panic!("conv2d: a gradient slot an input") };
    let mut dw_folded = dw.is_needed().then(|| Tensor::empty(saved.tensors[1].shape(), DType::F32, cx.device));
    let folded_slot = dw_folded.as_mut().map_or(GradSlot::Skip, |grad| GradSlot::Write(grad.view_mut()));
    let mut slots = vec![std::mem::replace(dx, GradSlot::Skip), folded_slot];
    slots.extend(rest.iter_mut().map(|slot| std::mem::replace(slot, GradSlot::Skip)));
    rounding::backward_in_f32(&without_scale(op), cx, saved, &[Some(dy)], &mut slots);
    drop(slots);
    dw_folded.iter().for_each(|grad| rounding::store(dw, &scaled(grad, &scale)));
}

fn without_scale(op: &Conv2d) -> Conv2d {
    Conv2d { scale: false, ..*op }
}

/// w (O, KH, KW, I) scale (O)
fn scaled(w: &Tensor, scale: &Tensor) -> Tensor {
    let mut product = Tensor::empty(w.shape(), DType::F32, w.device());
    let filter = (w.len() / scale.len().max(1)).max(1);
    let filters = product.as_mut_slice::<f32>().chunks_mut(filter).zip(w.as_slice::<f32>().chunks(filter));
    for ((product, w), scale) in filters.zip(scale.as_slice::<f32>()) {
        product.iter_mut().zip(w).for_each(|(product, w)| *product = w * scale);
    }
    product
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::activation::Activation;
    use crate::conv2d::ConvGeometry;
    use crate::{Device, Op};

    #[test]
    fn the_product_of_weight_and_scale_is_rounded_once() {
        let geometry = ConvGeometry::default();
        let op = Conv2d { geometry, scale: true, bias: false, residual: false, activation: Activation::None };
        let tensor = |v: f32, shape: &[usize]| Tensor::from_slice(&[v], shape, Device::Cpu);
        let x = tensor(1.0, &[1, 1, 1, 1]).to_dtype(DType::BF16);
        // Alone the weight lies halfway and is rounded down to 1; the product is 1.50586 and is rounded up.
        let (w, scale) = (tensor(257.0 / 256.0, &[1, 1, 1, 1]), tensor(1.5, &[1]));
        let y = op.forward(&mut Cx::new(Device::Cpu, false, false, 0, 0), &[&x, &w, &scale]).tensors.remove(0);
        assert_eq!((y.dtype(), y.item()), (DType::BF16, 1.5078125));
    }
}
