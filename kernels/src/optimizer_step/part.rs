//! Parts of gradients and compute copies, which may be of a half type.

use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};

use crate::{DType, Tensor};

/// Part of a gradient.
pub enum GradPart<'a> {
    F32(&'a [f32]),
    F16(&'a [f16]),
    BF16(&'a [bf16]),
}

impl<'a> GradPart<'a> {
    pub fn parts(grad: &'a Tensor, size: usize) -> Box<dyn Iterator<Item = Self> + 'a> {
        match grad.dtype() {
            DType::F16 => Box::new(grad.as_slice().chunks(size).map(GradPart::F16)),
            DType::BF16 => Box::new(grad.as_slice().chunks(size).map(GradPart::BF16)),
            _ => Box::new(grad.as_slice().chunks(size).map(GradPart::F32)),
        }
    }

    /// As f32; `buffer` is room for it.
    pub fn widened(self, buffer: &'a mut Vec<f32>) -> &'a [f32] {
        match self {
            GradPart::F32(grad) => return grad,
            GradPart::F16(grad) => {
                buffer.resize(grad.len(), 0.0);
                grad.convert_to_f32_slice(buffer);
            }
            GradPart::BF16(grad) => {
                buffer.resize(grad.len(), 0.0);
                grad.convert_to_f32_slice(buffer);
            }
        }
        buffer
    }
}

/// Part of a compute copy.
pub enum CopyPart<'a> {
    F16(&'a mut [f16]),
    BF16(&'a mut [bf16]),
}

impl<'a> CopyPart<'a> {
    pub fn parts(copy: &'a mut Tensor, size: usize) -> Box<dyn Iterator<Item = Self> + 'a> {
        match copy.dtype() {
            DType::F16 => Box::new(copy.as_mut_slice().chunks_mut(size).map(CopyPart::F16)),
            _ => Box::new(copy.as_mut_slice().chunks_mut(size).map(CopyPart::BF16)),
        }
    }

    /// Rounds the master's part.
    pub fn write(self, value: &[f32]) {
        match self {
            CopyPart::F16(copy) => copy.convert_from_f32_slice(value),
            CopyPart::BF16(copy) => copy.convert_from_f32_slice(value),
        }
    }
}
