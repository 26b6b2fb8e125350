//! Conversions: `cvt` between all types.

use half::{bf16, f16};

use super::exact::{Exact, Rounding};
use super::float::Float;
use super::lowering::{Lowered, Lowering, compute, map};
use super::packed::rounding;
use crate::vm::registers::{Lane, Reg, Row};

/// An integer type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Integer {
    bits: u32,
    signed: bool,
}

impl Integer {
    fn named(ty: &str) -> Option<Self> {
        let bits = ty.get(1..)?.parse().ok().filter(|bits| [2, 4, 8, 16, 32, 64].contains(bits))?;
        match &ty[..1] {
            "u" => Some(Self { bits, signed: false }),
            "s" => Some(Self { bits, signed: true }),
            _ => None,
        }
    }

    /// The number in the low bits.
    #[inline]
    fn extend(self, bits: u64) -> u64 {
        let up = 64 - self.bits;
        if self.signed { ((bits << up) as i64 >> up) as u64 } else { bits << up >> up }
    }

    /// The number in the low bits, as one that can be negative.
    fn value(self, bits: u64) -> i128 {
        if self.signed { i128::from(self.extend(bits) as i64) } else { i128::from(self.extend(bits)) }
    }

    /// The number of this type that is nearest to `value`.
    fn saturate(self, value: i128) -> i128 {
        match self.signed {
            true => value.clamp(-1 << (self.bits - 1), (1 << (self.bits - 1)) - 1),
            false => value.clamp(0, (1 << self.bits) - 1),
        }
    }
}

/// `$body` with `$T` as the floating-point type that a name means.
macro_rules! number {
    ($it:ident, $ty:expr, $T:ident => $body:expr) => {
        number!(@ $it, $ty, $T => $body, "f32" f32, "f64" f64, "f16" f16, "bf16" bf16)
    };
    (@ $it:ident, $ty:expr, $T:ident => $body:expr, $($name:literal $number:ty),*) => {
        match $ty {
            $($name => {
                type $T = $number;
                $body
            })*
            other => $it.unmodelled(other),
        }
    };
}

pub(super) fn lower(it: &mut Lowering<'_, '_>) -> Lowered {
    if it.take("pack") {
        return pack(it);
    }
    let from = it.ty();
    let to = it.ty();
    match (Integer::named(to), Integer::named(from)) {
        (Some(to), Some(from)) => between_integers(it, to, from),
        (Some(to), None) => number!(it, from, F => to_integer::<F>(it, to)),
        (None, Some(from)) => number!(it, to, T => from_integer::<T>(it, from)),
        (None, None) => match to {
            "f16x2" if from == "f32" => pair::<f16>(it),
            "bf16x2" if from == "f32" => pair::<bf16>(it),
            "tf32" if from == "f32" => to_tf32(it),
            _ => number!(it, to, T => number!(it, from, F => between_numbers::<T, F>(it))),
        },
    }
}

/// `f` of the low `bits` bits of a register; what it writes is cut off to the size of the register that is written.
fn convert(
    it: &mut Lowering<'_, '_>,
    to_bits: u32,
    from_bits: u32,
    f: impl Fn(u64) -> u64 + Send + Sync + 'static,
) -> Lowered {
    it.expect(2)?;
    let width = |index: usize| it.operands.width(it.operand(index)?);
    let to_width = width(0).unwrap_or(64);
    if to_width < to_bits || width(1).unwrap_or(64) < from_bits {
        return Err("a register is narrower than its type".into());
    }
    let (d, a) = (it.operands.target_row(it.operand(0)?)?, it.operands.source_row(it.operand(1)?, from_bits)?);
    let keep = u64::MAX >> (64 - to_width);
    let f = move |bits: u64| f(bits) & keep;
    match (d, a) {
        (Row::B32(d), Row::B32(a)) => between_rows::<u32, u32>(d, a, f),
        (Row::B32(d), Row::B64(a)) => between_rows::<u32, u64>(d, a, f),
        (Row::B64(d), Row::B32(a)) => between_rows::<u64, u32>(d, a, f),
        (Row::B64(d), Row::B64(a)) => between_rows::<u64, u64>(d, a, f),
    }
}

fn between_rows<D: Lane, A: Lane>(d: u32, a: u32, f: impl Fn(u64) -> u64 + Send + Sync + 'static) -> Lowered {
    let (d, a) = (Reg::<D>::new(d), Reg::<A>::new(a));
    compute(move |frame, mask| D::set(frame, d, mask, map(A::get(frame, a), |a| D::from_bits(f(a.bits())))))
}

fn between_integers(it: &mut Lowering<'_, '_>, to: Integer, from: Integer) -> Lowered {
    match it.take("sat") {
        true => convert(it, to.bits, from.bits, move |bits| to.saturate(from.value(bits)) as u64),
        false => convert(it, to.bits, from.bits, move |bits| to.extend(from.extend(bits))),
    }
}

/// Takes a rounding to whole numbers.
fn whole(it: &mut Lowering<'_, '_>) -> Option<Rounding> {
    it.pick(&[("rni", Rounding::Nearest), ("rzi", Rounding::Zero), ("rmi", Rounding::Down), ("rpi", Rounding::Up)])
}

/// The whole number next to `value`.
fn to_whole(value: f64, rounding: Rounding) -> f64 {
    match rounding {
        Rounding::Nearest => value.round_ties_even(),
        Rounding::Zero => value.trunc(),
        Rounding::Down => value.floor(),
        Rounding::Up => value.ceil(),
    }
}

fn to_integer<F: Float>(it: &mut Lowering<'_, '_>, to: Integer) -> Lowered {
    let rounding = whole(it).ok_or("expected a rounding to whole numbers, .rni or its like")?;
    // saturated they are in any case
    it.take("sat");
    let ftz = F::FORMAT == f32::FORMAT && it.take("ftz");
    // the one that nearly all conversions are, as the host's processor does it
    if rounding == Rounding::Zero && F::FORMAT == f32::FORMAT && to == (Integer { bits: 32, signed: true }) {
        return convert(it, 32, 32, |bits| f32::from_bits(bits as u32) as i32 as u64);
    }
    let wide = F::BITS == 64 || to.bits == 64;
    let nan = if wide { 1 << (to.bits - 1) } else { 0 };
    convert(it, to.bits, F::BITS, move |bits| {
        let value = F::from_bits(bits);
        let value = if ftz { value.flush() } else { value };
        if value.is_nan() {
            return to.extend(nan);
        }
        let value = to_whole(value.widened(), rounding);
        match to.signed {
            true => to.saturate((value as i64).into()) as u64,
            false => to.saturate((value as u64).into()) as u64,
        }
    })
}

/// What is done to a floating-point number that a conversion makes.
#[derive(Clone, Copy)]
struct Finish {
    sat: bool,
    relu: bool,
    finite: bool,
    ftz: bool,
}

impl Finish {
    fn take<T: Float>(it: &mut Lowering<'_, '_>, ftz: bool) -> Self {
        let half = T::BITS == 16;
        Self {
            sat: it.take("sat"),
            relu: half && it.take("relu"),
            finite: half && it.take("satfinite"),
            ftz: ftz && T::FORMAT == f32::FORMAT,
        }
    }

    #[inline]
    fn of<T: Float>(self, value: T) -> u64 {
        let mut value = value.canonical();
        if self.finite && value.magnitude() == T::FORMAT.infinity() {
            value = T::from_bits(value.bits() - 1);
        }
        if self.relu {
            value = value.relu();
        }
        if self.sat {
            value = value.saturate();
        }
        if self.ftz {
            value = value.flush();
        }
        value.bits()
    }
}

fn from_integer<T: Float>(it: &mut Lowering<'_, '_>, from: Integer) -> Lowered {
    let rounding = rounding(it).ok_or("expected a rounding, .rn or its like")?;
    // integers are never subnormal
    it.take("ftz");
    let finish = Finish::take::<T>(it, false);
    // apart from the rest: known when the closure is made, the rounding costs nothing
    if from.bits < 64 && rounding == Rounding::Nearest {
        return convert(it, T::BITS, from.bits, move |bits| {
            finish.of(T::rounded(from.extend(bits) as i64 as f64, Rounding::Nearest))
        });
    }
    if from.bits < 64 {
        return convert(it, T::BITS, from.bits, move |bits| {
            finish.of(T::rounded(from.extend(bits) as i64 as f64, rounding))
        });
    }
    convert(it, T::BITS, 64, move |bits| {
        finish.of(T::from_bits(Exact::from(from.value(bits)).round(T::FORMAT, rounding)))
    })
}

fn between_numbers<T: Float, F: Float>(it: &mut Lowering<'_, '_>) -> Lowered {
    let whole = if T::FORMAT == F::FORMAT { whole(it) } else { None };
    let narrows = T::FORMAT.precision < F::FORMAT.precision;
    let rounding = match rounding(it) {
        // bf16 reaches further than f16 and has fewer bits
        Some(rounding) if narrows || T::FORMAT == f16::FORMAT => rounding,
        None if !narrows => Rounding::Nearest,
        _ => return Err("a rounding is there if and only if the new type is the smaller one".into()),
    };
    let ftz = [T::FORMAT, F::FORMAT].contains(&f32::FORMAT) && it.take("ftz");
    let finish = Finish::take::<T>(it, ftz);
    let ftz = ftz && F::FORMAT == f32::FORMAT;
    let source = move |bits: u64| {
        let value = F::from_bits(bits);
        (if ftz { value.flush() } else { value }).widened()
    };
    match (whole, rounding) {
        (Some(rounding), _) => convert(it, T::BITS, F::BITS, move |bits| {
            finish.of(T::rounded(to_whole(source(bits), rounding), Rounding::Nearest))
        }),
        (None, Rounding::Nearest) => {
            convert(it, T::BITS, F::BITS, move |bits| finish.of(T::rounded(source(bits), Rounding::Nearest)))
        }
        _ => convert(it, T::BITS, F::BITS, move |bits| finish.of(T::rounded(source(bits), rounding))),
    }
}

/// `cvt.rn.f16x2.f32 d, a, b`: `a` goes to the upper half.
fn pair<T: Float>(it: &mut Lowering<'_, '_>) -> Lowered {
    let rounding = rounding(it).ok_or("expected a rounding, .rn or its like")?;
    let finish = Finish::take::<T>(it, false);
    let half = move |value: f32| finish.of(T::rounded(value.into(), rounding)) as u32;
    it.binary(move |a: f32, b: f32| half(a) << 16 | half(b))
}

/// `tf32` is an f32 with the last 13 bits cut off.
fn to_tf32(it: &mut Lowering<'_, '_>) -> Lowered {
    const CUT: u32 = 13;
    // `.rna` sends what is halfway away from zero
    let rounding = it.choose(&[("rna", None), ("rn", Some(Rounding::Nearest)), ("rz", Some(Rounding::Zero))])?;
    let (relu, finite) = (it.take("relu"), it.take("satfinite"));
    it.unary(move |a: f32| {
        if a.is_nan() {
            return f32::NAN.to_bits() | 0x7fff_ffff;
        }
        let bits = a.to_bits();
        let up = match rounding {
            _ if a.is_infinite() => 0,
            None => 1 << (CUT - 1),
            Some(Rounding::Nearest) => (1 << (CUT - 1)) - 1 + (bits >> CUT & 1),
            Some(_) => 0,
        };
        let rounded = (bits + up) >> CUT << CUT;
        let rounded = if finite && f32::from_bits(rounded).is_infinite() { rounded - (1 << CUT) } else { rounded };
        if relu && a < 0.0 { 0 } else { rounded }
    })
}

/// `cvt.pack.sat.s16.s32 d, a, b`, and with `c`, whose bits move up, for types of less than 16 bits.
fn pack(it: &mut Lowering<'_, '_>) -> Lowered {
    it.require("sat")?;
    let chained = it.take("b32");
    let (from, to) = (it.ty(), it.ty());
    let Some(to) = Integer::named(to).filter(|to| (to.bits < 16) == chained && to.bits <= 16) else {
        return it.unmodelled(to);
    };
    if from != "s32" {
        return it.unmodelled(from);
    }
    let keep = (1 << to.bits) - 1;
    let part = move |value: i32| to.saturate(value.into()) as u32 & keep;
    match chained {
        true => it.ternary(move |a, b, c: u32| c << (2 * to.bits) | part(a) << to.bits | part(b)),
        false => it.binary(move |a, b| part(a) << 16 | part(b)),
    }
}
