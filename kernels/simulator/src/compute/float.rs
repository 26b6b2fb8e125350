//! Floating-point numbers: what arithmetic has to know of their formats.

use half::{bf16, f16};

use super::exact::{Exact, Format, Rounding};
use super::lowering::zip3;
use super::narrow::{bf16_bits, f16_bits, f16_value, narrow, odd_sum, to_odd};
use crate::vm::registers::{LANES, Lane};

/// A floating-point number in a register.
pub(super) trait Float: Lane + PartialEq {
    /// Its layout.
    const FORMAT: Format;
    /// What is not a number, as the hardware makes it.
    const NAN: Self;

    /// The same number.
    fn widened(self) -> f64;
    /// The number next to it in the direction of `rounding`.
    fn rounded(value: f64, rounding: Rounding) -> Self;
    /// The sum.
    fn add(self, other: Self, rounding: Rounding) -> Self;
    /// The product.
    fn multiply(self, other: Self, rounding: Rounding) -> Self;
    /// `self · b + c`, rounded once.
    fn multiply_add(self, b: Self, c: Self, rounding: Rounding) -> Self;

    /// `self · b + c` of all lanes, rounded to nearest.
    fn multiply_add_rows(a: [Self; LANES], b: [Self; LANES], c: [Self; LANES]) -> [Self; LANES] {
        zip3(a, b, c, |a, b, c| a.multiply_add(b, c, Rounding::Nearest))
    }

    /// Whether it is the smaller one; false if either is not a number.
    #[inline]
    fn less(self, other: Self) -> bool {
        self.widened() < other.widened()
    }

    /// Whether it is not a number.
    #[inline]
    fn is_nan(self) -> bool {
        self.magnitude() > Self::FORMAT.infinity()
    }

    /// Whether it is a number, and not infinite.
    #[inline]
    fn is_finite(self) -> bool {
        self.magnitude() < Self::FORMAT.infinity()
    }

    /// Whether it is subnormal, and not zero.
    #[inline]
    fn is_subnormal(self) -> bool {
        self.magnitude() != 0 && self.flush().magnitude() == 0
    }

    /// Whatever is not a number as the hardware makes it.
    #[inline]
    fn canonical(self) -> Self {
        if self.is_nan() { Self::NAN } else { self }
    }

    /// The bits but for the sign.
    #[inline]
    fn magnitude(self) -> u64 {
        self.bits() & !Self::FORMAT.sign()
    }

    /// Its sign, as a bit in its place.
    #[inline]
    fn sign(self) -> u64 {
        self.bits() & Self::FORMAT.sign()
    }

    /// Its opposite.
    #[inline]
    fn negate(self) -> Self {
        Self::from_bits(self.bits() ^ Self::FORMAT.sign())
    }

    /// Subnormal numbers become zero and keep their sign.
    #[inline]
    fn flush(self) -> Self {
        let tiny = self.magnitude() < 1 << (Self::FORMAT.precision - 1);
        if tiny { Self::from_bits(self.sign()) } else { self }
    }

    /// Clamped to [0, 1]; what is not a number becomes 0.
    #[inline]
    fn saturate(self) -> Self {
        let one = Self::FORMAT.one();
        match self.sign() == 0 && !self.is_nan() {
            true => Self::from_bits(self.magnitude().min(one)),
            false => Self::from_bits(0),
        }
    }

    /// Negative numbers become 0.
    #[inline]
    fn relu(self) -> Self {
        if self.sign() != 0 && !self.is_nan() { Self::from_bits(0) } else { self }
    }
}

impl Float for f32 {
    const FORMAT: Format = Format::F32;
    const NAN: Self = f32::from_bits(0x7fff_ffff);

    #[inline]
    fn widened(self) -> f64 {
        self.into()
    }

    #[inline]
    fn rounded(value: f64, rounding: Rounding) -> Self {
        narrow(value, rounding)
    }

    #[inline]
    fn add(self, other: Self, rounding: Rounding) -> Self {
        match rounding {
            Rounding::Nearest => self + other,
            _ => narrow(odd_sum(self.into(), other.into(), rounding), rounding),
        }
    }

    #[inline]
    fn multiply(self, other: Self, rounding: Rounding) -> Self {
        match rounding {
            Rounding::Nearest => self * other,
            _ => narrow(f64::from(self) * f64::from(other), rounding),
        }
    }

    #[inline]
    fn multiply_add(self, b: Self, c: Self, rounding: Rounding) -> Self {
        match rounding {
            Rounding::Nearest => self.mul_add(b, c),
            _ => narrow(odd_sum(f64::from(self) * f64::from(b), c.into(), rounding), rounding),
        }
    }

    fn multiply_add_rows(a: [Self; LANES], b: [Self; LANES], c: [Self; LANES]) -> [Self; LANES] {
        fused::f32(&a, &b, &c)
    }

    #[inline]
    fn less(self, other: Self) -> bool {
        self < other
    }

    #[inline]
    fn is_nan(self) -> bool {
        f32::is_nan(self)
    }
}

/// `near`, or if `rounding` is another, what `exact` gives for finite operands.
#[inline]
pub(super) fn directed(near: f64, rounding: Rounding, operands: &[f64], exact: impl FnOnce() -> Exact) -> f64 {
    if rounding == Rounding::Nearest || !operands.iter().all(|operand| operand.is_finite()) {
        return near;
    }
    f64::from_bits(exact().round(Format::F64, rounding))
}

impl Float for f64 {
    const FORMAT: Format = Format::F64;
    const NAN: Self = f64::NAN;

    #[inline]
    fn widened(self) -> f64 {
        self
    }

    #[inline]
    fn rounded(value: f64, _: Rounding) -> Self {
        value
    }

    #[inline]
    fn add(self, other: Self, rounding: Rounding) -> Self {
        directed(self + other, rounding, &[self, other], || Exact::from(self).add(other.into(), rounding))
    }

    #[inline]
    fn multiply(self, other: Self, rounding: Rounding) -> Self {
        directed(self * other, rounding, &[self, other], || Exact::from(self).multiply(other.into()))
    }

    #[inline]
    fn multiply_add(self, b: Self, c: Self, rounding: Rounding) -> Self {
        let exact = || Exact::from(self).multiply(b.into()).add(c.into(), rounding);
        directed(self.mul_add(b, c), rounding, &[self, b, c], exact)
    }

    fn multiply_add_rows(a: [Self; LANES], b: [Self; LANES], c: [Self; LANES]) -> [Self; LANES] {
        fused::f64(&a, &b, &c)
    }

    /// Unlike the smaller formats, this one hands the bits of its operands on.
    #[inline]
    fn canonical(self) -> Self {
        self
    }
}

macro_rules! half {
    ($ty:ty, $format:expr, $widen:expr, $narrow:expr) => {
        impl Float for $ty {
            const FORMAT: Format = $format;
            const NAN: Self = <$ty>::from_bits(0x7fff);

            #[inline]
            fn widened(self) -> f64 {
                f64::from(($widen)(self.to_bits()))
            }

            #[inline]
            fn rounded(value: f64, rounding: Rounding) -> Self {
                if rounding != Rounding::Nearest && value.is_finite() {
                    return Self::from_bits(Exact::from(value).round($format, rounding) as u16);
                }
                Self::from_bits(($narrow)(to_odd(value)))
            }

            // f32 has more than twice the bits of these formats: a sum or a product that is rounded to it first is
            // still rounded right.

            #[inline]
            fn add(self, other: Self, _: Rounding) -> Self {
                Self::from_bits(($narrow)(($widen)(self.to_bits()) + ($widen)(other.to_bits())))
            }

            #[inline]
            fn multiply(self, other: Self, _: Rounding) -> Self {
                Self::from_bits(($narrow)(($widen)(self.to_bits()) * ($widen)(other.to_bits())))
            }

            #[inline]
            fn multiply_add(self, b: Self, c: Self, rounding: Rounding) -> Self {
                let sum = odd_sum(self.widened() * b.widened(), c.widened(), rounding);
                Self::from_bits(($narrow)(to_odd(sum)))
            }

            #[inline]
            fn less(self, other: Self) -> bool {
                ($widen)(self.to_bits()) < ($widen)(other.to_bits())
            }
        }
    };
}

half!(f16, Format::F16, f16_value, f16_bits);
half!(bf16, Format::BF16, |bits| f32::from_bits(u32::from(bits) << 16), bf16_bits);

/// Fused rows: with the processor's instruction where it has one, for the C library's function is slow.
mod fused {
    use crate::vm::registers::LANES;

    macro_rules! rows {
        ($ty:ident) => {
            pub fn $ty(a: &[$ty; LANES], b: &[$ty; LANES], c: &[$ty; LANES]) -> [$ty; LANES] {
                #[inline(always)]
                fn rows(a: &[$ty; LANES], b: &[$ty; LANES], c: &[$ty; LANES]) -> [$ty; LANES] {
                    let mut d = [0.0; LANES];
                    for lane in 0..LANES {
                        d[lane] = a[lane].mul_add(b[lane], c[lane]);
                    }
                    d
                }

                #[cfg(target_arch = "x86_64")]
                {
                    #[target_feature(enable = "avx,fma")]
                    fn native(a: &[$ty; LANES], b: &[$ty; LANES], c: &[$ty; LANES]) -> [$ty; LANES] {
                        rows(a, b, c)
                    }
                    if is_x86_feature_detected!("avx") && is_x86_feature_detected!("fma") {
                        // SAFETY: the processor has the instructions, as just asked.
                        return unsafe { native(a, b, c) };
                    }
                }
                rows(a, b, c)
            }
        };
    }

    rows!(f32);
    rows!(f64);
}
