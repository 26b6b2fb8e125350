//! Division and roots: `div`, `rcp`, `sqrt`, `rsqrt`, exact and approximate.

use super::approximate::{Bound, approximate};
use super::exact::{Exact, Rounding};
use super::float::{Float, directed};
use super::lowering::{Lowered, Lowering};
use super::narrow::narrow;
use super::packed::{Modes, binary, rounding, unary};
use crate::vm::registers::Lane;

pub(super) fn lower(it: &mut Lowering<'_, '_>) -> Lowered {
    let ty = it.ty();
    let approximate = it.take("approx");
    if approximate || it.take("full") {
        return if ty == "f64" { lower_high_word(it) } else { lower_approximate(it, ty, approximate) };
    }
    let rounding = rounding(it).ok_or("expected .approx or a rounding")?;
    let modes = Modes { ftz: ty == "f32" && it.take("ftz"), sat: false, relu: false };
    match (it.opcode(), ty, rounding) {
        ("div", "f32", _) => binary::<f32>(it, modes, move |a, b| quotient(a, b, rounding)),
        ("div", "f64", _) => binary::<f64>(it, modes, move |a, b| wide_quotient(a, b, rounding)),
        ("rcp", "f32", _) => unary::<f32>(it, modes, move |a| quotient(1.0, a, rounding)),
        ("rcp", "f64", _) => unary::<f64>(it, modes, move |a| wide_quotient(1.0, a, rounding)),
        ("sqrt", "f32", Rounding::Nearest) => unary::<f32>(it, modes, f32::sqrt),
        ("sqrt", "f32", _) => unary::<f32>(it, modes, move |a| narrow(f64::from(a).sqrt(), rounding)),
        ("sqrt", "f64", _) => unary::<f64>(it, modes, move |a| {
            let rounding = if a < 0.0 { Rounding::Nearest } else { rounding };
            directed(a.sqrt(), rounding, &[a], || Exact::from(a).sqrt())
        }),
        _ => it.unmodelled(ty),
    }
}

/// Of two f32, a quotient (or a root) is either an f32 as well, or so far from all of them that rounding it to f64
/// does not make it one.
fn quotient(a: f32, b: f32, rounding: Rounding) -> f32 {
    match rounding {
        Rounding::Nearest => a / b,
        _ => narrow(f64::from(a) / f64::from(b), rounding),
    }
}

fn wide_quotient(a: f64, b: f64, rounding: Rounding) -> f64 {
    if b == 0.0 {
        return a / b;
    }
    directed(a / b, rounding, &[a, b], || Exact::from(a).divide(b.into()))
}

fn lower_approximate(it: &mut Lowering<'_, '_>, ty: &str, approx: bool) -> Lowered {
    if ty != "f32" {
        return it.unmodelled(ty);
    }
    let modes = Modes { ftz: it.take("ftz"), sat: false, relu: false };
    let how = it.operands.approximation;
    let of_one = move |f: fn(f64) -> f64, bound| move |a: f32| approximate(how, f(a.into()), a.bits(), bound);
    match (it.opcode(), approx) {
        ("rcp", true) => unary::<f32>(it, modes, of_one(f64::recip, Bound::Ulp(1.0))),
        ("sqrt", true) => unary::<f32>(it, modes, of_one(f64::sqrt, Bound::Relative(-23.0))),
        ("rsqrt", true) => unary::<f32>(it, modes, of_one(|a| a.sqrt().recip(), Bound::Relative(-22.9))),
        ("div", _) => binary::<f32>(it, modes, move |a, b| {
            // the hardware multiplies by the reciprocal, which is 0 before the divisor is infinite
            let vanishes = approx && b.abs() > 2f32.powi(126);
            let exact = if vanishes { f64::from(a * 0f32.copysign(b)) } else { f64::from(a) / f64::from(b) };
            approximate(how, exact, a.bits() << 32 | b.bits(), Bound::Ulp(2.0))
        }),
        _ => it.unmodelled("full"),
    }
}

/// `rcp.approx.ftz.f64` and `rsqrt.approx.ftz.f64` know the high words of operand and result only.
fn lower_high_word(it: &mut Lowering<'_, '_>) -> Lowered {
    let ftz = it.take("ftz");
    let f: fn(f64) -> f64 = match (it.opcode(), ftz) {
        ("rcp", true) => f64::recip,
        ("rsqrt", true) => |a| a.sqrt().recip(),
        ("rsqrt", false) => return it.unary(|a: f64| a.sqrt().recip()),
        _ => return it.unmodelled("f64"),
    };
    let high = |value: f64| f64::from_bits(value.to_bits() & !0xffff_ffff).flush();
    it.unary(move |a: f64| if a.is_nan() { a } else { high(f(high(a))) })
}
