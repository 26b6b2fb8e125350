//! Integer arithmetic.

use super::carry;
use super::lowering::{Lowered, Lowering};

/// `$body` with `$T` as the type that a name means, and `$W`, if it is asked for, as the one twice as wide.
macro_rules! integer {
    ($it:ident, $ty:expr, $T:ident $(, $W:ident)? => $body:expr) => {
        match $ty {
            "u16" => integer!(@ $T = u16 $(, $W = u32)? => $body),
            "s16" => integer!(@ $T = i16 $(, $W = i32)? => $body),
            "u32" => integer!(@ $T = u32 $(, $W = u64)? => $body),
            "s32" => integer!(@ $T = i32 $(, $W = i64)? => $body),
            "u64" => integer!(@ $T = u64 $(, $W = u128)? => $body),
            "s64" => integer!(@ $T = i64 $(, $W = i128)? => $body),
            other => $it.unmodelled(other),
        }
    };
    (@ $($name:ident = $ty:ident),+ => $body:expr) => {{
        $(type $name = $ty;)+
        $body
    }};
}

/// The two 16-bit halves of a register, each by `f`.
fn halves(f: impl Fn(u16, u16) -> u16) -> impl Fn(u32, u32) -> u32 {
    move |a, b| u32::from(f(a as u16, b as u16)) | u32::from(f((a >> 16) as u16, (b >> 16) as u16)) << 16
}

/// As [`halves`], of signed numbers.
fn signed_halves(f: impl Fn(i16, i16) -> i16) -> impl Fn(u32, u32) -> u32 {
    halves(move |a, b| f(a as i16, b as i16) as u16)
}

pub(super) fn lower(it: &mut Lowering<'_, '_>) -> Lowered {
    let opcode = it.opcode();
    let ty = it.ty();
    let writes_carry = it.take("cc");
    if writes_carry || matches!(opcode, "addc" | "subc" | "madc") {
        return carry::lower(it, ty, writes_carry);
    }
    match (opcode, ty) {
        ("add", "u16x2" | "s16x2") => it.binary(halves(u16::wrapping_add)),
        ("add", "s32") if it.take("sat") => it.binary(i32::saturating_add),
        ("add", _) => integer!(it, ty, T => it.binary(T::wrapping_add)),
        ("sub", "s32") if it.take("sat") => it.binary(i32::saturating_sub),
        ("sub", _) => integer!(it, ty, T => it.binary(T::wrapping_sub)),
        ("mul", _) => multiply(it, ty),
        ("mad", _) => multiply_add(it, ty),
        ("mul24", _) => multiply24(it, ty),
        ("mad24", _) => multiply24_add(it, ty),
        // by zero as the hardware divides; the smallest number by -1 is itself
        ("div", _) => integer!(it, ty, T => {
            it.binary_each(|a: T, b: T| if b == 0 { !0 } else { a.wrapping_div(b) })
        }),
        ("rem", _) => integer!(it, ty, T => {
            it.binary_each(|a: T, b: T| if b == 0 { a } else { a.wrapping_rem(b) })
        }),
        ("abs", "s16") => it.unary(i16::wrapping_abs),
        ("abs", "s32") => it.unary(i32::wrapping_abs),
        ("abs", "s64") => it.unary(i64::wrapping_abs),
        ("neg", "s16") => it.unary(i16::wrapping_neg),
        ("neg", "s32") => it.unary(i32::wrapping_neg),
        ("neg", "s64") => it.unary(i64::wrapping_neg),
        ("min", "u16x2") => it.binary(halves(u16::min)),
        ("max", "u16x2") => it.binary(halves(u16::max)),
        ("min", "s16x2") if it.take("relu") => it.binary(signed_halves(|a, b| a.min(b).max(0))),
        ("max", "s16x2") if it.take("relu") => it.binary(signed_halves(|a, b| a.max(b).max(0))),
        ("min", "s16x2") => it.binary(signed_halves(i16::min)),
        ("max", "s16x2") => it.binary(signed_halves(i16::max)),
        ("min", "s32") if it.take("relu") => it.binary(|a: i32, b: i32| a.min(b).max(0)),
        ("max", "s32") if it.take("relu") => it.binary(|a: i32, b: i32| a.max(b).max(0)),
        ("min", _) => integer!(it, ty, T => it.binary(|a: T, b: T| a.min(b))),
        ("max", _) => integer!(it, ty, T => it.binary(|a: T, b: T| a.max(b))),
        ("sad", _) => integer!(it, ty, T => it.ternary(|a: T, b: T, c: T| c.wrapping_add(a.abs_diff(b) as T))),
        ("dp4a", _) => dot4(it, ty),
        ("dp2a", _) => dot2(it, ty),
        _ => it.unmodelled(ty),
    }
}

#[derive(Clone, Copy)]
enum Part {
    Low,
    High,
    Wide,
}

const PARTS: [(&str, Part); 3] = [("lo", Part::Low), ("hi", Part::High), ("wide", Part::Wide)];

fn multiply(it: &mut Lowering<'_, '_>, ty: &str) -> Lowered {
    match (it.choose(&PARTS)?, ty) {
        (Part::Low, _) => integer!(it, ty, T => it.binary(T::wrapping_mul)),
        (Part::High, _) => {
            integer!(it, ty, T, W => it.binary(|a: T, b: T| ((W::from(a) * W::from(b)) >> T::BITS) as T))
        }
        (Part::Wide, "u16") => it.binary(|a: u16, b: u16| u32::from(a) * u32::from(b)),
        (Part::Wide, "s16") => it.binary(|a: i16, b: i16| i32::from(a) * i32::from(b)),
        (Part::Wide, "u32") => it.binary(|a: u32, b: u32| u64::from(a) * u64::from(b)),
        (Part::Wide, "s32") => it.binary(|a: i32, b: i32| i64::from(a) * i64::from(b)),
        (Part::Wide, _) => it.unmodelled(ty),
    }
}

fn multiply_add(it: &mut Lowering<'_, '_>, ty: &str) -> Lowered {
    match (it.choose(&PARTS)?, ty) {
        (Part::Low, _) => {
            integer!(it, ty, T => it.ternary(|a: T, b: T, c: T| a.wrapping_mul(b).wrapping_add(c)))
        }
        (Part::High, "s32") if it.take("sat") => {
            it.ternary(|a: i32, b: i32, c: i32| (((i64::from(a) * i64::from(b)) >> 32) as i32).saturating_add(c))
        }
        (Part::High, _) => integer!(it, ty, T, W => {
            it.ternary(|a: T, b: T, c: T| (((W::from(a) * W::from(b)) >> T::BITS) as T).wrapping_add(c))
        }),
        (Part::Wide, "u16") => it.ternary(|a: u16, b: u16, c: u32| (u32::from(a) * u32::from(b)).wrapping_add(c)),
        (Part::Wide, "s16") => it.ternary(|a: i16, b: i16, c: i32| (i32::from(a) * i32::from(b)).wrapping_add(c)),
        (Part::Wide, "u32") => it.ternary(|a: u32, b: u32, c: u64| (u64::from(a) * u64::from(b)).wrapping_add(c)),
        (Part::Wide, "s32") => it.ternary(|a: i32, b: i32, c: i64| (i64::from(a) * i64::from(b)).wrapping_add(c)),
        (Part::Wide, _) => it.unmodelled(ty),
    }
}

/// The product of the low 24 bits.
fn product24(a: u32, b: u32) -> u64 {
    u64::from(a & 0xff_ffff) * u64::from(b & 0xff_ffff)
}

/// As [`product24`], of signed numbers.
fn signed_product24(a: i32, b: i32) -> i64 {
    i64::from(a << 8 >> 8) * i64::from(b << 8 >> 8)
}

fn multiply24(it: &mut Lowering<'_, '_>, ty: &str) -> Lowered {
    // the high part begins at bit 16 of the 48-bit product
    match (it.choose(&PARTS[..2])?, ty) {
        (Part::Low, "u32") => it.binary(|a, b| product24(a, b) as u32),
        (Part::Low, "s32") => it.binary(|a, b| signed_product24(a, b) as i32),
        (_, "u32") => it.binary(|a, b| (product24(a, b) >> 16) as u32),
        (_, "s32") => it.binary(|a, b| (signed_product24(a, b) >> 16) as i32),
        _ => it.unmodelled(ty),
    }
}

fn multiply24_add(it: &mut Lowering<'_, '_>, ty: &str) -> Lowered {
    match (it.choose(&PARTS[..2])?, ty) {
        (Part::Low, "u32") => it.ternary(|a, b, c: u32| (product24(a, b) as u32).wrapping_add(c)),
        (Part::Low, "s32") => it.ternary(|a, b, c: i32| (signed_product24(a, b) as i32).wrapping_add(c)),
        (_, "u32") => it.ternary(|a, b, c: u32| ((product24(a, b) >> 16) as u32).wrapping_add(c)),
        (_, "s32") if it.take("sat") => {
            it.ternary(|a, b, c: i32| ((signed_product24(a, b) >> 16) as i32).saturating_add(c))
        }
        (_, "s32") => it.ternary(|a, b, c: i32| ((signed_product24(a, b) >> 16) as i32).wrapping_add(c)),
        _ => it.unmodelled(ty),
    }
}

/// The number in `bits` bits of a word, from bit `at` on.
fn field(word: u32, at: u32, bits: u32, signed: bool) -> i32 {
    let up = word << (32 - at - bits);
    if signed { up as i32 >> (32 - bits) } else { (up >> (32 - bits)) as i32 }
}

/// Whether the operands of `dp4a.s32.u32` are signed; the second of the types has been taken.
fn signs(it: &mut Lowering<'_, '_>, second: &str) -> Result<(bool, bool), String> {
    let first = it.choose(&[("u32", false), ("s32", true)])?;
    match second {
        "u32" => Ok((first, false)),
        "s32" => Ok((first, true)),
        _ => it.unmodelled(second),
    }
}

/// `c` plus the products of the four bytes of `a` and `b`.
fn dot4(it: &mut Lowering<'_, '_>, ty: &str) -> Lowered {
    let (a_signed, b_signed) = signs(it, ty)?;
    it.ternary(move |a: u32, b: u32, c: i32| {
        (0..4).fold(c, |sum, i| {
            sum.wrapping_add(field(a, 8 * i, 8, a_signed).wrapping_mul(field(b, 8 * i, 8, b_signed)))
        })
    })
}

/// `c` plus the products of the halves of `a` with two bytes of `b`.
fn dot2(it: &mut Lowering<'_, '_>, ty: &str) -> Lowered {
    let first = it.choose(&[("lo", 0), ("hi", 16)])?;
    let (a_signed, b_signed) = signs(it, ty)?;
    it.ternary(move |a: u32, b: u32, c: i32| {
        (0..2).fold(c, |sum, i| {
            sum.wrapping_add(field(a, 16 * i, 16, a_signed).wrapping_mul(field(b, first + 8 * i, 8, b_signed)))
        })
    })
}
