//! Exponentials of f32 that vectorize: the C library's cost a call an element.

use pulp::{Arch, Simd, WithSimd};

use crate::Real;

/// e^x for x <= 88, within 2 units in the last place and without a branch; 0 below -87, near the smallest normal number.
///
/// x = n ln 2 + r with |r| <= ln 2 / 2; e^r by its Taylor polynomial, 2^n by the exponent bits.
#[inline(always)]
pub fn exp(x: f32) -> f32 {
    // Adding 1.5 * 2^23 rounds to an integer and leaves it in the low bits of the mantissa.
    const ROUND: f32 = 12_582_912.0;
    const LN_2_HIGH: f32 = 0.693_359_4; // few bits, so that n * LN_2_HIGH is exact
    const LN_2_LOW: f32 = -2.121_944_4e-4;
    let bounded = x.clamp(-87.0, 88.0);
    let shifted = bounded * std::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = (bounded - n * LN_2_HIGH) - n * LN_2_LOW;
    let p = 1.0 / 720.0 + r * (1.0 / 5040.0);
    let p = 1.0 + r * (1.0 + r * (0.5 + r * (1.0 / 6.0 + r * (1.0 / 24.0 + r * (1.0 / 120.0 + r * p)))));
    let power = f32::from_bits((shifted.to_bits() << 23).wrapping_add(127 << 23));
    if x < -87.0 { 0.0 } else { p * power }
}

/// log of the sum of e^x over a row; -infinity for an empty one.
pub fn logsumexp<T: Real>(row: &[T]) -> T {
    Arch::new().dispatch(LogSumExp(row))
}

/// out += scale e^(x - shift).
pub fn add_exp<T: Real>(out: &mut [T], scale: T, x: &[T], shift: T) {
    Arch::new().dispatch(AddExp { out, scale, x, shift });
}

// Structs rather than closures: only a method can be told to be inlined into the code of every vector width.
struct LogSumExp<'a, T>(&'a [T]);

struct AddExp<'a, T> {
    out: &'a mut [T],
    scale: T,
    x: &'a [T],
    shift: T,
}

impl<T: Real> WithSimd for LogSumExp<'_, T> {
    type Output = T;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> T {
        const LANES: usize = 16;
        let (chunks, rest) = self.0.as_chunks::<LANES>();
        let mut max = [T::neg_infinity(); LANES];
        for chunk in chunks {
            for (m, &x) in max.iter_mut().zip(chunk) {
                *m = if x > *m { x } else { *m };
            }
        }
        let max = max.iter().chain(rest).fold(T::neg_infinity(), |m, &x| m.max(x));
        if max.is_infinite() {
            return max;
        }
        let mut sums = [T::zero(); LANES];
        for chunk in chunks {
            for (s, &x) in sums.iter_mut().zip(chunk) {
                *s += (x - max).vector_exp();
            }
        }
        let sum = sums.iter().copied().chain(rest.iter().map(|&x| (x - max).vector_exp())).sum::<T>();
        max + sum.ln()
    }
}

impl<T: Real> WithSimd for AddExp<'_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let AddExp { out, scale, x, shift } = self;
        for (out, &x) in out.iter_mut().zip(x) {
            *out += scale * (x - shift).vector_exp();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_agrees_with_the_library() {
        for i in -870_000..=880_000 {
            let x = i as f32 * 1e-4;
            let want = f64::from(x).exp();
            let error = (f64::from(exp(x)) - want).abs() / want;
            assert!(error < 2.4e-7, "exp({x}) is off by {error:e} relative");
        }
        assert_eq!((exp(0.0), exp(-100.0), exp(f32::NEG_INFINITY)), (1.0, 0.0, 0.0));
        assert!(exp(f32::NAN).is_nan());
    }

    #[test]
    fn logsumexp_of_rows_of_every_kind() {
        for n in [1, 2, 15, 16, 17, 256] {
            let row: Vec<f32> = (0..n).map(|i| 30.0 * (i as f32).sin() - 200.0).collect();
            let want = row.iter().map(|&x| (f64::from(x) + 200.0).exp()).sum::<f64>().ln() - 200.0;
            assert!((f64::from(logsumexp(&row)) - want).abs() < 3e-5, "{n} elements");
        }
        assert_eq!(logsumexp::<f32>(&[]), f32::NEG_INFINITY);
        assert_eq!(logsumexp(&[f32::NEG_INFINITY; 3]), f32::NEG_INFINITY);
    }
}
