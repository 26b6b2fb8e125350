//! Floating-point arithmetic.

use rustc_apfloat::ieee::{BFloat, Double, Half, Quad, Single};
use rustc_apfloat::{Float, FloatConvert, Round};

use super::harness::check;
use super::numbers::{Number, ROUNDINGS, numbers};

/// `add`, `sub`, `mul` and `fma` with modifiers in front of the type.
fn arithmetic<F: Number>(modifiers: &str, round: Round) {
    numbers::<F>(&format!("add{modifiers}.T N0, N1, N2"), |x| x[0].add_r(x[1], round).value);
    numbers::<F>(&format!("sub{modifiers}.T N0, N1, N2"), |x| x[0].sub_r(x[1], round).value);
    numbers::<F>(&format!("mul{modifiers}.T N0, N1, N2"), |x| x[0].mul_r(x[1], round).value);
}

fn fused<F: Number>(modifiers: &str, round: Round) {
    numbers::<F>(&format!("fma{modifiers}.T N0, N1, N2, N3"), |x| x[0].mul_add_r(x[1], x[2], round).value);
}

#[test]
fn single_precision() {
    for (name, round) in ROUNDINGS {
        for modifiers in ["", ".ftz", ".sat", ".ftz.sat"] {
            arithmetic::<Single>(&format!(".{name}{modifiers}"), round);
            fused::<Single>(&format!(".{name}{modifiers}"), round);
        }
    }
    arithmetic::<Single>("", Round::NearestTiesToEven);
    numbers::<Single>("mad.rz.T N0, N1, N2, N3", |x| x[0].mul_add_r(x[1], x[2], Round::TowardZero).value);
}

#[test]
fn double_precision() {
    for (name, round) in ROUNDINGS {
        arithmetic::<Double>(&format!(".{name}"), round);
        fused::<Double>(&format!(".{name}"), round);
    }
    arithmetic::<Double>("", Round::NearestTiesToEven);
}

#[test]
fn half_precision() {
    let round = Round::NearestTiesToEven;
    for modifiers in ["", ".rn", ".ftz", ".rn.sat", ".rn.ftz.sat"] {
        arithmetic::<Half>(modifiers, round);
    }
    for modifiers in [".rn", ".rn.ftz", ".rn.sat", ".rn.relu", ".rn.ftz.relu"] {
        fused::<Half>(modifiers, round);
    }
    for modifiers in ["", ".rn"] {
        arithmetic::<BFloat>(modifiers, round);
    }
    for modifiers in [".rn", ".rn.relu"] {
        fused::<BFloat>(modifiers, round);
    }
}

#[test]
fn quotients() {
    for (name, round) in ROUNDINGS {
        for modifiers in ["", ".ftz"] {
            numbers::<Single>(&format!("div.{name}{modifiers}.T N0, N1, N2"), |x| x[0].div_r(x[1], round).value);
            numbers::<Single>(&format!("rcp.{name}{modifiers}.T N0, N1"), |x| Single::one().div_r(x[0], round).value);
        }
        numbers::<Double>(&format!("div.{name}.T N0, N1, N2"), |x| x[0].div_r(x[1], round).value);
        numbers::<Double>(&format!("rcp.{name}.T N0, N1"), |x| Double::one().div_r(x[0], round).value);
    }
}

/// The root of `x` by its square, which 113 bits hold exactly; `guess` is not far from it.
fn root<F: Number + FloatConvert<Quad>>(x: F, guess: F, round: Round) -> F {
    if x.is_nan() || x.is_zero() || x.is_negative() || x.is_infinite() {
        return guess;
    }
    let wide = |value: F| value.convert(&mut false).value;
    let square = |value: F| (wide(value) * wide(value)).value;
    let mut below = guess;
    while square(below) > wide(x) {
        below = below.next_down().value;
    }
    let above = below.next_up().value;
    if square(above) <= wide(x) {
        return root(x, above, round);
    }
    let middle = ((wide(below) + wide(above)).value * Quad::from_i128(1).value.scalbn(-1)).value;
    let up = match round {
        Round::TowardPositive => square(below) < wide(x),
        Round::NearestTiesToEven => (middle * middle).value < wide(x),
        _ => false,
    };
    if up { above } else { below }
}

#[test]
fn roots() {
    for (name, round) in ROUNDINGS {
        for modifiers in ["", ".ftz"] {
            numbers::<Single>(&format!("sqrt.{name}{modifiers}.T N0, N1"), |x| {
                root(x[0], Single::of(f32::from_bits(x[0].to_bits() as u32).sqrt().to_bits().into()), round)
            });
        }
        numbers::<Double>(&format!("sqrt.{name}.T N0, N1"), |x| {
            root(x[0], Double::of(f64::from_bits(x[0].to_bits() as u64).sqrt().to_bits()), round)
        });
    }
}

/// Signs are changed whatever the rest is: no NaN becomes the canonical one.
#[test]
fn signs() {
    let sign = |width: u32| 1_u64 << (width - 1);
    for (ty, width, r, count) in [
        ("f32", 32, "%f", 1),
        ("f64", 64, "%fd", 1),
        ("f16", 16, "%rs", 1),
        ("bf16", 16, "%rs", 1),
        ("f16x2", 16, "%r", 2),
        ("bf16x2", 16, "%r", 2),
    ] {
        let signs: u64 = (0..count).map(|i| sign(width) << (width * i)).sum();
        check(&format!("neg.{ty} {r}0, {r}1"), |x| [x[0] ^ signs]);
        check(&format!("abs.{ty} {r}0, {r}1"), |x| [x[0] & !signs]);
    }
    let flush = |bits: u64| if bits & 0x7f80_0000 == 0 { bits & sign(32) } else { bits };
    check("neg.ftz.f32 %f0, %f1", |x| [flush(x[0]) ^ sign(32)]);
    check("abs.ftz.f32 %f0, %f1", |x| [flush(x[0]) & !sign(32)]);
    let flush = |bits: u64| if bits & 0x7c00 == 0 { bits & sign(16) } else { bits };
    check("neg.ftz.f16 %rs0, %rs1", |x| [flush(x[0]) ^ sign(16)]);
    for (width, r) in [(32, "%f"), (64, "%fd")] {
        check(&format!("copysign.f{width} {r}0, {r}1, {r}2"), |x| [(x[0] & sign(width)) | (x[1] & !sign(width))]);
    }
}

/// The smaller one, or the larger; 0 is larger than -0.
fn extremum<F: Number>(x: &[F], largest: bool, nan: bool) -> F {
    match (x[0].is_nan(), x[1].is_nan()) {
        (true, true) => F::NAN,
        (true, false) => {
            if nan {
                F::NAN
            } else {
                x[1]
            }
        }
        (false, true) => {
            if nan {
                F::NAN
            } else {
                x[0]
            }
        }
        (false, false) => {
            let less = x[0] < x[1] || (x[0].is_zero() && x[1].is_zero() && x[0].is_negative());
            if less == largest { x[1] } else { x[0] }
        }
    }
}

fn extremes<F: Number>(modifiers: &[&str]) {
    for (opcode, largest) in [("min", false), ("max", true)] {
        for modifiers in modifiers {
            let nan = modifiers.contains("NaN");
            numbers::<F>(&format!("{opcode}{modifiers}.T N0, N1, N2"), |x| {
                if !modifiers.contains("xorsign") {
                    return extremum(x, largest, nan);
                }
                let value = extremum(&[x[0].abs(), x[1].abs()], largest, nan);
                if x[0].is_negative() != x[1].is_negative() { -value } else { value }
            });
        }
    }
}

#[test]
fn smallest_and_largest() {
    extremes::<Single>(&["", ".ftz", ".NaN", ".ftz.NaN", ".xorsign.abs", ".ftz.NaN.xorsign.abs"]);
    extremes::<Double>(&[""]);
    extremes::<Half>(&["", ".ftz", ".NaN", ".ftz.NaN.xorsign.abs"]);
    extremes::<BFloat>(&["", ".NaN", ".NaN.xorsign.abs"]);
}

fn classes<F: Number>() {
    type Test<F> = fn(F) -> bool;
    let tests: [(&str, Test<F>); 6] = [
        ("finite", |x| x.is_finite()),
        ("infinite", |x| x.is_infinite()),
        ("number", |x| !x.is_nan()),
        ("notanumber", |x| x.is_nan()),
        ("normal", |x| x.is_normal() || x.is_zero()),
        ("subnormal", |x| x.is_denormal()),
    ];
    for (name, test) in tests {
        check(&format!("testp.{name}.{} %p0, {}1", F::TYPE, F::REGISTER), |x| [test(F::of(x[0])).into()]);
    }
}

#[test]
fn kinds_of_numbers() {
    classes::<Single>();
    classes::<Double>();
}
