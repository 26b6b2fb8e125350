//! Integer arithmetic, defined by integers of 128 bits.

use super::harness::check;

/// A type: its name, its size, and whether it is signed.
#[derive(Clone, Copy)]
struct Type(&'static str, u32, bool);

const U16: Type = Type("u16", 16, false);
const S16: Type = Type("s16", 16, true);
const U32: Type = Type("u32", 32, false);
const S32: Type = Type("s32", 32, true);
const U64: Type = Type("u64", 64, false);
const S64: Type = Type("s64", 64, true);
const ALL: [Type; 6] = [U16, S16, U32, S32, U64, S64];
const SIGNED: [Type; 3] = [S16, S32, S64];

impl Type {
    fn value(self, bits: u64) -> i128 {
        sign_extend(bits.into(), self.1, self.2)
    }

    fn largest(self) -> i128 {
        (1 << (self.1 - u32::from(self.2))) - 1
    }

    fn smallest(self) -> i128 {
        if self.2 { -1 << (self.1 - 1) } else { 0 }
    }

    /// Only the bits that a type has, as a number of the type.
    fn wrap(self, value: i128) -> i128 {
        sign_extend(value as u128, self.1, self.2)
    }
}

/// The low bits of a word as a number.
pub fn sign_extend(bits: u128, width: u32, signed: bool) -> i128 {
    let low = (bits & ((1 << width) - 1)) as i128;
    if signed && low >> (width - 1) == 1 { low - (1 << width) } else { low }
}

/// Checks `text` for each of `types`: `T` stands for its name, `N` for its registers, `W` for those twice as wide.
fn integers(types: &[Type], text: &str, definition: impl Fn(Type, &[i128]) -> i128) {
    for &ty in types {
        let register = |bits| match bits {
            16 => "%rs",
            32 => "%r",
            _ => "%rd",
        };
        let text = text.replace('N', register(ty.1)).replace('W', register(2 * ty.1)).replace('T', ty.0);
        check(&text, |bits| {
            // a third operand may be twice as wide
            let wide = text.contains("wide") && bits.len() == 3;
            let mut values: Vec<_> = bits.iter().map(|&bits| ty.value(bits)).collect();
            if wide {
                values[2] = sign_extend(bits[2].into(), 2 * ty.1, ty.2);
            }
            [definition(ty, &values) as u64]
        });
    }
}

#[test]
fn sums_and_products() {
    integers(&ALL, "add.T N0, N1, N2", |_, x| x[0] + x[1]);
    integers(&ALL, "sub.T N0, N1, N2", |_, x| x[0] - x[1]);
    integers(&[S32], "add.sat.T N0, N1, N2", |t, x| (x[0] + x[1]).clamp(t.smallest(), t.largest()));
    integers(&[S32], "sub.sat.T N0, N1, N2", |t, x| (x[0] - x[1]).clamp(t.smallest(), t.largest()));
    integers(&ALL, "mul.lo.T N0, N1, N2", |_, x| x[0].wrapping_mul(x[1]));
    integers(&ALL, "mul.hi.T N0, N1, N2", |t, x| x[0].wrapping_mul(x[1]) >> t.1);
    integers(&ALL[..4], "mul.wide.T W0, N1, N2", |_, x| x[0] * x[1]);
    integers(&ALL, "mad.lo.T N0, N1, N2, N3", |_, x| x[0].wrapping_mul(x[1]).wrapping_add(x[2]));
    integers(&ALL, "mad.hi.T N0, N1, N2, N3", |t, x| (x[0].wrapping_mul(x[1]) >> t.1) + x[2]);
    integers(&ALL[..4], "mad.wide.T W0, N1, N2, W3", |_, x| x[0] * x[1] + x[2]);
    integers(&[S32], "mad.hi.sat.T N0, N1, N2, N3", |t, x| {
        (((x[0] * x[1]) >> 32) + x[2]).clamp(t.smallest(), t.largest())
    });
    integers(&ALL, "sad.T N0, N1, N2, N3", |_, x| x[2] + (x[0] - x[1]).abs());
}

#[test]
fn products_of_24_bits() {
    let low = |t: Type, x: i128| sign_extend(x as u128, 24, t.2);
    let product = |t: Type, x: &[i128]| low(t, x[0]) * low(t, x[1]);
    let types = [U32, S32];
    integers(&types, "mul24.lo.T N0, N1, N2", |t, x| product(t, x));
    integers(&types, "mul24.hi.T N0, N1, N2", |t, x| product(t, x) >> 16);
    integers(&types, "mad24.lo.T N0, N1, N2, N3", |t, x| product(t, x) + x[2]);
    integers(&types, "mad24.hi.T N0, N1, N2, N3", |t, x| (product(t, x) >> 16) + x[2]);
    integers(&[S32], "mad24.hi.sat.T N0, N1, N2, N3", |t, x| {
        (t.wrap(product(t, x) >> 16) + x[2]).clamp(t.smallest(), t.largest())
    });
}

#[test]
fn quotients() {
    integers(&ALL, "div.T N0, N1, N2", |_, x| if x[1] == 0 { -1 } else { x[0] / x[1] });
    integers(&ALL, "rem.T N0, N1, N2", |_, x| if x[1] == 0 { x[0] } else { x[0] % x[1] });
}

#[test]
fn signs_and_extremes() {
    integers(&SIGNED, "abs.T N0, N1", |_, x| x[0].abs());
    integers(&SIGNED, "neg.T N0, N1", |_, x| -x[0]);
    integers(&ALL, "min.T N0, N1, N2", |_, x| x[0].min(x[1]));
    integers(&ALL, "max.T N0, N1, N2", |_, x| x[0].max(x[1]));
    integers(&[S32], "min.relu.T N0, N1, N2", |_, x| x[0].min(x[1]).max(0));
    integers(&[S32], "max.relu.T N0, N1, N2", |_, x| x[0].max(x[1]).max(0));
}

#[test]
fn pairs_of_16_bits() {
    let halves = |text: &str, signed: bool, f: fn(i128, i128) -> i128| {
        check(text, |x| {
            let half = |x: u64, i: u32| sign_extend(u128::from(x >> (16 * i)), 16, signed);
            let of = |i: u32| (f(half(x[0], i), half(x[1], i)) as u64 & 0xffff) << (16 * i);
            [of(0) | of(1)]
        });
    };
    halves("add.u16x2 %r0, %r1, %r2", false, |a, b| a + b);
    halves("add.s16x2 %r0, %r1, %r2", true, |a, b| a + b);
    halves("min.u16x2 %r0, %r1, %r2", false, i128::min);
    halves("max.u16x2 %r0, %r1, %r2", false, i128::max);
    halves("min.s16x2 %r0, %r1, %r2", true, i128::min);
    halves("max.s16x2 %r0, %r1, %r2", true, i128::max);
    halves("min.relu.s16x2 %r0, %r1, %r2", true, |a, b| a.min(b).max(0));
    halves("max.relu.s16x2 %r0, %r1, %r2", true, |a, b| a.max(b).max(0));
}

#[test]
fn dot_products() {
    for (a, a_signed) in [("u32", false), ("s32", true)] {
        for (b, b_signed) in [("u32", false), ("s32", true)] {
            let byte = |x: u64, i: u32, signed| sign_extend(u128::from(x >> (8 * i)), 8, signed);
            let half = |x: u64, i: u32, signed| sign_extend(u128::from(x >> (16 * i)), 16, signed);
            check(&format!("dp4a.{a}.{b} %r0, %r1, %r2, %r3"), |x| {
                let products = (0..4).map(|i| byte(x[0], i, a_signed) * byte(x[1], i, b_signed));
                [(i128::from(x[2]) + products.sum::<i128>()) as u64]
            });
            for (part, first) in [("lo", 0), ("hi", 2)] {
                check(&format!("dp2a.{part}.{a}.{b} %r0, %r1, %r2, %r3"), |x| {
                    let products = (0..2).map(|i| half(x[0], i, a_signed) * byte(x[1], first + i, b_signed));
                    [(i128::from(x[2]) + products.sum::<i128>()) as u64]
                });
            }
        }
    }
}

#[test]
fn carries() {
    let wide = |low: u64, high: u64| i128::from(high) << 64 | i128::from(low);
    for ty in ["u64", "s64"] {
        // two words, and what is carried out of the upper one
        let text = format!("add.cc.{ty} %rd0, %rd3, %rd4; addc.cc.{ty} %rd1, %rd5, %rd6; addc.{ty} %rd2, 0, 0");
        check(&text, |x| {
            let (low, carry) = x[0].overflowing_add(x[1]);
            let sum = u128::from(x[2]) + u128::from(x[3]) + u128::from(carry);
            [low, sum as u64, (sum >> 64) as u64]
        });
        let text = format!("sub.cc.{ty} %rd0, %rd3, %rd4; subc.cc.{ty} %rd1, %rd5, %rd6; subc.{ty} %rd2, 0, 0");
        check(&text, |x| {
            let difference = wide(x[0], x[2]).wrapping_sub(wide(x[1], x[3]));
            let borrow = (x[2], x[0]) < (x[3], x[1]);
            [difference as u64, (difference >> 64) as u64, if borrow { u64::MAX } else { 0 }]
        });
    }
    let unsigned = |low: u64, high: u64| u128::from(high << 32 | low);
    // a product of 64 bits, added to a number of 64, and what is carried out of that
    let text = "mad.lo.cc.u32 %r0, %r3, %r4, %r5; madc.hi.cc.u32 %r1, %r3, %r4, %r6; addc.u32 %r2, 0, 0";
    check(text, |x| {
        let sum = u128::from(x[0]) * u128::from(x[1]) + unsigned(x[2], x[3]);
        [sum as u64, (sum >> 32) as u64, (sum >> 64) as u64]
    });
    let text = "mad.lo.cc.s32 %r0, %r3, %r4, %r5; madc.hi.s32 %r1, %r3, %r4, %r6";
    check(text, |x| {
        let product = S32.value(x[0]) * S32.value(x[1]);
        let sum = product + unsigned(x[2], x[3]) as i128;
        [sum as u64, (sum >> 32) as u64]
    });
    let text = "mad.lo.cc.u64 %rd0, %rd3, %rd4, %rd5; madc.hi.u64 %rd1, %rd3, %rd4, %rd6";
    check(text, |x| {
        let sum = (u128::from(x[0]) * u128::from(x[1])).wrapping_add(wide(x[2], x[3]) as u128);
        [sum as u64, (sum >> 64) as u64]
    });
    let text = "mad.hi.cc.u32 %r0, %r3, %r4, %r5; madc.lo.u32 %r1, %r3, %r4, %r6";
    check(text, |x| {
        let (product, carried) = (x[0] * x[1], |part: u64, add: u64| part + add);
        let high = carried(product >> 32, x[2]);
        [high, carried(product & 0xffff_ffff, x[3]) + (high >> 32)]
    });
    let text = "mad.lo.cc.s64 %rd0, %rd3, %rd4, %rd5; madc.hi.s64 %rd1, %rd3, %rd4, %rd6";
    check(text, |x| {
        let sum = (S64.value(x[0]) * S64.value(x[1])).wrapping_add(wide(x[2], x[3]));
        [sum as u64, (sum >> 64) as u64]
    });
}
