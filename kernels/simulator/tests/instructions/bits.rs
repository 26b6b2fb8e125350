//! Bits, defined bit by bit.

use super::harness::check;
use super::integer::sign_extend;

/// Name of a type, size, and a register of it.
const WORDS: [(&str, u32, &str); 3] = [("b16", 16, "%rs"), ("b32", 32, "%r"), ("b64", 64, "%rd")];

/// The number whose bit `i` is `f(i)`.
fn bits(width: u32, f: impl Fn(u32) -> bool) -> u64 {
    (0..width).map(|i| u64::from(f(i)) << i).sum()
}

/// Bit `i`; above the number there are zeros.
fn bit(x: u64, i: u32) -> bool {
    i < 64 && x >> i & 1 == 1
}

#[test]
fn logic() {
    for (ty, width, r) in [WORDS[0], WORDS[1], WORDS[2], ("pred", 1, "%p")] {
        let binary = |opcode: &str, f: fn(bool, bool) -> bool| {
            let text = format!("{opcode}.{ty} {r}0, {r}1, {r}2");
            check(&text, |x| [bits(width, |i| f(bit(x[0], i), bit(x[1], i)))]);
        };
        binary("and", |a, b| a && b);
        binary("or", |a, b| a || b);
        binary("xor", |a, b| a != b);
        check(&format!("not.{ty} {r}0, {r}1"), |x| [bits(width, |i| !bit(x[0], i))]);
        if width > 1 {
            check(&format!("cnot.{ty} {r}0, {r}1"), |x| [u64::from((0..width).all(|i| !bit(x[0], i)))]);
        }
    }
    check("and.pred %p0, %p1, !%p2", |x| [x[0] & (x[1] ^ 1)]);
}

#[test]
fn functions_of_three_bits() {
    // each bit of a table is set alone in one of these
    for table in [0x01, 0x02, 0x04, 0x08, 0x10, 0x20, 0x40, 0x80, 0x96, 0xe8, 0xff_u64] {
        let entry = |a, b, c| bit(table, 4 * u32::from(a) + 2 * u32::from(b) + u32::from(c));
        let f = |x: &[u64]| bits(32, |i| entry(bit(x[0], i), bit(x[1], i), bit(x[2], i)));
        check(&format!("lop3.b32 %r0, %r1, %r2, %r3, {table}"), |x| [f(x)]);
        let text = format!("lop3.or.b32 %r0|%p0, %r1, %r2, %r3, {table}, %p1");
        check(&text, |x| [f(x), u64::from(f(x) != 0) | x[3]]);
        let text = format!("lop3.and.b32 _|%p0, %r1, %r2, %r3, {table}, !%p1");
        check(&text, |x| [u64::from(f(x) != 0) & (x[3] ^ 1)]);
    }
}

#[test]
fn shifts() {
    for (ty, width, r) in WORDS {
        // the amount is unsigned and may be anything, and clamped
        let source = |x: &[u64], i: i64| bit(x[0], i.try_into().unwrap_or(64));
        check(&format!("shl.{ty} {r}0, {r}1, %r2"), |x| [bits(width, |i| source(x, i64::from(i) - x[1] as i64))]);
        for amount in [0, 3, width - 1, width, width + 1, u32::MAX] {
            let text = format!("shl.{ty} {r}0, {r}1, {amount}");
            check(&text, |x| [bits(width, |i| source(x, i64::from(i) - i64::from(amount)))]);
        }
        let unsigned = ty.replace('b', "u");
        for ty in [ty, &unsigned] {
            check(&format!("shr.{ty} {r}0, {r}1, %r2"), |x| [bits(width, |i| source(x, i64::from(i) + x[1] as i64))]);
        }
        let signed = ty.replace('b', "s");
        check(&format!("shr.{signed} {r}0, {r}1, %r2"), |x| {
            [bits(width, |i| source(x, (i64::from(i) + x[1] as i64).min(i64::from(width) - 1)))]
        });
    }
}

#[test]
fn funnel_shifts() {
    for (mode, limit) in [("clamp", (|n| n.min(32)) as fn(u64) -> u64), ("wrap", |n| n % 32)] {
        check(&format!("shf.l.{mode}.b32 %r0, %r1, %r2, %r3"), |x| {
            [(u128::from(x[1] << 32 | x[0]) << limit(x[2]) >> 32) as u64]
        });
        check(&format!("shf.r.{mode}.b32 %r0, %r1, %r2, %r3"), |x| [(x[1] << 32 | x[0]) >> limit(x[2])]);
    }
}

#[test]
fn fields() {
    for (width, r) in [(32, "%r"), (64, "%rd")] {
        for sign in ["u", "s"] {
            let top = width - 1;
            check(&format!("bfe.{sign}{width} {r}0, {r}1, %r2, %r3"), |x| {
                let (pos, len) = (x[1] as u32 & 255, x[2] as u32 & 255);
                let above = sign == "s" && len > 0 && bit(x[0], (pos + len - 1).min(top));
                [bits(width, |i| if i < len && pos + i <= top { bit(x[0], pos + i) } else { above })]
            });
        }
        check(&format!("bfi.b{width} {r}0, {r}1, {r}2, %r3, %r4"), |x| {
            let (pos, len) = (x[2] as u32 & 255, x[3] as u32 & 255);
            [bits(width, |i| if i >= pos && i < pos + len { bit(x[0], i - pos) } else { bit(x[1], i) })]
        });
    }
    for (mode, limit) in [("clamp", (|n| n.min(32)) as fn(u64) -> u64), ("wrap", |n| n % 32)] {
        check(&format!("szext.{mode}.u32 %r0, %r1, %r2"), |x| {
            [bits(32, |i| u64::from(i) < limit(x[1]) && bit(x[0], i))]
        });
        check(&format!("szext.{mode}.s32 %r0, %r1, %r2"), |x| match limit(x[1]) as u32 {
            0 => [0],
            n => [bits(32, |i| bit(x[0], i.min(n - 1)))],
        });
        check(&format!("bmsk.{mode}.b32 %r0, %r1, %r2"), |x| {
            let (start, len) = (limit(x[0]), limit(x[1]));
            [bits(32, |i| (start..start + len).contains(&i.into()))]
        });
    }
}

#[test]
fn counts() {
    for (width, r) in [(32, "%r"), (64, "%rd")] {
        let highest = |x: u64, which: bool| (0..width).rev().find(|&i| bit(x, i) == which);
        let leading = |x| highest(x, true).map_or(width, |i| width - 1 - i);
        check(&format!("popc.b{width} %r0, {r}1"), |x| [(0..width).filter(|&i| bit(x[0], i)).count() as u64]);
        check(&format!("clz.b{width} %r0, {r}1"), |x| [leading(x[0]).into()]);
        check(&format!("brev.b{width} {r}0, {r}1"), |x| [bits(width, |i| bit(x[0], width - 1 - i))]);
        for sign in ["u", "s"] {
            // of a negative number, the highest 0
            let find = |x: u64| highest(x, sign == "u" || !bit(x, width - 1));
            let none = u64::from(u32::MAX);
            check(&format!("bfind.{sign}{width} %r0, {r}1"), |x| [find(x[0]).map_or(none, u64::from)]);
            check(&format!("bfind.shiftamt.{sign}{width} %r0, {r}1"), |x| {
                [find(x[0]).map_or(none, |i| u64::from(width - 1 - i))]
            });
        }
    }
    check("fns.b32 %r0, %r1, %r2, %r3", |x| {
        let offset = sign_extend(x[2].into(), 32, true) as i64;
        let (mut position, mut left) = (x[1] as i64, offset.abs());
        while (0..32).contains(&position) {
            if bit(x[0], position as u32) {
                left -= 1;
                if left <= 0 {
                    return [position as u64];
                }
            }
            if offset == 0 {
                break;
            }
            position += offset.signum();
        }
        [u32::MAX.into()]
    });
}

#[test]
fn permutations() {
    let byte = |x: &[u64], i: u64| (x[1] << 32 | x[0]) >> (8 * i) & 0xff;
    check("prmt.b32 %r0, %r1, %r2, %r3", |x| {
        let picked = |i: u64| {
            let pick = x[2] >> (4 * i) & 15;
            let value = byte(x, pick % 8);
            if pick < 8 { value } else { 0xff * (value >> 7) }
        };
        [(0..4).map(|i| picked(i) << (8 * i)).sum()]
    });
    // the manual's tables, the most significant byte first
    let tables = [
        ("f4e", [0x3210, 0x4321, 0x5432, 0x6543]),
        ("b4e", [0x5670, 0x6701, 0x7012, 0x0123]),
        ("rc8", [0x0000, 0x1111, 0x2222, 0x3333]),
        ("ecl", [0x3210, 0x3211, 0x3222, 0x3333]),
        ("ecr", [0x0000, 0x1110, 0x2210, 0x3210]),
        ("rc16", [0x1010, 0x3232, 0x1010, 0x3232]),
    ];
    for (mode, picks) in tables {
        check(&format!("prmt.b32.{mode} %r0, %r1, %r2, %r3"), |x| {
            let pick: u64 = picks[(x[2] % 4) as usize];
            [(0..4).map(|i| byte(x, pick >> (4 * i) & 15) << (8 * i)).sum()]
        });
    }
}
