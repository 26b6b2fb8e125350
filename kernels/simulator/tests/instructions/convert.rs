//! Conversions between all types.

use rustc_apfloat::ieee::{BFloat, Double, Half, Single};
use rustc_apfloat::{Float, FloatConvert, Round};

use super::harness::check;
use super::integer::sign_extend;
use super::numbers::{Number, ROUNDINGS, finished};

const INTEGERS: [(&str, u32, bool); 8] = [
    ("u8", 8, false),
    ("s8", 8, true),
    ("u16", 16, false),
    ("s16", 16, true),
    ("u32", 32, false),
    ("s32", 32, true),
    ("u64", 64, false),
    ("s64", 64, true),
];

/// Registers that hold values of a size, and of larger ones.
fn registers(width: u32) -> &'static [(&'static str, u32)] {
    let all = &[("%rs", 16), ("%r", 32), ("%rd", 64)];
    match width {
        8 | 16 => all,
        32 => &all[1..],
        _ => &all[2..],
    }
}

fn clamp(value: i128, width: u32, signed: bool) -> i128 {
    let largest = (1_i128 << (width - u32::from(signed))) - 1;
    value.clamp(if signed { -largest - 1 } else { 0 }, largest)
}

#[test]
fn between_integers() {
    for (to, to_width, to_signed) in INTEGERS {
        for (from, from_width, from_signed) in INTEGERS {
            for (d, _) in registers(to_width) {
                for (a, _) in registers(from_width) {
                    let value = |x: u64| sign_extend(x.into(), from_width, from_signed);
                    // in a larger register, the number of the type is extended
                    check(&format!("cvt.{to}.{from} {d}0, {a}1"), |x| {
                        [sign_extend(value(x[0]) as u128, to_width, to_signed) as u64]
                    });
                    check(&format!("cvt.sat.{to}.{from} {d}0, {a}1"), |x| {
                        [clamp(value(x[0]), to_width, to_signed) as u64]
                    });
                }
            }
        }
    }
}

fn with_integers<F: Number>() {
    let (ty, r) = (F::TYPE, F::REGISTER);
    for (name, round) in ROUNDINGS {
        for (integer, width, signed) in INTEGERS {
            let (register, register_width) = registers(width)[0];
            for sat in ["", ".sat"] {
                let text = format!("cvt.{name}{sat}.{ty}.{integer} {r}0, {register}1");
                check(&text, |x| {
                    [finished(&text, F::from_i128_r(sign_extend(x[0].into(), width, signed), round).value).bits()]
                });
            }
            let ftz: &[&str] = if ty == "f32" { &["", ".ftz", ".ftz.sat"] } else { &["", ".sat"] };
            for modifiers in ftz {
                check(&format!("cvt.{name}i{modifiers}.{integer}.{ty} {register}0, {r}1"), |x| {
                    let value = F::of(x[0]);
                    let value = if modifiers.contains("ftz") { value.flushed() } else { value };
                    let wide = F::WIDTH == 64 || width == 64;
                    let whole = match value.is_nan() {
                        true if wide => 1 << (width - 1),
                        true => 0,
                        false => clamp(value.to_i128_r(128, round, &mut false).value, width, signed),
                    };
                    [sign_extend(whole as u128, width, signed) as u64 & (u64::MAX >> (64 - register_width))]
                });
            }
        }
        // whole numbers of the same type
        for modifiers in if ty == "f32" { &["", ".ftz", ".sat"][..] } else { &["", ".sat"] } {
            let text = format!("cvt.{name}i{modifiers}.{ty}.{ty} {r}0, {r}1");
            check(&text, |x| {
                let value = if text.contains("ftz") { F::of(x[0]).flushed() } else { F::of(x[0]) };
                [finished(&text, value.round_to_integral(round).value).bits()]
            });
        }
    }
}

#[test]
fn between_integers_and_numbers() {
    with_integers::<Single>();
    with_integers::<Double>();
    with_integers::<Half>();
    with_integers::<BFloat>();
}

fn between<T: Number, F: Number + FloatConvert<T>>(modifiers: &[&str]) {
    let narrows = T::PRECISION < F::PRECISION || (T::WIDTH == F::WIDTH && T::TYPE != F::TYPE);
    for (name, round) in &ROUNDINGS[..if narrows { 4 } else { 1 }] {
        for modifiers in modifiers {
            let rounding = if narrows { format!(".{name}") } else { String::new() };
            let text = format!("cvt{rounding}{modifiers}.{}.{} {}0, {}1", T::TYPE, F::TYPE, T::REGISTER, F::REGISTER);
            check(&text, |x| {
                let ftz = text.contains("ftz") && F::TYPE == "f32";
                let value = if ftz { F::of(x[0]).flushed() } else { F::of(x[0]) };
                let mut value: T = value.convert_r(*round, &mut false).value;
                if text.contains("satfinite") && value.is_infinite() {
                    value = T::largest().copy_sign(value);
                }
                // results of the smaller formats are not flushed
                let text = if T::TYPE == "f32" { text.clone() } else { text.replace(".ftz", "") };
                [finished(&text, value).bits()]
            });
        }
    }
}

#[test]
fn between_formats() {
    between::<Single, Single>(&["", ".ftz", ".sat", ".ftz.sat"]);
    between::<Single, Double>(&["", ".ftz", ".sat", ".ftz.sat"]);
    between::<Single, Half>(&["", ".ftz", ".sat"]);
    between::<Single, BFloat>(&["", ".ftz"]);
    between::<Double, Single>(&["", ".ftz", ".sat"]);
    between::<Double, Double>(&["", ".sat"]);
    between::<Double, Half>(&["", ".sat"]);
    between::<Double, BFloat>(&[""]);
    between::<Half, Single>(&["", ".ftz", ".sat", ".relu", ".satfinite", ".relu.satfinite"]);
    between::<Half, Double>(&["", ".sat"]);
    between::<Half, Half>(&["", ".sat"]);
    between::<BFloat, Single>(&["", ".relu", ".satfinite"]);
    between::<BFloat, Double>(&[""]);
    between::<BFloat, Half>(&[""]);
    between::<Half, BFloat>(&[""]);
}

/// Two numbers into a register, the first one into its upper half.
fn pairs<T: Number>()
where
    Single: FloatConvert<T>,
{
    for (name, round) in &ROUNDINGS[..2] {
        for relu in ["", ".relu"] {
            let text = format!("cvt.{name}{relu}.{}x2.f32 %r0, %f1, %f2", T::TYPE);
            check(&text, |x| {
                let half = |x| finished::<T>(&text, Single::of(x).convert_r(*round, &mut false).value).bits();
                [half(x[0]) << 16 | half(x[1])]
            });
        }
    }
}

#[test]
fn two_numbers() {
    pairs::<Half>();
    pairs::<BFloat>();
}

/// The last 13 bits are cut off: a multiple of the unit of the bit above them, by the exponent of the number.
#[test]
fn to_tf32() {
    let modes = [
        ("rna", Round::NearestTiesToAway),
        ("rn", Round::NearestTiesToEven),
        ("rz", Round::TowardZero),
        ("rna.satfinite", Round::NearestTiesToAway),
    ];
    for (name, round) in modes {
        check(&format!("cvt.{name}.tf32.f32 %r0, %f1"), |x| {
            let value = Single::of(x[0]);
            if !value.is_finite() {
                let largest = Single::of(0x7f7f_e000).copy_sign(value);
                return [if name.ends_with("satfinite") && value.is_infinite() { largest } else { value }.bits()];
            }
            let exponent = value.ilogb().max(Single::MIN_EXP);
            let wide: Double = value.convert(&mut false).value;
            let whole = wide.scalbn(10 - exponent).round_to_integral(round).value;
            let rounded: Single = whole.scalbn(exponent - 10).convert(&mut false).value;
            let finite = !name.ends_with("satfinite") || rounded.is_finite();
            [if finite { rounded } else { Single::of(0x7f7f_e000).copy_sign(value) }.bits()]
        });
    }
}

#[test]
fn saturated_and_packed() {
    for (ty, width, signed) in [("u16", 16, false), ("s16", 16, true)] {
        let part = |x: u64| clamp((x as i32).into(), width, signed) as u64 & 0xffff;
        check(&format!("cvt.pack.sat.{ty}.s32 %r0, %r1, %r2"), |x| [part(x[0]) << 16 | part(x[1])]);
    }
    for (ty, width, signed) in
        [("u8", 8, false), ("s8", 8, true), ("u4", 4, false), ("s4", 4, true), ("u2", 2, false)]
    {
        let part = |x: u64| clamp((x as i32).into(), width, signed) as u64 & ((1 << width) - 1);
        check(&format!("cvt.pack.sat.{ty}.s32.b32 %r0, %r1, %r2, %r3"), |x| {
            [x[2] << (2 * width) | part(x[0]) << width | part(x[1])]
        });
    }
}
