//! Between floating-point formats, without branches: whole rows go through here.
//!
//! A number that is rounded twice may come out wrong, unless the first time it was rounded *to odd*: cut off, with the
//! last bit set if anything was lost. Then the second rounding sees on which side of every boundary the number was.

use super::exact::Rounding;

/// `a + b`, rounded to odd. Exact zeros get their sign from `rounding`.
#[inline]
pub(super) fn odd_sum(a: f64, b: f64, rounding: Rounding) -> f64 {
    let sum = a + b;
    // what the sum lost, exactly (Knuth)
    let b_part = sum - a;
    let error = (a - (sum - b_part)) + (b - b_part);
    let away = (error < 0.0) == (sum > 0.0);
    let odd = f64::from_bits((sum.to_bits() - u64::from(away && error != 0.0)) | 1);
    let exact = if rounding == Rounding::Down && sum == 0.0 && (a.is_sign_negative() || b.is_sign_negative()) {
        -0.0
    } else {
        sum
    };
    // what is infinite has no number for an error
    if error != 0.0 && !error.is_nan() { odd } else { exact }
}

/// The nearest f32 in the direction of `rounding`.
#[inline]
pub(super) fn narrow(value: f64, rounding: Rounding) -> f32 {
    let near = value as f32;
    let (down, up) = match rounding {
        Rounding::Nearest => (false, false),
        Rounding::Zero => (value > 0.0, value <= 0.0),
        Rounding::Down => (true, false),
        Rounding::Up => (false, true),
    };
    if down && f64::from(near) > value {
        near.next_down()
    } else if up && f64::from(near) < value {
        near.next_up()
    } else {
        near
    }
}

/// An f32, rounded to odd.
#[inline]
pub(super) fn to_odd(value: f64) -> f32 {
    let near = value as f32;
    let back = f64::from(near);
    let odd = f32::from_bits((near.to_bits() - u32::from(back.abs() > value.abs())) | 1);
    if back != value { odd } else { near }
}

/// The nearest f16.
#[inline]
pub(super) fn f16_bits(value: f32) -> u16 {
    let bits = value.to_bits();
    let magnitude = bits & 0x7fff_ffff;
    // the exponent's bias is less by 112; half an ulp is added, or a bit less if the number is even
    let normal = magnitude.wrapping_sub(112 << 23).wrapping_add(0xfff + (magnitude >> 13 & 1)) >> 13;
    // beside 0.5, the last bit of an f32 weighs as much as that of a subnormal f16
    let subnormal = (f32::from_bits(magnitude) + 0.5).to_bits().wrapping_sub(0.5f32.to_bits());
    let finite = if magnitude < 113 << 23 { subnormal } else { normal };
    let large = if magnitude > 0x7f80_0000 { 0x7fff } else { 0x7c00 };
    // 65520 is halfway between the largest number and what would be the next
    let half = if magnitude < 65520f32.to_bits() { finite } else { large };
    let sign = if magnitude > 0x7f80_0000 { 0 } else { bits >> 16 & 0x8000 };
    (half | sign) as u16
}

/// An f16 as f32.
#[inline]
pub(super) fn f16_value(bits: u16) -> f32 {
    let magnitude = u32::from(bits & 0x7fff);
    // 2^112: the biases differ by that
    let finite = (f32::from_bits(magnitude << 13) * f32::from_bits((112 + 127) << 23)).to_bits();
    let special = magnitude << 13 | 0x7f80_0000;
    f32::from_bits(if magnitude < 0x7c00 { finite } else { special } | u32::from(bits & 0x8000) << 16)
}

/// The nearest bf16.
#[inline]
pub(super) fn bf16_bits(value: f32) -> u16 {
    let bits = value.to_bits();
    let nearest = bits.wrapping_add(0x7fff + (bits >> 16 & 1)) >> 16;
    (if value.is_nan() { 0x7fff } else { nearest }) as u16
}
