//! Integers of many words: addition, subtraction and multiplication through the carry register.

use super::lowering::{Lowered, Lowering, compute};
use crate::vm::registers::{Lane, lanes_of};

/// `add.cc`, `addc`, `sub.cc`, `subc`, `mad.cc`, `madc`; `writes` says whether `.cc` is there.
pub(super) fn lower(it: &mut Lowering<'_, '_>, ty: &str, writes: bool) -> Lowered {
    match ty {
        "u32" => by_opcode::<u32>(it, writes),
        "s32" => by_opcode::<i32>(it, writes),
        "u64" => by_opcode::<u64>(it, writes),
        "s64" => by_opcode::<i64>(it, writes),
        _ => it.unmodelled(ty),
    }
}

fn by_opcode<T: Lane + Into<i128>>(it: &mut Lowering<'_, '_>, writes: bool) -> Lowered {
    match it.opcode() {
        "add" | "addc" => carried::<T>(it, writes, |a, b, _, carry| unsigned(a) + unsigned(b) + carry),
        "sub" | "subc" => carried::<T>(it, writes, |a, b, _, borrow| unsigned(a) - unsigned(b) - borrow),
        _ if it.choose(&[("lo", false), ("hi", true)])? => carried::<T>(it, writes, |a, b, c, carry| {
            let high = (product(a, b) >> T::BITS) as u128 & u128::from(u64::MAX >> (64 - T::BITS));
            high as i128 + unsigned(c) + carry
        }),
        _ => carried::<T>(it, writes, |a, b, c, carry| {
            unsigned(T::from_bits(product(a, b) as u64)) + unsigned(c) + carry
        }),
    }
}

fn unsigned<T: Lane>(value: T) -> i128 {
    value.bits().into()
}

/// All bits of a product; those of unsigned numbers of 64 bits look negative.
fn product<T: Into<i128>>(a: T, b: T) -> i128 {
    a.into().wrapping_mul(b.into())
}

/// `f` of the operands and the carry is exact: the bit above the type is the new carry, as it is the borrow of a
/// negative number.
fn carried<T: Lane>(
    it: &mut Lowering<'_, '_>,
    writes: bool,
    f: impl Fn(T, T, T, i128) -> i128 + Send + Sync + 'static,
) -> Lowered {
    let opcode = it.opcode();
    let multiplies = opcode.starts_with("mad");
    it.expect(if multiplies { 4 } else { 3 })?;
    let (d, a, b) = (it.target::<T>()?, it.source::<T>(1)?, it.source::<T>(2)?);
    let c = if multiplies { it.source::<T>(3)? } else { b };
    let (register, reads) = (it.operands.carry(), opcode.ends_with('c'));
    compute(move |frame, mask| {
        let (a, b, c) = (T::get(frame, a), T::get(frame, b), T::get(frame, c));
        let carry = if reads { frame.predicates[register as usize] } else { 0 };
        let (mut values, mut carries) = (a, 0);
        for lane in lanes_of(mask) {
            let sum = f(a[lane], b[lane], c[lane], i128::from(carry >> lane & 1));
            values[lane] = T::from_bits(sum as u64);
            carries |= u32::from(sum >> T::BITS & 1 == 1) << lane;
        }
        T::set(frame, d, mask, values);
        if writes {
            frame.set_predicate(register, mask, carries);
        }
    })
}
