//! Approximate functions: exact, and off by what the manual allows.

use std::cell::Cell;

use mdetr_simulator::options::Approximation;
use rustc_apfloat::ieee::{BFloat, Double, Half, Single};
use rustc_apfloat::{Float, FloatConvert, Round};

use super::harness::{check, check_as};
use super::numbers::{Number, finished};

/// How far a result may be from the exact one: ulps, a power of two of it, or a power of two.
#[derive(Clone, Copy)]
enum Bound {
    Ulp(f64),
    Relative(f64),
    Absolute(f64),
}
use Bound::{Absolute, Relative, Ulp};

fn wide<F: Number + FloatConvert<Double>>(value: F) -> f64 {
    f64::from_bits(value.convert(&mut false).value.to_bits() as u64)
}

fn rounded<F: Number>(value: f64) -> F
where
    Double: FloatConvert<F>,
{
    Double::of(value.to_bits()).convert_r(Round::NearestTiesToEven, &mut false).value
}

/// Checks `text` against a function of f64.
fn function<F: Number + FloatConvert<Double>>(text: &str, bound: impl Fn(&[f64]) -> Bound, f: impl Fn(&[f64]) -> f64)
where
    Double: FloatConvert<F>,
{
    let exact = |bits: &[u64]| {
        let flush = |value: F| if text.contains(".ftz") { value.flushed() } else { value };
        let values: Vec<_> = bits.iter().map(|&bits| wide(flush(F::of(bits)))).collect();
        (bound(&values), f(&values))
    };
    let nearest = |exact: f64| finished(text, rounded::<F>(exact)).bits();
    if text.contains("x2") {
        return check(text, |bits| {
            let half = |i: u32| nearest(exact(&[bits[0] >> (16 * i)]).1) << (16 * i);
            [half(0) | half(1)]
        });
    }
    check(text, |bits| [nearest(exact(bits).1)]);
    let (off, all) = (Cell::new(0), Cell::new(0));
    check_as(text, Approximation::Worst, |bits, [found]| {
        let (bound, exact) = exact(bits);
        let nearest = nearest(exact);
        if exact == 0.0 || !exact.is_finite() {
            return [nearest];
        }
        let exponent = exact.abs().log2().floor().max(F::MIN_EXP.into());
        let ulp = (exponent + 1.0 - F::PRECISION as f64).exp2();
        let distance = (wide(F::of(found)) - exact).abs();
        let allowed = match bound {
            Ulp(count) => count * ulp,
            Relative(power) => exact.abs() * power.exp2(),
            Absolute(power) => power.exp2(),
        };
        all.set(all.get() + 1);
        off.set(off.get() + u32::from(distance > 0.5 * ulp));
        let smallest = f64::from(F::MIN_EXP).exp2();
        let flushed = text.contains(".ftz") && F::of(found).is_zero() && exact.abs() - allowed < smallest;
        [if distance <= allowed || flushed { found } else { nearest }]
    });
    // of zeros, of infinities, and where the bound is tight, nothing is off
    assert!(6 * off.get() > all.get(), "{text}: only {off:?} of {all:?} results are off");
}

#[test]
fn quotients_and_roots() {
    for ftz in ["", ".ftz"] {
        function::<Single>(&format!("div.full{ftz}.f32 %f0, %f1, %f2"), |_| Ulp(2.0), |x| x[0] / x[1]);
        function::<Single>(
            &format!("div.approx{ftz}.f32 %f0, %f1, %f2"),
            |_| Ulp(2.0),
            |x| {
                let vanishes = x[1].abs() > 126f64.exp2();
                x[0] / if vanishes { f64::INFINITY.copysign(x[1]) } else { x[1] }
            },
        );
        function::<Single>(&format!("rcp.approx{ftz}.f32 %f0, %f1"), |_| Ulp(1.0), |x| 1.0 / x[0]);
        function::<Single>(&format!("sqrt.approx{ftz}.f32 %f0, %f1"), |_| Relative(-23.0), |x| x[0].sqrt());
        function::<Single>(&format!("rsqrt.approx{ftz}.f32 %f0, %f1"), |_| Relative(-22.9), |x| 1.0 / x[0].sqrt());
    }
    check("rsqrt.approx.f64 %fd0, %fd1", |x| [(1.0 / f64::from_bits(x[0]).sqrt()).to_bits()]);
    let high = |bits: u64| if bits >> 52 & 0x7ff == 0 { bits & 1 << 63 } else { bits >> 32 << 32 };
    let of_high = |bits: u64, f: fn(f64) -> f64| match f64::from_bits(bits) {
        x if x.is_nan() => [bits],
        _ => [high(f(f64::from_bits(high(bits))).to_bits())],
    };
    check("rcp.approx.ftz.f64 %fd0, %fd1", |x| of_high(x[0], |x| 1.0 / x));
    check("rsqrt.approx.ftz.f64 %fd0, %fd1", |x| of_high(x[0], |x| 1.0 / x.sqrt()));
}

#[test]
fn functions() {
    for ftz in ["", ".ftz"] {
        function::<Single>(&format!("ex2.approx{ftz}.f32 %f0, %f1"), |_| Ulp(2.0), |x| x[0].exp2());
        function::<Single>(&format!("sin.approx{ftz}.f32 %f0, %f1"), |_| Absolute(-20.5), |x| x[0].sin());
        function::<Single>(&format!("cos.approx{ftz}.f32 %f0, %f1"), |_| Absolute(-20.5), |x| x[0].cos());
        let near_one = |x: &[f64]| if x[0] > 0.5 && x[0] < 2.0 { Absolute(-22.0) } else { Relative(-22.0) };
        function::<Single>(&format!("lg2.approx{ftz}.f32 %f0, %f1"), near_one, |x| x[0].log2());
    }
    function::<Single>("tanh.approx.f32 %f0, %f1", |_| Relative(-11.0), |x| x[0].tanh());
    for text in ["f16 %rs0, %rs1", "f16x2 %r0, %r1"] {
        function::<Half>(&format!("ex2.approx.{text}"), |_| Relative(-9.9), |x| x[0].exp2());
        function::<Half>(&format!("tanh.approx.{text}"), |_| Absolute(-10.987), |x| x[0].tanh());
    }
    for text in ["bf16 %rs0, %rs1", "bf16x2 %r0, %r1"] {
        function::<BFloat>(&format!("ex2.approx.ftz.{text}"), |_| Relative(-7.0), |x| x[0].exp2());
        function::<BFloat>(&format!("tanh.approx.{text}"), |_| Absolute(-8.0), |x| x[0].tanh());
    }
}
