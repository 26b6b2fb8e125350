//! Floating-point arithmetic in all formats: `add`, `sub`, `mul`, `fma`, `neg`, `abs`, `min`, `max`, and the sign.

use super::exact::Rounding;
use super::float::Float;
use super::lowering::{Lowered, Lowering, compute, zip3};
use super::packed::{Modes, Packed, binary, packed_type, rounding, ternary};
use crate::vm::registers::{Lane, mask_of};

pub(super) fn lower(it: &mut Lowering<'_, '_>) -> Lowered {
    let ty = it.ty();
    match it.opcode() {
        "copysign" => copysign(it, ty),
        "testp" => test(it, ty),
        _ => packed_type!(it, ty, P => by_opcode::<P>(it, ty)),
    }
}

fn by_opcode<P: Packed>(it: &mut Lowering<'_, '_>, ty: &str) -> Lowered {
    let opcode = it.opcode();
    match opcode {
        // these hand bits on, whatever they are; so `Modes::results` is not for them
        "neg" | "abs" => {
            let (ftz, negate) = (Modes::take(it, ty).ftz, opcode == "neg");
            let sign = move |value: P::Element| {
                let value = if ftz { value.flush() } else { value };
                if negate { value.negate() } else { P::Element::from_bits(value.magnitude()) }
            };
            return it.unary(move |a: P| a.map(sign));
        }
        "min" | "max" => return extremum::<P>(it, ty),
        _ => {}
    }
    let modes = Modes::take(it, ty);
    let rounding = match (rounding(it), P::Element::FORMAT.precision) {
        (None | Some(Rounding::Nearest), _) => Rounding::Nearest,
        (Some(directed), 24 | 53) => directed,
        _ => return Err("only .rn is there for this type".into()),
    };
    match (opcode, rounding) {
        ("add", Rounding::Nearest) => binary::<P>(it, modes, |a, b| a.add(b, Rounding::Nearest)),
        ("add", _) => binary::<P>(it, modes, move |a, b| a.add(b, rounding)),
        ("sub", Rounding::Nearest) => binary::<P>(it, modes, |a, b| a.add(b.negate(), Rounding::Nearest)),
        ("sub", _) => binary::<P>(it, modes, move |a, b| a.add(b.negate(), rounding)),
        ("mul", Rounding::Nearest) => binary::<P>(it, modes, |a, b| a.multiply(b, Rounding::Nearest)),
        ("mul", _) => binary::<P>(it, modes, move |a, b| a.multiply(b, rounding)),
        ("fma" | "mad", Rounding::Nearest) => ternary::<P>(it, modes, P::multiply_add),
        ("fma" | "mad", _) => ternary::<P>(it, modes, move |a, b, c| {
            zip3(a, b, c, |a, b, c| {
                // only formats of one number to a register round otherwise
                let ([a, _], [b, _], [c, _]) = (a.elements(), b.elements(), c.elements());
                P::from_bits(a.multiply_add(b, c, rounding).bits())
            })
        }),
        _ => it.unmodelled(ty),
    }
}

/// Of a number and what is none, the number, unless `.NaN` is there; -0 is less than 0.
fn extremum<P: Packed>(it: &mut Lowering<'_, '_>, ty: &str) -> Lowered {
    let modes = Modes { sat: false, ..Modes::take(it, ty) };
    let (largest, nan) = (it.opcode() == "max", it.take("NaN"));
    let absolute = it.take("xorsign");
    if absolute {
        it.require("abs")?;
    }
    let pick = move |a: P::Element, b: P::Element| {
        let (low, high) = if b.less(a) || (a.sign() == 0 && b.magnitude() == 0) { (b, a) } else { (a, b) };
        match (a.is_nan(), b.is_nan()) {
            (false, false) => {
                if largest {
                    high
                } else {
                    low
                }
            }
            (true, true) => P::Element::NAN,
            _ if nan => P::Element::NAN,
            (true, false) => b,
            (false, true) => a,
        }
    };
    if !absolute {
        return binary::<P>(it, modes, pick);
    }
    binary::<P>(it, modes, move |a, b| {
        let magnitude = |value: P::Element| P::Element::from_bits(value.magnitude());
        let picked = pick(magnitude(a), magnitude(b));
        P::Element::from_bits(picked.bits() | (a.sign() ^ b.sign()))
    })
}

/// The second operand with the sign of the first.
fn copysign(it: &mut Lowering<'_, '_>, ty: &str) -> Lowered {
    match ty {
        "f32" => it.binary(|a: f32, b: f32| b.copysign(a)),
        "f64" => it.binary(|a: f64, b: f64| b.copysign(a)),
        _ => it.unmodelled(ty),
    }
}

fn test(it: &mut Lowering<'_, '_>, ty: &str) -> Lowered {
    match ty {
        "f32" => test_of::<f32>(it),
        "f64" => test_of::<f64>(it),
        _ => it.unmodelled(ty),
    }
}

fn test_of<T: Float>(it: &mut Lowering<'_, '_>) -> Lowered {
    let test: fn(T) -> bool = it.choose(&[
        ("finite", T::is_finite as fn(T) -> bool),
        ("infinite", |value| value.magnitude() == T::FORMAT.infinity()),
        ("number", |value| !value.is_nan()),
        ("notanumber", T::is_nan),
        // zeros count as normal
        ("normal", |value| value.is_finite() && !value.is_subnormal()),
        ("subnormal", T::is_subnormal),
    ])?;
    it.expect(2)?;
    let (p, a) = (it.predicate_target()?, it.source::<T>(1)?);
    compute(move |frame, mask| {
        let a = T::get(frame, a);
        frame.set_predicate(p, mask, mask_of(|lane| test(a[lane])));
    })
}
