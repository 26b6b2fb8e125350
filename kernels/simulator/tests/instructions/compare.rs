//! Comparisons.

use std::cmp::Ordering;

use rustc_apfloat::ieee::{BFloat, Double, Half, Single};

use super::harness::check;
use super::integer::sign_extend;
use super::numbers::Number;

/// Which orders satisfy a comparison; `None` is that of what is not a number.
fn holds(relation: &str, order: Option<Ordering>) -> bool {
    let Some(order) = order else { return relation.ends_with('u') || ["nan"].contains(&relation) };
    match relation {
        "num" => true,
        "nan" => false,
        "lo" => order.is_lt(),
        "ls" => order.is_le(),
        "hi" => order.is_gt(),
        "hs" => order.is_ge(),
        _ => match &relation[..2] {
            "eq" => order.is_eq(),
            "ne" => order.is_ne(),
            "lt" => order.is_lt(),
            "le" => order.is_le(),
            "gt" => order.is_gt(),
            "ge" => order.is_ge(),
            _ => panic!("{relation}"),
        },
    }
}

const NUMBERS: [&str; 14] =
    ["eq", "ne", "lt", "le", "gt", "ge", "equ", "neu", "ltu", "leu", "gtu", "geu", "num", "nan"];

fn combine(how: &str, a: u64, b: u64) -> u64 {
    match how {
        "and" => a & b,
        "or" => a | b,
        _ => a ^ b,
    }
}

/// `setp` in all its forms, of one comparison.
fn set_predicates(ty: &str, r: &str, relations: &[&str], flags: &str, order: impl Fn(u64, u64) -> Option<Ordering>) {
    for relation in relations {
        let test = |x: &[u64]| u64::from(holds(relation, order(x[0], x[1])));
        check(&format!("setp.{relation}{flags}.{ty} %p0, {r}1, {r}2"), |x| [test(x)]);
        check(&format!("setp.{relation}{flags}.{ty} %p0|%p1, {r}1, {r}2"), |x| [test(x), test(x) ^ 1]);
    }
    for how in ["and", "or", "xor"] {
        let relation = relations[relations.len() - 1];
        let test = |x: &[u64]| u64::from(holds(relation, order(x[0], x[1])));
        check(&format!("setp.{relation}.{how}{flags}.{ty} %p0|%p1, {r}1, {r}2, !%p2"), |x| {
            [combine(how, test(x), x[2] ^ 1), combine(how, test(x) ^ 1, x[2] ^ 1)]
        });
        check(&format!("setp.{relation}.{how}{flags}.{ty} %p0, {r}1, {r}2, %p0"), |x| [combine(how, test(x), x[2])]);
    }
}

#[test]
fn integers() {
    for (width, r) in [(16, "%rs"), (32, "%r"), (64, "%rd")] {
        let order = |signed| {
            move |a: u64, b: u64| {
                Some(sign_extend(a.into(), width, signed).cmp(&sign_extend(b.into(), width, signed)))
            }
        };
        set_predicates(&format!("b{width}"), r, &["eq", "ne"], "", order(false));
        set_predicates(&format!("s{width}"), r, &NUMBERS[..6], "", order(true));
        let unsigned = ["eq", "ne", "lt", "le", "gt", "ge", "lo", "ls", "hi", "hs"];
        set_predicates(&format!("u{width}"), r, &unsigned, "", order(false));
    }
}

fn floating<F: Number>(flags: &[&str]) {
    for flags in flags {
        let value = |bits| if flags.contains("ftz") { F::of(bits).flushed() } else { F::of(bits) };
        let order = |a: u64, b: u64| value(a).partial_cmp(&value(b));
        set_predicates(F::TYPE, F::REGISTER, &NUMBERS, flags, order);
        if F::WIDTH != 16 {
            continue;
        }
        // two comparisons, a predicate for each
        for relation in NUMBERS {
            let ty = F::TYPE;
            let test = |x: &[u64], i: u32| u64::from(holds(relation, order(x[0] >> (16 * i), x[1] >> (16 * i))));
            check(&format!("setp.{relation}{flags}.{ty}x2 %p0|%p1, %r1, %r2"), |x| [test(x, 0), test(x, 1)]);
            check(&format!("setp.{relation}.and{flags}.{ty}x2 %p0|%p1, %r1, %r2, %p2"), |x| {
                [test(x, 0) & x[2], test(x, 1) & x[2]]
            });
            let one = F::one().bits();
            check(&format!("set.{relation}{flags}.{ty}x2.{ty}x2 %r0, %r1, %r2"), |x| {
                [(test(x, 0) * one) | ((test(x, 1) * one) << 16)]
            });
            check(&format!("set.{relation}.or{flags}.u32.{ty}x2 %r0, %r1, %r2, %p2"), |x| {
                [((test(x, 0) | x[2]) * 0xffff) | ((test(x, 1) | x[2]) * 0xffff_0000)]
            });
        }
    }
}

#[test]
fn numbers() {
    floating::<Single>(&["", ".ftz"]);
    floating::<Double>(&[""]);
    floating::<Half>(&["", ".ftz"]);
    floating::<BFloat>(&[""]);
}

/// `set`: what stands for true has many forms.
#[test]
fn values() {
    let order = |x: &[u64]| f32::from_bits(x[0] as u32).partial_cmp(&f32::from_bits(x[1] as u32));
    let half = |x: &[u64]| Half::of(x[0]).partial_cmp(&Half::of(x[1]));
    let targets = [("u32", "%r", 0xffff_ffff), ("s32", "%r", 0xffff_ffff), ("f32", "%f", 0x3f80_0000)];
    for (ty, r, yes) in targets {
        check(&format!("set.ltu.{ty}.f32 {r}0, %f1, %f2"), |x| [u64::from(holds("ltu", order(x))) * yes]);
        check(&format!("set.ge.xor.{ty}.s32 {r}0, %r1, %r2, !%p1"), |x| {
            [(u64::from(x[0] as i32 >= x[1] as i32) ^ x[2] ^ 1) * yes]
        });
    }
    for (ty, yes) in [("u16", 0xffff), ("s16", 0xffff), ("f16", 0x3c00)] {
        check(&format!("set.gt.{ty}.f16 %rs0, %rs1, %rs2"), |x| [u64::from(holds("gt", half(x))) * yes]);
    }
    check("set.eq.bf16.bf16 %rs0, %rs1, %rs2", |x| [u64::from(BFloat::of(x[0]) == BFloat::of(x[1])) * 0x3f80]);
}
