//! Element types.

use bytemuck::Pod;
use half::{bf16, f16};

/// The type of a tensor's elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DType {
    /// IEEE single precision: masters, statistics, and everything from logits and boxes on.
    F32,
    /// IEEE double precision: the reference path and gradient checks.
    F64,
    /// IEEE half precision (storage).
    F16,
    /// bfloat16 (storage).
    BF16,
    /// Indices, token ids, matches.
    I32,
}

impl DType {
    /// Bytes per element.
    pub fn size(self) -> usize {
        match self {
            DType::F16 | DType::BF16 => 2,
            DType::F32 | DType::I32 => 4,
            DType::F64 => 8,
        }
    }

    /// The type of sums and statistics over elements of this type.
    pub fn statistics(self) -> DType {
        if self == DType::F64 { DType::F64 } else { DType::F32 }
    }

    /// True for the types that carry gradients.
    pub fn is_float(self) -> bool {
        self != DType::I32
    }
}

/// A Rust type that can be a tensor's element.
pub trait Element: Pod + Send + Sync + PartialEq + std::fmt::Debug + 'static {
    /// The tag of this type.
    const DTYPE: DType;
    /// The value as f64 (exact for every element type).
    fn to_f64(self) -> f64;
    /// The nearest value of this type.
    fn from_f64(v: f64) -> Self;
}

macro_rules! element {
    ($t:ty, $tag:ident, $to:expr, $from:expr) => {
        impl Element for $t {
            const DTYPE: DType = DType::$tag;
            fn to_f64(self) -> f64 {
                $to(self)
            }
            fn from_f64(v: f64) -> Self {
                $from(v)
            }
        }
    };
}

element!(f32, F32, |v: f32| v as f64, |v: f64| v as f32);
element!(f64, F64, |v: f64| v, |v: f64| v);
element!(f16, F16, |v: f16| v.to_f64(), f16::from_f64);
element!(bf16, BF16, |v: bf16| v.to_f64(), bf16::from_f64);
element!(i32, I32, |v: i32| v as f64, |v: f64| v as i32);

/// What versions that compute in vectors of f32 read and write. Both conversions vectorize.
pub trait Storage: Element {
    /// The value, exactly.
    fn widen(self) -> f32;
    /// The nearest value; of two, the even one.
    fn narrow(x: f32) -> Self;
}

impl Storage for f32 {
    #[inline(always)]
    fn widen(self) -> f32 {
        self
    }
    #[inline(always)]
    fn narrow(x: f32) -> Self {
        x
    }
}

impl Storage for bf16 {
    #[inline(always)]
    fn widen(self) -> f32 {
        f32::from_bits(u32::from(self.to_bits()) << 16)
    }
    #[inline(always)]
    fn narrow(x: f32) -> Self {
        let bits = x.to_bits();
        let rounded = bits.wrapping_add(0x7FFF + (bits >> 16 & 1)) >> 16;
        let quiet = bits >> 16 | 0x40; // a NaN whose mantissa is in the lower half stays one
        bf16::from_bits(if x.is_nan() { quiet } else { rounded } as u16)
    }
}

/// The real types that references are generic over: f32 and f64.
pub trait Real:
    Element + crate::gemm::Product + num_traits::Float + num_traits::NumAssign + std::iter::Sum + Default
{
    /// The distribution function of the standard normal distribution.
    fn normal_cdf(self) -> Self;
    /// tanh x by code that vectorizes where the type has it.
    fn vector_tanh(self) -> Self;
    /// e^x by code that vectorizes where the type has it (f32: for x <= 88, see [`crate::exp::exp`]).
    fn vector_exp(self) -> Self;
}

impl Real for f32 {
    #[inline(always)]
    fn normal_cdf(self) -> Self {
        crate::exp::normal_cdf(self)
    }
    #[inline(always)]
    fn vector_tanh(self) -> Self {
        crate::exp::tanh(self)
    }
    #[inline(always)]
    fn vector_exp(self) -> Self {
        crate::exp::exp(self)
    }
}

impl Real for f64 {
    fn normal_cdf(self) -> Self {
        0.5 * libm::erfc(-self * std::f64::consts::FRAC_1_SQRT_2)
    }
    fn vector_tanh(self) -> Self {
        self.tanh()
    }
    #[inline(always)]
    fn vector_exp(self) -> Self {
        self.exp()
    }
}

/// Runs an expression with `$t` bound to the Rust type of a real dtype; panics for the storage and index types.
#[macro_export]
macro_rules! dispatch_real {
    ($op:expr, $dtype:expr, $t:ident => $body:expr) => {
        match $dtype {
            $crate::DType::F32 => {
                type $t = f32;
                $body
            }
            $crate::DType::F64 => {
                type $t = f64;
                $body
            }
            other => panic!("{}: dtype {:?} has no CPU implementation", $op, other),
        }
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bf16_rounds_to_the_nearest() {
        let around = |x: u32| [x.wrapping_sub(1), x, x.wrapping_add(1)];
        let halves = (0..=u16::MAX).flat_map(|high| [0, 0x8000].map(|low| u32::from(high) << 16 | low));
        for bits in halves.flat_map(around) {
            let x = f32::from_bits(bits);
            let (got, want) = (<bf16 as Storage>::narrow(x), bf16::from_f32(x));
            assert_eq!(got.to_bits(), want.to_bits(), "{x:e}");
            assert_eq!(got.widen().to_bits(), got.to_f32().to_bits(), "{x:e}");
        }
    }
}
