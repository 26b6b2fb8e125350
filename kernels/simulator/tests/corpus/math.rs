//! Mathematical functions, within the errors that the CUDA programming guide states, whether approximate instructions
//! are exact or as wrong as the PTX manual allows.

use std::ops::Range;

use bytemuck::Pod;
use mdetr_simulator::options::{Approximation, Options};

use crate::common::Arg;
use crate::support::{Float, Loaded, Random, for_each_device};

type Unary = fn(f64) -> f64;
type Binary = fn(f64, f64) -> f64;

const SAMPLES: usize = 400;
/// The guide compares with a correctly rounded result, which is half a unit away from the exact one.
const OF_THE_REFERENCE: f64 = 0.5;

/// (kernel, arguments, function, units in the last place)
type UnaryCase = (&'static str, Range<f64>, Unary, f64);

const UNARY_F32: [UnaryCase; 38] = [
    ("sinf", -10.0..10.0, f64::sin, 2.0),
    ("sinf", -1e7..1e7, f64::sin, 2.0), // beyond 105615 the argument is reduced by a table in local memory
    ("cosf", -10.0..10.0, f64::cos, 2.0),
    ("cosf", -1e30..1e30, f64::cos, 2.0),
    ("tanf", -1e6..1e6, f64::tan, 4.0),
    ("asinf", -1.0..1.0, f64::asin, 2.0),
    ("acosf", -1.0..1.0, f64::acos, 2.0),
    ("atanf", -20.0..20.0, f64::atan, 2.0),
    ("sinhf", -20.0..20.0, f64::sinh, 3.0),
    ("coshf", -20.0..20.0, f64::cosh, 2.0),
    ("tanhf", -12.0..12.0, f64::tanh, 2.0),
    ("expf", -100.0..88.0, f64::exp, 2.0),
    ("exp2f", -140.0..127.0, f64::exp2, 2.0),
    ("expm1f", -1.0..10.0, f64::exp_m1, 1.0),
    ("logf", 0.0..10.0, f64::ln, 1.0),
    ("log2f", 0.0..1e30, f64::log2, 1.0),
    ("log10f", 0.0..1e3, f64::log10, 2.0),
    ("log1pf", -0.9..5.0, f64::ln_1p, 1.0),
    ("sqrtf", 0.0..1e6, f64::sqrt, 0.0),
    ("rsqrtf", 0.0..1e6, |x| x.sqrt().recip(), 2.0),
    ("cbrtf", -1e6..1e6, f64::cbrt, 1.0),
    ("erff", -5.0..5.0, libm::erf, 2.0),
    ("erfcf", -5.0..9.0, libm::erfc, 4.0),
    ("lgammaf", 3.0..1e4, libm::lgamma, 6.0),
    ("tgammaf", 0.1..30.0, libm::tgamma, 5.0),
    ("floorf", -1e4..1e4, f64::floor, 0.0),
    ("ceilf", -1e4..1e4, f64::ceil, 0.0),
    ("truncf", -1e4..1e4, f64::trunc, 0.0),
    ("rintf", -100.0..100.0, f64::round_ties_even, 0.0),
    ("roundf", -100.0..100.0, f64::round, 0.0),
    ("fabsf", -100.0..100.0, f64::abs, 0.0),
    ("__sinf", 0.5..2.5, f64::sin, 8.0),
    ("__cosf", -1.0..1.0, f64::cos, 8.0),
    ("__expf", -20.0..20.0, f64::exp, 2.0 + 24.0),
    ("__logf", 3.0..1e6, f64::ln, 3.0),
    ("__frcp_rn", -1e3..1e3, f64::recip, 0.0),
    ("__frcp_rd", 1.0..1e3, f64::recip, 0.5),
    ("__fsqrt_ru", 0.0..1e3, f64::sqrt, 0.5),
];

/// (kernel, arguments, other arguments, function, units in the last place)
type BinaryCase = (&'static str, Range<f64>, Range<f64>, Binary, f64);

const BINARY_F32: [BinaryCase; 15] = [
    ("powf", 0.0..20.0, -10.0..10.0, f64::powf, 4.0),
    ("fmodf", -1e6..1e6, -30.0..30.0, |a, b| a % b, 0.0),
    ("atan2f", -5.0..5.0, -5.0..5.0, f64::atan2, 3.0),
    ("hypotf", -1e10..1e10, -1e10..1e10, f64::hypot, 3.0),
    ("fdimf", -5.0..5.0, -5.0..5.0, |a, b| (a - b).max(0.0), 0.0),
    ("copysignf", -5.0..5.0, -5.0..5.0, f64::copysign, 0.0),
    ("divide", -5.0..5.0, -5.0..5.0, |a, b| a / b, 0.0),
    ("divide", -1e-36..1e-36, 1.0..1e6, |a, b| a / b, 0.0),
    ("divide", -1e-20..1e20, 1e-30..1e-20, |a, b| a / b, 0.0),
    ("__powf", 1.0..2.0, -2.0..2.0, f64::powf, 16.0),
    ("__fdividef", -5.0..5.0, 1e-3..5.0, |a, b| a / b, 2.0),
    ("__fdiv_rn", -5.0..5.0, -5.0..5.0, |a, b| a / b, 0.0),
    ("__fdiv_rz", -5.0..5.0, -5.0..5.0, |a, b| a / b, 0.5),
    ("__fadd_rd", -5.0..5.0, -5.0..5.0, |a, b| a + b, 0.5),
    ("__fmul_ru", -5.0..5.0, -5.0..5.0, |a, b| a * b, 0.5),
];

/// The reference is rounded itself: a unit more, except where it is exact.
const UNARY_F64: [UnaryCase; 28] = [
    ("sin", -10.0..10.0, f64::sin, 2.0),
    ("sin", -1e15..1e15, f64::sin, 2.0),
    ("cos", -1e6..1e6, f64::cos, 2.0),
    ("tan", -1e3..1e3, f64::tan, 2.0),
    ("asin", -1.0..1.0, f64::asin, 2.0),
    ("acos", -1.0..1.0, f64::acos, 2.0),
    ("atan", -20.0..20.0, f64::atan, 2.0),
    ("sinh", -20.0..20.0, f64::sinh, 2.0),
    ("cosh", -20.0..20.0, f64::cosh, 1.0),
    ("tanh", -20.0..20.0, f64::tanh, 1.0),
    ("exp", -700.0..700.0, f64::exp, 1.0),
    ("exp2", -1000.0..1000.0, f64::exp2, 1.0),
    ("expm1", -1.0..10.0, f64::exp_m1, 1.0),
    ("log", 0.0..10.0, f64::ln, 1.0),
    ("log2", 0.0..1e30, f64::log2, 1.0),
    ("log10", 0.0..1e3, f64::log10, 1.0),
    ("log1p", -0.9..5.0, f64::ln_1p, 1.0),
    ("rsqrt", 0.0..1e6, |x| x.sqrt().recip(), 1.0),
    ("cbrt", -1e6..1e6, f64::cbrt, 1.0),
    ("erf", -5.0..5.0, libm::erf, 2.0),
    ("erfc", -5.0..9.0, libm::erfc, 5.0),
    ("lgamma", 3.0..1e4, libm::lgamma, 4.0),
    ("sqrt", 0.0..1e6, f64::sqrt, -1.0),
    ("floor", -1e4..1e4, f64::floor, -1.0),
    ("ceil", -1e4..1e4, f64::ceil, -1.0),
    ("trunc", -1e4..1e4, f64::trunc, -1.0),
    ("rint", -100.0..100.0, f64::round_ties_even, -1.0),
    ("round", -100.0..100.0, f64::round, -1.0),
];

const BINARY_F64: [BinaryCase; 6] = [
    ("pow", 0.0..20.0, -10.0..10.0, f64::powf, 2.0),
    ("atan2", -5.0..5.0, -5.0..5.0, f64::atan2, 2.0),
    ("hypot", -1e10..1e10, -1e10..1e10, f64::hypot, 2.0),
    ("fmod", -1e9..1e9, -30.0..30.0, |a, b| a % b, -1.0),
    ("divide", -5.0..5.0, -1e-300..1e10, |a, b| a / b, -1.0),
    ("__ddiv_rn", -5.0..5.0, -5.0..5.0, |a, b| a / b, -1.0),
];

fn call<I: Pod, O: Pod>(loaded: &mut Loaded, kernel: &str, columns: &[&[I]]) -> Vec<O> {
    let n = columns[0].len();
    let y = loaded.device.uninitialized::<O>(n);
    let buffers: Vec<_> = columns.iter().map(|column| loaded.device.upload(column)).collect();
    let mut args: Vec<Arg> = vec![(&y).into()];
    args.extend(buffers.iter().map(Arg::from));
    args.push((n as i32).into());
    loaded.launch_over(kernel, n, 96, &args);
    loaded.device.download(&y)
}

/// A unit in the last place of the format with this rounding and least exponent, at `x`.
fn unit(x: f64, rounding: f64, least: i32) -> f64 {
    let exponent = x.abs().log2().floor().max(f64::from(least));
    exponent.exp2() * 2.0 * rounding
}

/// In steps that are even in the argument, or where it spans magnitudes in its exponent.
fn samples<T: Float>(range: &Range<f64>, seed: u64) -> Vec<T> {
    let mut random = Random(seed);
    (0..SAMPLES)
        .map(|i| match random.uniform(range.start, range.end) {
            x if i % 4 == 0 && range.contains(&(x * x * x / range.end / range.end)) => {
                x * x * x / range.end / range.end
            }
            x => x,
        })
        .map(T::of)
        .collect()
}

fn check<T: Float>(loaded: &mut Loaded, kernel: &str, columns: &[Vec<T>], want: &[f64], units: f64, least: i32) {
    let columns: Vec<&[T]> = columns.iter().map(Vec::as_slice).collect();
    let got: Vec<T> = call(loaded, kernel, &columns);
    let tolerance = |i: usize| units * unit(want[i], T::ROUNDING, least);
    for (i, (&got, &want)) in got.iter().zip(want).enumerate() {
        let arguments: Vec<f64> = columns.iter().map(|column| column[i].to()).collect();
        let off = (got.to() - want).abs();
        let right = got == T::of(want) || off <= tolerance(i);
        let off = off / unit(want, T::ROUNDING, least);
        assert!(
            right,
            "{kernel} of {arguments:?} is {got:?}, expected {want:e}: off by {off} units ({})",
            loaded.name
        );
    }
}

fn f32_functions(loaded: &mut Loaded) {
    for (name, range, of, units) in UNARY_F32 {
        let x: Vec<f32> = samples(&range, name.len() as u64);
        let want: Vec<f64> = x.iter().map(|&x| of(x.into())).collect();
        check(loaded, &format!("{name}_f32"), &[x], &want, units + OF_THE_REFERENCE, -126);
    }
    for (name, range, other, of, units) in BINARY_F32 {
        let (a, b): (Vec<f32>, Vec<f32>) = (samples(&range, 1), samples(&other, 2));
        let want: Vec<f64> = a.iter().zip(&b).map(|(&a, &b)| of(a.into(), b.into())).collect();
        check(loaded, &format!("{name}_f32"), &[a, b], &want, units + OF_THE_REFERENCE, -126);
    }
    let x: Vec<f32> = samples(&(-3.0..3.0), 5);
    let got: Vec<f32> = call(loaded, "__saturatef_f32", &[&x]);
    loaded.assert_same("saturate", &got, &x.iter().map(|x| x.clamp(0.0, 1.0)).collect::<Vec<_>>());
}

fn f64_functions(loaded: &mut Loaded) {
    for (name, range, of, units) in UNARY_F64 {
        let x: Vec<f64> = samples(&range, name.len() as u64);
        let want: Vec<f64> = x.iter().map(|&x| of(x)).collect();
        check(loaded, &format!("{name}_f64"), &[x], &want, units + 1.0, -1022);
    }
    for (name, range, other, of, units) in BINARY_F64 {
        let (a, b): (Vec<f64>, Vec<f64>) = (samples(&range, 1), samples(&other, 2));
        let want: Vec<f64> = a.iter().zip(&b).map(|(&a, &b)| of(a, b)).collect();
        check(loaded, &format!("{name}_f64"), &[a, b], &want, units + 1.0, -1022);
    }
}

/// Functions at the edges: (kernel, argument, value).
fn edges(loaded: &mut Loaded) {
    let (inf, nan) = (f32::INFINITY, f32::NAN);
    let edges = [
        ("sinf", [0.0, inf, nan], [0.0, nan, nan]),
        ("expf", [-inf, inf, 89.0], [0.0, inf, inf]),
        ("logf", [0.0, -1.0, inf], [-inf, nan, inf]),
        ("sqrtf", [-1.0, -0.0, inf], [nan, -0.0, inf]),
        ("rsqrtf", [0.0, inf, -1.0], [inf, 0.0, nan]),
        ("tanhf", [-inf, inf, 100.0], [-1.0, 1.0, 1.0]),
        ("erff", [-inf, inf, -10.0], [-1.0, 1.0, -1.0]),
        ("lgammaf", [1.0, 2.0, 0.0], [0.0, 0.0, inf]),
        ("__expf", [-200.0, 200.0, 0.0], [0.0, inf, 1.0]),
        ("roundf", [2.5, -0.5, 1e20], [3.0, -1.0, 1e20]),
        ("rintf", [2.5, -0.5, 1e20], [2.0, -0.0, 1e20]),
        ("__saturatef", [nan, -inf, inf], [0.0, 0.0, 1.0]),
    ];
    for (name, x, want) in edges {
        let got: Vec<f32> = call(loaded, &format!("{name}_f32"), &[&x]);
        loaded.assert_close(name, &got, &want.map(f64::from), |_| 0.0);
    }
}

macro_rules! integers {
    ($loaded:expr, $($ty:ty, $name:literal, $of:expr;)*) => {$({
        let mut random = Random($name.len() as u64);
        let mut number = || random.bits() as $ty >> random.below(<$ty>::BITS.into());
        let a: Vec<$ty> = (0..SAMPLES).map(|_| number()).collect();
        let b: Vec<$ty> = (0..SAMPLES).map(|_| number()).map(|b| if b == 0 { 3 } else { b }).collect();
        let of: fn($ty, $ty) -> $ty = $of;
        let got: Vec<$ty> = call($loaded, $name, &[&a, &b]);
        $loaded.assert_same($name, &got, &a.iter().zip(&b).map(|(&a, &b)| of(a, b)).collect::<Vec<$ty>>());
    })*};
}

macro_rules! bits {
    ($loaded:expr, $($ty:ty, $name:literal, $of:expr;)*) => {$({
        let mut random = Random(9);
        let mut x = vec![0; SAMPLES];
        x.iter_mut().skip(1).for_each(|x| *x = random.bits() as $ty >> random.below(<$ty>::BITS.into()));
        let of: fn($ty) -> $ty = $of;
        let got: Vec<$ty> = call($loaded, $name, &[&x]);
        $loaded.assert_same($name, &got, &x.iter().map(|&x| of(x)).collect::<Vec<$ty>>());
    })*};
}

fn integers(loaded: &mut Loaded) {
    integers! { loaded,
        i32, "divide_i32", i32::wrapping_div;
        u32, "divide_u32", |a, b| a / b;
        i64, "divide_i64", i64::wrapping_div;
        u64, "divide_u64", |a, b| a / b;
        i32, "remainder_of_i32", i32::wrapping_rem;
        u32, "remainder_of_u32", |a, b| a % b;
        i64, "remainder_of_i64", i64::wrapping_rem;
        u64, "remainder_of_u64", |a, b| a % b;
        i32, "__mulhi_i32", |a, b| ((i64::from(a) * i64::from(b)) >> 32) as i32;
        u32, "__umulhi_u32", |a, b| ((u64::from(a) * u64::from(b)) >> 32) as u32;
        u64, "__umul64hi_u64", |a, b| ((u128::from(a) * u128::from(b)) >> 64) as u64;
        i32, "__hadd_i32", |a, b| ((i64::from(a) + i64::from(b)) >> 1) as i32;
    }
    bits! { loaded,
        i32, "__popc_i32", |x| x.count_ones() as i32;
        i32, "__clz_i32", |x| x.leading_zeros() as i32;
        i32, "__ffs_i32", |x| if x == 0 { 0 } else { x.trailing_zeros() as i32 + 1 };
        u32, "__brev_u32", u32::reverse_bits;
        u64, "__brevll_u64", u64::reverse_bits;
    }
}

fn several_results(loaded: &mut Loaded) {
    let x: Vec<f32> = samples(&(-1e6..1e6), 3);
    let n = x.len();
    let x_buffer = loaded.device.upload(&x);
    let [a, b] = [(); 2].map(|()| loaded.device.uninitialized::<f32>(n));
    loaded.launch_over("sincos_f32", n, 96, &[(&a).into(), (&b).into(), (&x_buffer).into(), (n as i32).into()]);
    for (buffer, of) in [(&a, f64::sin as Unary), (&b, f64::cos)] {
        let want: Vec<f64> = x.iter().map(|&x| of(x.into())).collect();
        let got: Vec<f32> = loaded.device.download(buffer);
        loaded.assert_close("sincosf", &got, &want, |i| 2.5 * unit(want[i], f32::ROUNDING, -126));
    }
    loaded.launch_over("frexp_f32", n, 96, &[(&a).into(), (&b).into(), (&x_buffer).into(), (n as i32).into()]);
    loaded.assert_same(
        "frexpf",
        &loaded.device.download(&a),
        &x.iter().map(|&x| libm::frexpf(x).0).collect::<Vec<_>>(),
    );
    loaded.assert_same(
        "frexpf",
        &loaded.device.download(&b),
        &x.iter().map(|&x| libm::frexpf(x).1).collect::<Vec<_>>(),
    );
    let y = loaded.device.uninitialized::<f32>(n);
    loaded.launch_over("ldexp_f32", n, 96, &[(&y).into(), (&a).into(), (&b).into(), (n as i32).into()]);
    loaded.assert_same("ldexpf", &loaded.device.download(&y), &x);
}

#[test]
fn functions() {
    let options = [Approximation::Exact, Approximation::Worst]
        .map(|approximation| Options { approximation, ..Options::default() });
    for_each_device("math", &options, |loaded| {
        f32_functions(loaded);
        f64_functions(loaded);
        edges(loaded);
        integers(loaded);
        several_results(loaded);
    });
}
