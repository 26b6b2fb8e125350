//! Elementwise activations, as the epilogues of linear maps, convolutions and norms use them.

use rayon::prelude::*;

use crate::op::Cx;
use crate::simd::{BLOCK, vectorized};
use crate::{Real, Tensor, dispatch_real};

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

/// Runs a vectorized loop once for each activation, with `$a` known at compile time: a choice an element would not
/// vectorize.
macro_rules! specialized {
    ($activation:expr, $a:ident => $loop:expr) => {
        specialized!($activation, $a => $loop; None Relu Gelu Sigmoid Tanh)
    };
    ($activation:expr, $a:ident => $loop:expr; $($name:ident)*) => {
        match $activation {
            $(Activation::$name => {
                const $a: Activation = Activation::$name;
                vectorized(#[inline(always)] || $loop);
            })*
        }
    };
}

impl Activation {
    /// act(x).
    #[inline(always)]
    pub fn forward<T: Real>(self, x: T) -> T {
        match self {
            Activation::None => x,
            Activation::Relu if x < T::zero() => T::zero(),
            Activation::Relu => x, // NaN too
            Activation::Gelu => x * x.normal_cdf(),
            Activation::Sigmoid => T::one() / (T::one() + (-x).vector_exp()),
            Activation::Tanh => x.vector_tanh(),
        }
    }

    /// act'(x), told from `z`: x itself for GELU, act(x) for all others.
    #[inline(always)]
    pub fn derivative<T: Real>(self, z: T) -> T {
        match self {
            Activation::None => T::one(),
            Activation::Relu if z > T::zero() => T::one(),
            Activation::Relu => T::zero(),
            Activation::Gelu => {
                let density = (T::from_f64(-0.5) * (z * z)).vector_exp() * T::from_f64(0.398_942_280_401_432_7);
                z.normal_cdf() + z * density
            }
            Activation::Sigmoid => z * (T::one() - z),
            Activation::Tanh => T::one() - z * z,
        }
    }

    /// Applies it in place, on the calling thread.
    pub fn apply<T: Real>(self, values: &mut [T]) {
        if self != Activation::None {
            specialized!(self, ACT => values.iter_mut().for_each(|v| *v = ACT.forward(*v)));
        }
    }

    /// y = act(z), over threads.
    pub fn map<T: Real>(self, y: &mut [T], z: &[T]) {
        y.par_chunks_mut(BLOCK).zip(z.par_chunks(BLOCK)).for_each(|(y, z)| {
            specialized!(self, ACT => y.iter_mut().zip(z).for_each(|(y, &z)| *y = ACT.forward(z)));
        });
    }

    /// dz = dy act'(z), with `z` as in [`Self::derivative`].
    pub fn backward(self, cx: &Cx, dy: &Tensor, z: &Tensor) -> Tensor {
        fn run<T: Real>(activation: Activation, dz: &mut [T], dy: &[T], z: &[T]) {
            dz.par_chunks_mut(BLOCK).zip(dy.par_chunks(BLOCK)).zip(z.par_chunks(BLOCK)).for_each(|((dz, dy), z)| {
                let elements = dz.iter_mut().zip(dy).zip(z);
                specialized!(activation, ACT => elements.for_each(|((dz, &dy), &z)| *dz = dy * ACT.derivative(z)));
            });
        }
        let mut dz = Tensor::empty(dy.shape(), dy.dtype(), cx.device);
        dispatch_real!("activation", dy.dtype(), T => {
            run::<T>(self, dz.as_mut_slice(), dy.as_slice(), z.as_slice());
        });
        dz
    }
}
