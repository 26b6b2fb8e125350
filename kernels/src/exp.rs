//! Exponentials of f32 that vectorize, and what is made of them: the C library's cost a call an element.

use pulp::{Simd, WithSimd};

use crate::Real;
use crate::simd::dispatch;

/// e^x for x <= 88, within 2 units in the last place and without a branch; 0 below -87, near the smallest normal number.
///
/// x = n ln 2 + r with |r| <= ln 2 / 2; e^r by its Taylor polynomial, 2^n by the exponent bits.
#[inline(always)]
pub fn exp(x: f32) -> f32 {
    // Adding 1.5 * 2^23 rounds to an integer and leaves it in the low bits of the mantissa.
    const ROUND: f32 = 12_582_912.0;
    const LN_2_HIGH: f32 = 0.693_359_4; // few bits, so that n * LN_2_HIGH is exact
    const LN_2_LOW: f32 = -2.121_944_4e-4;
    let bounded = if x > 88.0 { 88.0 } else { x };
    let shifted = bounded * std::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = (bounded - n * LN_2_HIGH) - n * LN_2_LOW;
    // Pairs of terms, since vectors would wait for one chain of products and sums.
    let (square, fourth) = (r * r, (r * r) * (r * r));
    let [p2, p4, p6] = [0.5 + r * (1.0 / 6.0), 1.0 / 24.0 + r * (1.0 / 120.0), 1.0 / 720.0 + r * (1.0 / 5040.0)];
    let p = 1.0 + (r + square * ((p2 + square * p4) + fourth * p6));
    let power = f32::from_bits((shifted.to_bits() << 23).wrapping_add(127 << 23));
    if x < -87.0 { 0.0 } else { p * power }
}

/// The distribution function of the standard normal distribution, within 5e-7 (1 + x^2 / 8 below 0) relative: the smaller
/// tail is e^(-x^2 / 2) times a function that varies slowly, whose rational approximation (5e-9, fitted for this
/// program) has positive coefficients only, so that nothing cancels.
#[inline(always)]
pub fn normal_cdf(x: f32) -> f32 {
    const P: [f32; 5] = [4.037_003e-3, 4.009_815_3e-2, 0.181_646_2, 0.436_146_9, 0.5];
    const Q: [f32; 6] = [1.011_912_8e-2, 0.100_518_37, 0.465_276_16, 1.195_897_9, 1.670_178_7, 1.0];
    let t = x.abs().min(14.0);
    let (mut p, mut q) = (0.0, 0.0);
    P.iter().for_each(|c| p = p * t + c);
    Q.iter().for_each(|c| q = q * t + c);
    let tail = exp(-0.5 * (x * x)) * (p / q);
    if x < 0.0 { tail } else { 1.0 - tail }
}

/// tanh x, within 5e-7 relative: Lambert's continued fraction near zero, 1 - 2 / (e^2x + 1) elsewhere.
#[inline(always)]
pub fn tanh(x: f32) -> f32 {
    let square = (x * x).min(1.0);
    let near = x * ((square + 105.0) * square + 945.0) / ((15.0 * square + 420.0) * square + 945.0);
    let far = (1.0 - 2.0 / (exp(2.0 * x.abs()) + 1.0)).copysign(x);
    if square < 0.36 { near } else { far }
}

/// log of the sum of e^x over a row; -infinity for an empty one.
pub fn logsumexp<T: Real>(row: &[T]) -> T {
    dispatch(LogSumExp(row))
}

/// out += scale e^(x - shift).
pub fn add_exp<T: Real>(out: &mut [T], scale: T, x: &[T], shift: T) {
    dispatch(AddExp { out, scale, x, shift });
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
    fn normal_cdf_agrees_with_the_library() {
        for i in -1_300_000..=1_300_000 {
            let x = i as f32 * 1e-5;
            let want = crate::Real::normal_cdf(f64::from(x));
            let error = (f64::from(normal_cdf(x)) - want).abs() / want;
            let allowed = 5e-7 * (1.0 + f64::from(x.min(0.0)).powi(2) / 8.0);
            assert!(error < allowed, "normal_cdf({x}) is off by {error:e} relative");
        }
        assert_eq!((normal_cdf(0.0), normal_cdf(50.0), normal_cdf(-50.0)), (0.5, 1.0, 0.0));
        assert!(normal_cdf(f32::NAN).is_nan());
    }

    #[test]
    fn tanh_agrees_with_the_library() {
        for i in -1_000_000..=1_000_000 {
            let x = i as f32 * 2e-5;
            let want = f64::from(x).tanh();
            assert!((f64::from(tanh(x)) - want).abs() <= 5e-7 * want.abs(), "tanh({x}) is {}", tanh(x));
        }
        assert_eq!((tanh(0.0), tanh(1e-30), tanh(100.0), tanh(-100.0)), (0.0, 1e-30, 1.0, -1.0));
        assert!(tanh(f32::NAN).is_nan());
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
