//! Approximate functions: `ex2`, `lg2`, `sin`, `cos`, `tanh`, and what `.approx` means for a quotient or a root.
//!
//! The hardware's results are not documented, their largest errors are. Either the result is the one rounded right, or
//! it is as far off as is allowed, up or down by the operand's bits.

use super::exact::Rounding;
use super::float::Float;
use super::lowering::{Lowered, Lowering};
use super::packed::{Modes, Packed, packed_type, unary_each};
use crate::options::Approximation;
use crate::vm::registers::Lane;

/// How far a result may be off.
#[derive(Clone, Copy, Debug)]
pub(super) enum Bound {
    /// In units of the last place.
    Ulp(f64),
    /// A part of the result: this power of two.
    Relative(f64),
    /// This power of two.
    Absolute(f64),
}

/// `exact` as `how` computes it. `operands` are their bits.
pub(super) fn approximate<T: Float>(how: Approximation, exact: f64, operands: u64, bound: Bound) -> T {
    let nearest = T::rounded(exact, Rounding::Nearest);
    if how == Approximation::Exact || exact == 0.0 || !exact.is_finite() {
        return nearest;
    }
    let distance = match bound {
        Bound::Ulp(count) => count * ulp::<T>(exact),
        Bound::Relative(power) => exact.abs() * power.exp2(),
        Bound::Absolute(power) => power.exp2(),
    };
    // rounded back towards the exact value, not to be off by more
    let up = operands.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 63 == 0;
    let off = match up {
        true => T::rounded(exact + distance, Rounding::Down),
        false => T::rounded(exact - distance, Rounding::Up),
    };
    if (off.widened() - exact).abs() <= distance { off } else { nearest }
}

/// The unit of the last place of a number like `value`.
fn ulp<T: Float>(value: f64) -> f64 {
    let exponent = (value.to_bits() >> 52 & 0x7ff) as i32 - 1023;
    let last = (exponent + 1 - T::FORMAT.precision as i32).max(T::FORMAT.lowest());
    f64::from(last).exp2()
}

pub(super) fn lower(it: &mut Lowering<'_, '_>) -> Lowered {
    let ty = it.ty();
    it.require("approx")?;
    let modes = Modes { ftz: it.take("ftz"), sat: false, relu: false };
    packed_type!(it, ty, P => by_opcode::<P>(it, ty, modes))
}

fn by_opcode<P: Packed>(it: &mut Lowering<'_, '_>, ty: &str, modes: Modes) -> Lowered {
    use Bound::{Absolute, Relative, Ulp};
    let (f, bound): (fn(f64) -> f64, _) = match (it.opcode(), P::Element::FORMAT.precision) {
        ("ex2", 24) => (f64::exp2, Ulp(2.0)),
        ("ex2", 11) => (f64::exp2, Relative(-9.9)),
        ("ex2", 8) => (f64::exp2, Relative(-7.0)),
        ("tanh", 24) => (f64::tanh, Relative(-11.0)),
        ("tanh", 11) => (f64::tanh, Absolute(-10.987)),
        ("tanh", 8) => (f64::tanh, Absolute(-8.0)),
        ("sin", 24) => (f64::sin, Absolute(-20.5)),
        ("cos", 24) => (f64::cos, Absolute(-20.5)),
        ("lg2", 24) => return logarithm(it, modes),
        _ => return it.unmodelled(ty),
    };
    let how = it.operands.approximation;
    unary_each::<P>(it, modes, move |a| {
        // of zeros, subnormal numbers and infinities the manual says the result
        let special = a.flush().magnitude() == 0 || !a.is_finite();
        let how = if special { Approximation::Exact } else { how };
        approximate(how, f(a.widened()), a.bits(), bound)
    })
}

/// Near 1, where the logarithm is small, the error is absolute.
fn logarithm(it: &mut Lowering<'_, '_>, modes: Modes) -> Lowered {
    let how = it.operands.approximation;
    unary_each::<f32>(it, modes, move |a| {
        let bound = if a > 0.5 && a < 2.0 { Bound::Absolute(-22.0) } else { Bound::Relative(-22.0) };
        approximate(how, f64::from(a).log2(), a.bits(), bound)
    })
}
