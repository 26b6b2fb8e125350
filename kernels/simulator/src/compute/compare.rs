//! Comparisons: `setp` and `set`.

use half::{bf16, f16};

use super::float::Float;
use super::lowering::{Lowered, Lowering, compute, map};
use super::packed::Packed;
use crate::ptx::ast::Operand;
use crate::vm::registers::{Frame, LANES, Lane, Mask, Predicate, Reg, mask_of};

/// Compares the first numbers of two registers' lanes, and the second ones if they hold two.
type Compare = Box<dyn Fn(&Frame) -> [Mask; 2] + Send + Sync>;

/// How masks are combined.
type Combine = fn(Mask, Mask) -> Mask;

const COMBINATIONS: [(&str, Combine); 3] = [("and", |a, b| a & b), ("or", |a, b| a | b), ("xor", |a, b| a ^ b)];

/// `setp.lt.and.f32 p|q, a, b, c`.
pub(super) fn set_predicate(it: &mut Lowering<'_, '_>) -> Lowered {
    let ty = it.ty();
    let compare = comparison(it, ty)?;
    let combination = Combination::take(it)?;
    let (p, q) = match it.operand(0)? {
        Operand::Pair(p, q) => (it.operands.predicate_target(p)?, Some(it.operands.predicate_target(q)?)),
        p => (it.operands.predicate_target(p)?, None),
    };
    let packed = ty.ends_with("x2");
    compute(move |frame, mask| {
        let [first, second] = compare(frame);
        let combined = |value| combination.apply(frame, value);
        // of one comparison, the second predicate has the opposite; of two, the second
        let (first, second) = (combined(first), combined(if packed { second } else { !first }));
        frame.set_predicate(p, mask, first);
        if let Some(q) = q {
            frame.set_predicate(q, mask, second);
        }
    })
}

/// `set.lt.and.u32.f32 d, a, b, c`.
pub(super) fn set(it: &mut Lowering<'_, '_>) -> Lowered {
    let ty = it.ty();
    let to = it.ty();
    let compare = comparison(it, ty)?;
    let combination = Combination::take(it)?;
    let (one, pair) = match (to, ty.ends_with("x2")) {
        ("u32" | "s32", false) => (u32::MAX, 0),
        ("f32", false) => (1f32.to_bits(), 0),
        ("u16" | "s16", false) => (0xffff, 0),
        ("f16", false) => (f16::ONE.to_bits().into(), 0),
        ("bf16", false) => (bf16::ONE.to_bits().into(), 0),
        ("u32" | "s32", true) => (0xffff, 0xffff_0000),
        ("f16x2", true) => (f16::ONE.to_bits().into(), u32::from(f16::ONE.to_bits()) << 16),
        ("bf16x2", true) => (bf16::ONE.to_bits().into(), u32::from(bf16::ONE.to_bits()) << 16),
        _ => return it.unmodelled(to),
    };
    let d = match to {
        "u16" | "s16" | "f16" | "bf16" => Reg::new(it.target::<u16>()?.index),
        _ => it.target::<u32>()?,
    };
    compute(move |frame, mask| {
        let combined = compare(frame).map(|value| combination.apply(frame, value));
        let value = |lane: usize| {
            let is = |mask: Mask| (mask >> lane & 1).wrapping_neg();
            (one & is(combined[0])) | (pair & is(combined[1]))
        };
        u32::set(frame, d, mask, std::array::from_fn(value));
    })
}

/// `.and` and its like, and the predicate that it combines with.
#[derive(Clone, Copy)]
struct Combination(Option<(Combine, Predicate)>);

impl Combination {
    fn take(it: &mut Lowering<'_, '_>) -> Result<Self, String> {
        let combine = it.pick(&COMBINATIONS);
        it.expect(if combine.is_some() { 4 } else { 3 })?;
        Ok(Self(combine.map(|combine| Ok::<_, String>((combine, it.predicate(3)?))).transpose()?))
    }

    fn apply(self, frame: &Frame, value: Mask) -> Mask {
        self.0.map_or(value, |(combine, with)| combine(value, with.get(frame)))
    }
}

fn comparison(it: &mut Lowering<'_, '_>, ty: &str) -> Result<Compare, String> {
    match ty {
        "b16" | "u16" => of_integers::<u16>(it, ty),
        "s16" => of_integers::<i16>(it, ty),
        "b32" | "u32" => of_integers::<u32>(it, ty),
        "s32" => of_integers::<i32>(it, ty),
        "b64" | "u64" => of_integers::<u64>(it, ty),
        "s64" => of_integers::<i64>(it, ty),
        "f32" => of_numbers::<f32>(it),
        "f64" => of_numbers::<f64>(it),
        "f16" => of_numbers::<f16>(it),
        "f16x2" => of_numbers::<[f16; 2]>(it),
        "bf16" => of_numbers::<bf16>(it),
        "bf16x2" => of_numbers::<[bf16; 2]>(it),
        _ => it.unmodelled(ty),
    }
}

/// The tests that all others are the opposite of, or have their operands swapped.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Test {
    Equal,
    Less,
    LessOrEqual,
    LessOrGreater,
    Ordered,
}

/// A test, whether its operands are swapped, and whether the opposite is asked for.
type Relation = (Test, bool, bool);

const INTEGER_RELATIONS: [(&str, Relation); 10] = [
    ("eq", (Test::Equal, false, false)),
    ("ne", (Test::Equal, false, true)),
    ("lt", (Test::Less, false, false)),
    ("le", (Test::Less, true, true)),
    ("gt", (Test::Less, true, false)),
    ("ge", (Test::Less, false, true)),
    ("lo", (Test::Less, false, false)),
    ("ls", (Test::Less, true, true)),
    ("hi", (Test::Less, true, false)),
    ("hs", (Test::Less, false, true)),
];

const RELATIONS: [(&str, Relation); 14] = [
    ("eq", (Test::Equal, false, false)),
    ("ne", (Test::LessOrGreater, false, false)),
    ("lt", (Test::Less, false, false)),
    ("le", (Test::LessOrEqual, false, false)),
    ("gt", (Test::Less, true, false)),
    ("ge", (Test::LessOrEqual, true, false)),
    // true as well if either is not a number
    ("equ", (Test::LessOrGreater, false, true)),
    ("neu", (Test::Equal, false, true)),
    ("ltu", (Test::LessOrEqual, true, true)),
    ("leu", (Test::Less, true, true)),
    ("gtu", (Test::LessOrEqual, false, true)),
    ("geu", (Test::Less, false, true)),
    ("num", (Test::Ordered, false, false)),
    ("nan", (Test::Ordered, false, true)),
];

fn of_integers<T: Lane + Ord>(it: &mut Lowering<'_, '_>, ty: &str) -> Result<Compare, String> {
    let relations = match ty.as_bytes()[0] {
        b'b' => &INTEGER_RELATIONS[..2],
        b's' => &INTEGER_RELATIONS[..6],
        _ => &INTEGER_RELATIONS[..],
    };
    let (test, swapped, opposite) = it.choose(relations)?;
    let (a, b) = (it.source::<T>(1)?, it.source::<T>(2)?);
    let (a, b) = if swapped { (b, a) } else { (a, b) };
    Ok(match test {
        Test::Equal => rows(a, b, opposite, |a, b| [masks(a, b, |a, b| a == b); 2]),
        _ => rows(a, b, opposite, |a, b| [masks(a, b, |a, b| a < b); 2]),
    })
}

fn of_numbers<P: Packed>(it: &mut Lowering<'_, '_>) -> Result<Compare, String> {
    let (test, swapped, opposite) = it.choose(&RELATIONS)?;
    let ftz = matches!(P::Element::FORMAT.precision, 11 | 24) && it.take("ftz");
    let (a, b) = (it.source::<P>(1)?, it.source::<P>(2)?);
    let (a, b) = if swapped { (b, a) } else { (a, b) };
    Ok(match test {
        Test::Equal => numbers(a, b, opposite, ftz, |a, b| a == b),
        Test::Less => numbers(a, b, opposite, ftz, P::Element::less),
        Test::LessOrEqual => numbers(a, b, opposite, ftz, |a, b| a.less(b) || a == b),
        Test::LessOrGreater => numbers(a, b, opposite, ftz, |a, b| a.less(b) || b.less(a)),
        Test::Ordered => numbers(a, b, opposite, ftz, |a, b| !a.is_nan() && !b.is_nan()),
    })
}

fn numbers<P: Packed>(
    a: Reg<P>,
    b: Reg<P>,
    opposite: bool,
    ftz: bool,
    test: impl Fn(P::Element, P::Element) -> bool + Send + Sync + 'static,
) -> Compare {
    rows(a, b, opposite, move |a, b| {
        let flushed = |row: [P; LANES]| if ftz { map(row, |value| value.map(Float::flush)) } else { row };
        let (a, b) = (flushed(a), flushed(b));
        let number = |i: usize| masks(a, b, |a, b| test(a.elements()[i], b.elements()[i]));
        let first = number(0);
        [first, if P::BITS == P::Element::BITS { first } else { number(1) }]
    })
}

fn rows<T: Lane>(
    a: Reg<T>,
    b: Reg<T>,
    opposite: bool,
    test: impl Fn([T; LANES], [T; LANES]) -> [Mask; 2] + Send + Sync + 'static,
) -> Compare {
    let opposite = if opposite { Mask::MAX } else { 0 };
    Box::new(move |frame| test(T::get(frame, a), T::get(frame, b)).map(|mask| mask ^ opposite))
}

/// The lanes in which `test` holds.
#[inline]
fn masks<T: Copy>(a: [T; LANES], b: [T; LANES], test: impl Fn(T, T) -> bool) -> Mask {
    mask_of(|lane| test(a[lane], b[lane]))
}
