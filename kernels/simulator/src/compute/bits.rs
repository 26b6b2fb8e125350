//! Bits: logic, shifts, fields, counting and permuting.

use super::lowering::{Lowered, Lowering, compute, map, zip3};
use crate::ptx::ast::Operand;
use crate::vm::registers::{Lane, Mask, mask_of};

/// `and`, `or`, `xor`, `not`, `cnot`.
pub(super) fn logic(it: &mut Lowering<'_, '_>) -> Lowered {
    match it.ty() {
        "pred" => predicates(it),
        "b16" => words::<u16>(it),
        "b32" => words::<u32>(it),
        "b64" => words::<u64>(it),
        ty => it.unmodelled(ty),
    }
}

fn words<T>(it: &mut Lowering<'_, '_>) -> Lowered
where
    T: Lane + PartialEq + From<bool> + std::ops::BitAnd<Output = T> + std::ops::BitOr<Output = T>,
    T: std::ops::BitXor<Output = T> + std::ops::Not<Output = T>,
{
    match it.opcode() {
        "and" => it.binary(|a: T, b: T| a & b),
        "or" => it.binary(|a: T, b: T| a | b),
        "xor" => it.binary(|a: T, b: T| a ^ b),
        "not" => it.unary(|a: T| !a),
        _ => it.unary(|a: T| T::from(a == T::default())),
    }
}

fn predicates(it: &mut Lowering<'_, '_>) -> Lowered {
    let f: fn(Mask, Mask) -> Mask = match it.opcode() {
        "and" => |a, b| a & b,
        "or" => |a, b| a | b,
        "xor" => |a, b| a ^ b,
        "not" => |a, _| !a,
        _ => return it.unmodelled("pred"),
    };
    let unary = it.opcode() == "not";
    it.expect(if unary { 2 } else { 3 })?;
    let (d, a) = (it.predicate_target()?, it.predicate(1)?);
    let b = if unary { a } else { it.predicate(2)? };
    compute(move |frame, mask| {
        let value = f(a.get(frame), b.get(frame));
        frame.set_predicate(d, mask, value);
    })
}

/// A function of three bits, of every bit of three words; its table has all ones for 1.
fn lookup(table: &[u32; 8], a: u32, b: u32, c: u32) -> u32 {
    // a tree of choices by c, then by b, then by a
    let choose = |by: u32, no: u32, yes: u32| no ^ (by & (no ^ yes));
    let of_c = |index: usize| choose(c, table[index], table[index + 1]);
    choose(a, choose(b, of_c(0), of_c(2)), choose(b, of_c(4), of_c(6)))
}

/// `lop3`: any function of three bits.
pub(super) fn lop3(it: &mut Lowering<'_, '_>) -> Lowered {
    it.require("b32")?;
    let table = it.immediate(4)?;
    let table = std::array::from_fn(|index| (table as u32 >> index & 1).wrapping_neg());
    let combine = it.pick(&[("or", (|a, b| a | b) as fn(Mask, Mask) -> Mask), ("and", |a, b| a & b)]);
    let (a, b, c) = (it.source(1)?, it.source(2)?, it.source(3)?);
    let (d, p) = it.pair_target()?;
    let d = it.operands.target::<u32>(d)?;
    let predicate = match (combine, p) {
        (None, None) => {
            it.expect(5)?;
            None
        }
        (Some(combine), Some(p)) => {
            it.expect(6)?;
            Some((combine, it.operands.predicate_target(p)?, it.predicate(5)?))
        }
        _ => return Err("a predicate and .or or .and go together".into()),
    };
    compute(move |frame, mask| {
        let (a, b, c) = (u32::get(frame, a), u32::get(frame, b), u32::get(frame, c));
        let values = zip3(a, b, c, |a, b, c| lookup(&table, a, b, c));
        if let Some((combine, p, q)) = predicate {
            let value = combine(mask_of(|lane| values[lane] != 0), q.get(frame));
            frame.set_predicate(p, mask, value);
        }
        u32::set(frame, d, mask, values);
    })
}

/// `shl` and `shr`: past the width nothing is left but the sign.
pub(super) fn shift(it: &mut Lowering<'_, '_>) -> Lowered {
    match (it.opcode(), it.ty()) {
        ("shl", "b16") => shift_by(it, |a: u16, by| if by < 16 { a << by } else { 0 }),
        ("shl", "b32") => shift_by(it, |a: u32, by| if by < 32 { a << by } else { 0 }),
        ("shl", "b64") => shift_by(it, |a: u64, by| if by < 64 { a << by } else { 0 }),
        ("shr", "b16" | "u16") => shift_by(it, |a: u16, by| if by < 16 { a >> by } else { 0 }),
        ("shr", "b32" | "u32") => shift_by(it, |a: u32, by| if by < 32 { a >> by } else { 0 }),
        ("shr", "b64" | "u64") => shift_by(it, |a: u64, by| if by < 64 { a >> by } else { 0 }),
        ("shr", "s16") => shift_by(it, |a: i16, by| a >> by.min(15)),
        ("shr", "s32") => shift_by(it, |a: i32, by| a >> by.min(31)),
        ("shr", "s64") => shift_by(it, |a: i64, by| a >> by.min(63)),
        (_, ty) => it.unmodelled(ty),
    }
}

fn shift_by<T: Lane>(it: &mut Lowering<'_, '_>, f: impl Fn(T, u32) -> T + Send + Sync + 'static) -> Lowered {
    match it.operand(2)? {
        // by the same in all lanes, as nearly always: that is a vector operation
        Operand::Integer(by) => {
            it.expect(3)?;
            let (d, a, by) = (it.target::<T>()?, it.source::<T>(1)?, *by as u32);
            compute(move |frame, mask| T::set(frame, d, mask, map(T::get(frame, a), |a| f(a, by))))
        }
        _ => it.binary(f),
    }
}

/// `shf`: a window of 32 bits of a number of 64.
pub(super) fn funnel_shift(it: &mut Lowering<'_, '_>) -> Lowered {
    let left = it.choose(&[("l", true), ("r", false)])?;
    let clamp = it.choose(&[("clamp", true), ("wrap", false)])?;
    it.require("b32")?;
    it.ternary(move |low: u32, high: u32, by: u32| {
        let by = if clamp { by.min(32) } else { by % 32 };
        let both = u64::from(high) << 32 | u64::from(low);
        if left { (both << by >> 32) as u32 } else { (both >> by) as u32 }
    })
}

/// `bfe`: `len` bits of `a` from `pos` on, and its sign above.
pub(super) fn extract(it: &mut Lowering<'_, '_>) -> Lowered {
    let narrow = |a: i64, pos: u32, len: u32, top: u32| {
        let (pos, len) = (pos & 0xff, len & 0xff);
        if len == 0 {
            return 0;
        }
        // arithmetic, so that the sign is above whether the field reaches past the top or lies there altogether
        let up = 63 - (pos + len - 1).min(top);
        a << up >> up >> pos.min(63)
    };
    match it.ty() {
        "s32" => it.ternary(move |a: i32, pos, len| narrow(a.into(), pos, len, 31) as i32),
        "s64" => it.ternary(move |a: i64, pos, len| narrow(a, pos, len, 63)),
        "u32" => it.ternary(|a: u32, pos, len| field(a.into(), pos, len) as u32),
        "u64" => it.ternary(field),
        ty => it.unmodelled(ty),
    }
}

/// `len` ones.
fn ones(len: u32) -> u64 {
    if len < 64 { (1 << len) - 1 } else { u64::MAX }
}

fn field(a: u64, pos: u32, len: u32) -> u64 {
    a.checked_shr(pos & 0xff).unwrap_or(0) & ones(len & 0xff)
}

/// `bfi`: `b` with the low `len` bits of `a` at `pos`.
pub(super) fn insert(it: &mut Lowering<'_, '_>) -> Lowered {
    let f = |a: u64, b: u64, pos: u32, len: u32| {
        let field = ones(len & 0xff).checked_shl(pos & 0xff).unwrap_or(0);
        (b & !field) | (a.checked_shl(pos & 0xff).unwrap_or(0) & field)
    };
    match it.ty() {
        "b32" => it.quaternary(move |a: u32, b: u32, pos, len| f(a.into(), b.into(), pos, len) as u32),
        "b64" => it.quaternary(f),
        ty => it.unmodelled(ty),
    }
}

/// `szext`: the low `n` bits, and their sign or zeros above.
pub(super) fn extend(it: &mut Lowering<'_, '_>) -> Lowered {
    let clamp = it.choose(&[("clamp", true), ("wrap", false)])?;
    let low = move |n: u32| if clamp { n.min(32) } else { n % 32 };
    match it.ty() {
        "u32" => it.binary(move |a: u32, n: u32| a & ones(low(n)) as u32),
        "s32" => it.binary(move |a: i32, n: u32| match low(n) {
            0 => 0,
            n => a << (32 - n) >> (32 - n),
        }),
        ty => it.unmodelled(ty),
    }
}

/// `bmsk`: `width` ones from bit `start` on.
pub(super) fn mask(it: &mut Lowering<'_, '_>) -> Lowered {
    let clamp = it.choose(&[("clamp", true), ("wrap", false)])?;
    match it.ty() {
        "b32" => it.binary(move |start: u32, width: u32| {
            let limit = |n: u32| if clamp { n.min(32) } else { n % 32 };
            (ones(limit(width)) << limit(start)) as u32
        }),
        ty => it.unmodelled(ty),
    }
}

/// `popc`, `clz`, `brev`, `bfind`, `fns`.
pub(super) fn count(it: &mut Lowering<'_, '_>) -> Lowered {
    // 0xffff_ffff where there is none
    let shift = it.take("shiftamt");
    let find = move |leading: u32, bits: u32| match (leading == bits, shift) {
        (true, _) => u32::MAX,
        (_, true) => leading,
        _ => bits - 1 - leading,
    };
    match (it.opcode(), it.ty()) {
        (opcode, ty) if shift && opcode != "bfind" => it.unmodelled(ty),
        ("popc", "b32") => it.unary(u32::count_ones),
        ("popc", "b64") => it.unary(u64::count_ones),
        ("clz", "b32") => it.unary(u32::leading_zeros),
        ("clz", "b64") => it.unary(u64::leading_zeros),
        ("brev", "b32") => it.unary(u32::reverse_bits),
        ("brev", "b64") => it.unary(u64::reverse_bits),
        ("bfind", "u32") => it.unary(move |a: u32| find(a.leading_zeros(), 32)),
        ("bfind", "u64") => it.unary(move |a: u64| find(a.leading_zeros(), 64)),
        ("bfind", "s32") => it.unary(move |a: i32| find((a ^ (a >> 31)).leading_zeros(), 32)),
        ("bfind", "s64") => it.unary(move |a: i64| find((a ^ (a >> 63)).leading_zeros(), 64)),
        ("fns", "b32") => it.ternary(find_nth),
        (_, ty) => it.unmodelled(ty),
    }
}

/// The position of the `offset`-th set bit from `base` on, counted from 1 upwards or downwards by its sign.
fn find_nth(mask: u32, base: u32, offset: i32) -> u32 {
    let set = |position: &u32| mask.checked_shr(*position).unwrap_or(0) & 1 == 1;
    let steps = offset.unsigned_abs().saturating_sub(1) as usize;
    let found = match offset {
        0 => Some(base).filter(set),
        1.. => (base..32).filter(set).nth(steps),
        _ => (0..=base.min(31)).rev().filter(|_| base < 32).filter(set).nth(steps),
    };
    found.unwrap_or(u32::MAX)
}

/// `prmt`: four bytes picked from eight.
pub(super) fn permute(it: &mut Lowering<'_, '_>) -> Lowered {
    it.require("b32")?;
    type Pick = fn(u32, u32) -> u32;
    const MODES: [(&str, Pick); 6] = [
        ("f4e", |i, n| i + n),
        ("b4e", |i, n| n.wrapping_sub(i) & 7),
        ("rc8", |_, n| n),
        ("ecl", |i, n| i.max(n)),
        ("ecr", |i, n| i.min(n)),
        ("rc16", |i, n| (i & 1) + 2 * (n & 1)),
    ];
    match it.pick(&MODES) {
        None => it.ternary(|a, b, selector: u32| bytes(a, b, |i| selector >> (4 * i) & 15)),
        Some(pick) => it.ternary(move |a, b, selector: u32| bytes(a, b, |i| pick(i, selector & 3))),
    }
}

/// Byte `i` is byte `pick(i)` of `a` and `b`; its sign in every bit if bit 3 is set.
fn bytes(a: u32, b: u32, pick: impl Fn(u32) -> u32) -> u32 {
    let both = u64::from(b) << 32 | u64::from(a);
    let byte = |i: u32| {
        let pick = pick(i);
        let byte = (both >> (8 * (pick & 7))) as u8;
        if pick & 8 == 0 { byte } else { (byte as i8 >> 7) as u8 }
    };
    u32::from_le_bytes([byte(0), byte(1), byte(2), byte(3)])
}
