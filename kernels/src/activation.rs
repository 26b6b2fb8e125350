//! Elementwise activations, as the epilogues of linear maps, convolutions and norms use them.

use rayon::prelude::*;

use crate::op::Cx;
use crate::{DType, Real, Tensor};

/// What an epilogue applies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// The identity.
    None,
    /// max(x, 0).
    Relu,
    /// x Phi(x) with the exact (erf) normal distribution function, as RoBERTa's.
    Gelu,
    /// 1 / (1 + exp(-x)).
    Sigmoid,
    /// tanh x.
    Tanh,
}

/// Elements a task handles.
const BLOCK: usize = 16 * 1024;

impl Activation {
    /// act(x).
    pub fn forward<T: Real>(self, x: T) -> T {
        match self {
            Activation::None => x,
            Activation::Relu => x.max(T::zero()),
            Activation::Gelu => x * normal_cdf(x),
            Activation::Sigmoid => T::one() / (T::one() + (-x).exp()),
            Activation::Tanh => x.tanh(),
        }
    }

    /// act'(x), told from `z`: x itself for GELU, act(x) for all others.
    pub fn derivative<T: Real>(self, z: T) -> T {
        match self {
            Activation::None => T::one(),
            Activation::Relu if z > T::zero() => T::one(),
            Activation::Relu => T::zero(),
            Activation::Gelu => {
                let density = (-z * z * T::from_f64(0.5)).exp() * T::from_f64(0.398_942_280_401_432_7);
                normal_cdf(z) + z * density
            }
            Activation::Sigmoid => z * (T::one() - z),
            Activation::Tanh => T::one() - z * z,
        }
    }

    /// Applies it in place.
    pub fn apply<T: Real>(self, values: &mut [T]) {
        if self != Activation::None {
            values.iter_mut().for_each(|v| *v = self.forward(*v));
        }
    }

    /// y = act(z), over threads.
    pub fn map<T: Real>(self, y: &mut [T], z: &[T]) {
        y.par_chunks_mut(BLOCK).zip(z.par_chunks(BLOCK)).for_each(|(y, z)| {
            y.iter_mut().zip(z).for_each(|(y, &z)| *y = self.forward(z));
        });
    }

    /// dz = dy act'(z), with `z` as in [`Self::derivative`].
    pub fn backward(self, cx: &Cx, dy: &Tensor, z: &Tensor) -> Tensor {
        fn run<T: Real>(activation: Activation, dz: &mut [T], dy: &[T], z: &[T]) {
            dz.par_chunks_mut(BLOCK).zip(dy.par_chunks(BLOCK)).zip(z.par_chunks(BLOCK)).for_each(|((dz, dy), z)| {
                for ((dz, &dy), &z) in dz.iter_mut().zip(dy).zip(z) {
                    *dz = dy * activation.derivative(z);
                }
            });
        }
        let mut dz = Tensor::empty(dy.shape(), dy.dtype(), cx.device);
        match dy.dtype() {
            DType::F32 => run::<f32>(self, dz.as_mut_slice(), dy.as_slice(), z.as_slice()),
            _ => run::<f64>(self, dz.as_mut_slice(), dy.as_slice(), z.as_slice()),
        }
        dz
    }
}

fn normal_cdf<T: Real>(x: T) -> T {
    T::from_f64(0.5) * (T::one() + (x * T::from_f64(std::f64::consts::FRAC_1_SQRT_2)).erf())
}
