//! The headers of f16 and bf16: roundings, saturation, NaN, functions.

use bytemuck::Pod;
use half::{bf16, f16};

use crate::common::Arg;
use crate::support::{Float, Loaded, Random, for_each_device, one_schedule};

/// A 16-bit format, and its kernels' name.
trait Half: Float {
    const NAME: &'static str;
    fn bits(self) -> u16;
    fn from(bits: u16) -> Self;
}
impl Half for f16 {
    const NAME: &'static str = "f16";
    fn bits(self) -> u16 {
        self.to_bits()
    }
    fn from(bits: u16) -> Self {
        f16::from_bits(bits)
    }
}
impl Half for bf16 {
    const NAME: &'static str = "bf16";
    fn bits(self) -> u16 {
        self.to_bits()
    }
    fn from(bits: u16) -> Self {
        bf16::from_bits(bits)
    }
}

/// The number of `T` before or after, away from zero if `away`.
fn neighbour<T: Half>(x: T, away: bool) -> T {
    T::from(if away { x.bits() + 1 } else { x.bits() - 1 })
}

/// Rounded as `rn`, `rz`, `rd` or `ru` say; overflow towards zero stops at the greatest number.
fn rounded<T: Half>(x: f64, rounding: &str) -> T {
    let nearest = T::of(x);
    let (error, negative) = (nearest.to() - x, x.is_sign_negative());
    let towards_zero = match rounding {
        _ if x.is_infinite() => return nearest,
        "rn" => return nearest,
        "rz" => true,
        "rd" => !negative,
        _ => negative,
    };
    let too_far = error != 0.0 && (error > 0.0) != negative;
    let too_near = error != 0.0 && (error > 0.0) == negative;
    match towards_zero {
        true if too_far => neighbour(nearest, false),
        false if too_near => neighbour(nearest, true),
        _ => nearest,
    }
}

fn to_integer(x: f64, rounding: &str) -> f64 {
    match rounding {
        "rn" => x.round_ties_even(),
        "rz" => x.trunc(),
        "rd" => x.floor(),
        _ => x.ceil(),
    }
}

/// y = kernel(x, ...), of columns of the same length.
fn map<I: Pod, O: Pod>(loaded: &mut Loaded, kernel: &str, columns: &[&[I]], n: usize) -> Vec<O> {
    let pack = columns[0].len() / n;
    let y = loaded.device.uninitialized::<O>(n * pack);
    let buffers: Vec<_> = columns.iter().map(|column| loaded.device.upload(column)).collect();
    let mut args: Vec<Arg> = vec![(&y).into()];
    args.extend(buffers.iter().map(Arg::from));
    args.push((n as i32).into());
    loaded.launch_over(kernel, n, 128, &args);
    loaded.device.download(&y)
}

fn conversions<T: Half>(loaded: &mut Loaded) {
    let mut random = Random(1);
    let mut floats: Vec<f32> =
        (0..400).map(|_| (random.uniform(-1.0, 1.0) * 2_f64.powi(random.below(50) as i32 - 30)) as f32).collect();
    floats.extend([
        0.0,
        -0.0,
        f32::INFINITY,
        1.0 / 3.0,
        65504.0,
        65519.9,
        -65520.0,
        7e4,
        3.39e38,
        f32::MAX,
        3e-8,
        -6e-8,
        1e-40,
    ]);
    let integers: Vec<i32> = (0..400).map(|_| random.bits() as i32 >> random.below(31)).collect();
    for rounding in ["rn", "rz", "rd", "ru"] {
        let kernel = format!("{}_from_f32_{rounding}", T::NAME);
        let got: Vec<T> = map(loaded, &kernel, &[&floats], floats.len());
        let want: Vec<T> = floats.iter().map(|&x| rounded(x.into(), rounding)).collect();
        loaded.assert_same(&kernel, &got, &want);
        let kernel = format!("{}_from_i32_{rounding}", T::NAME);
        let got: Vec<T> = map(loaded, &kernel, &[&integers], integers.len());
        let want: Vec<T> = integers.iter().map(|&x| rounded(x.into(), rounding)).collect();
        loaded.assert_same(&kernel, &got, &want);
    }
    let doubles: Vec<f64> = floats.iter().map(|&x| f64::from(x) * (1.0 + 1e-12)).collect();
    let got: Vec<T> = map(loaded, &format!("{}_from_f64", T::NAME), &[&doubles], doubles.len());
    loaded.assert_same("from f64", &got, &doubles.iter().map(|&x| T::of(x)).collect::<Vec<T>>());

    // every number there is, and out of range they saturate
    let all: Vec<T> = (0..=u16::MAX).map(T::from).filter(|x| !x.to().is_nan()).collect();
    let got: Vec<f32> = map(loaded, &format!("{}_to_f32", T::NAME), &[&all], all.len());
    loaded.assert_same("to f32", &got, &all.iter().map(|x| x.to() as f32).collect::<Vec<f32>>());
    for rounding in ["rn", "rz", "rd", "ru"] {
        let kernel = format!("{}_to_i32_{rounding}", T::NAME);
        let got: Vec<i32> = map(loaded, &kernel, &[&all], all.len());
        loaded.assert_same(
            &kernel,
            &got,
            &all.iter().map(|x| to_integer(x.to(), rounding) as i32).collect::<Vec<_>>(),
        );
    }
    let got: Vec<u32> = map(loaded, &format!("{}_to_u32_rz", T::NAME), &[&all], all.len());
    loaded.assert_same("to u32", &got, &all.iter().map(|x| x.to() as u32).collect::<Vec<_>>());
    let got: Vec<i64> = map(loaded, &format!("{}_to_i64_rz", T::NAME), &[&all], all.len());
    loaded.assert_same("to i64", &got, &all.iter().map(|x| x.to() as i64).collect::<Vec<_>>());
}

/// Equal, or both not a number.
fn assert_equal<T: Half>(loaded: &Loaded, what: &str, got: &[T], want: &[f64]) {
    loaded.assert_close(what, got, &want.iter().map(|&x| T::of(x).to()).collect::<Vec<_>>(), |_| 0.0);
}

fn arithmetic<T: Half>(loaded: &mut Loaded) {
    let mut random = Random(2);
    let mut columns: [Vec<T>; 3] = [(); 3].map(|()| random.floats(500));
    let edges = [0.0, 1.0, -2.5, f64::INFINITY, f64::NEG_INFINITY, f64::NAN];
    for i in 0..edges.len() * edges.len() {
        let row = [edges[i / edges.len()], edges[i % edges.len()], edges[(i + 1) % edges.len()]];
        columns.iter_mut().zip(row).for_each(|(column, x)| column.push(T::of(x)));
    }
    let n = columns[0].len();
    let saturate = |x: f64| if x.is_nan() { 0.0 } else { x.clamp(0.0, 1.0) };
    let relu = |x: f64| if x.is_nan() { x } else { x.max(0.0) };
    let nan_or = |a: f64, b: f64, x: f64| if a.is_nan() || b.is_nan() { f64::NAN } else { x };
    type Of<'a> = &'a dyn Fn(f64, f64, f64) -> f64;
    let operations: [(&str, usize, Of<'_>); 11] = [
        ("add_sat", 2, &|a, b, _| saturate(a + b)),
        ("sub", 2, &|a, b, _| a - b),
        ("mul_sat", 2, &|a, b, _| saturate(a * b)),
        ("div", 2, &|a, b, _| a / b),
        ("fma", 3, &|a, b, c| a * b + c),
        ("fma_sat", 3, &|a, b, c| saturate(a * b + c)),
        ("fma_relu", 3, &|a, b, c| relu(a * b + c)),
        ("min_nan", 2, &|a, b, _| nan_or(a, b, a.min(b))),
        ("max_nan", 2, &|a, b, _| nan_or(a, b, a.max(b))),
        ("neg", 1, &|a, _, _| -a),
        ("abs", 1, &|a, _, _| a.abs()),
    ];
    let packed: [(&str, usize, Of<'_>); 4] = [
        ("fma", 3, &|a, b, c| a * b + c),
        ("fma_relu", 3, &|a, b, c| relu(a * b + c)),
        ("sub", 2, &|a, b, _| a - b),
        ("less", 2, &|a, b, _| f64::from(u8::from(a < b))),
    ];
    let values = columns.each_ref().map(|column| column.iter().map(|x| x.to()).collect::<Vec<f64>>());
    for (pack, operations) in [(1, operations.as_slice()), (2, packed.as_slice())] {
        for (name, operands, of) in operations {
            let kernel = format!("{}{}_{name}", T::NAME, ["", "x2"][pack - 1]);
            let inputs: Vec<&[T]> = columns[..*operands].iter().map(|column| &column[..n / pack * pack]).collect();
            let got: Vec<T> = map(loaded, &kernel, &inputs, n / pack);
            let want: Vec<f64> = (0..n).map(|i| of(values[0][i], values[1][i], values[2][i])).collect();
            assert_equal(loaded, &kernel, &got, &want);
        }
    }
    let swapped: Vec<T> = map(loaded, &format!("{}x2_swap", T::NAME), &[&columns[0]], n / 2);
    let want: Vec<f64> = values[0].chunks(2).flat_map(|pair| [pair[1], pair[0]]).collect();
    assert_equal(loaded, "swap", &swapped, &want);
}

fn functions<T: Half>(loaded: &mut Loaded) {
    let mut random = Random(3);
    let x: Vec<T> = (0..500).map(|_| T::of(random.uniform(-8.0, 8.0))).collect();
    let positive: Vec<T> = x.iter().map(|x| T::of(x.to().abs() + 0.01)).collect();
    type Of = fn(f64) -> f64;
    // (name, only of positive numbers, function, roundings allowed beside the result's own)
    let functions: [(&str, bool, Of, f64); 14] = [
        ("exp", false, f64::exp, 1.0),
        ("exp2", false, f64::exp2, 1.0),
        ("exp10", false, |x| 10_f64.powf(x), 1.0),
        ("log", true, f64::ln, 1.0),
        ("log2", true, f64::log2, 1.0),
        ("rcp", true, f64::recip, 1.0),
        ("sqrt", true, f64::sqrt, 0.0),
        ("rsqrt", true, |x| x.sqrt().recip(), 1.0),
        ("sin", false, f64::sin, 2.0),
        ("cos", false, f64::cos, 2.0),
        ("floor", false, f64::floor, 0.0),
        ("ceil", false, f64::ceil, 0.0),
        ("trunc", false, f64::trunc, 0.0),
        ("rint", false, f64::round_ties_even, 0.0),
    ];
    for (name, only_positive, of, more) in functions {
        let x = if only_positive { &positive } else { &x };
        let kernel = format!("{}_{name}", T::NAME);
        let got: Vec<T> = map(loaded, &kernel, &[x], x.len());
        let want: Vec<f64> = x.iter().map(|x| of(x.to())).collect();
        let saturated: Vec<f64> =
            want.iter().map(|&x| if T::of(x).to().is_infinite() { T::of(x).to() } else { x }).collect();
        // a unit of the last place is twice a rounding's error; below the normal numbers it is that of the least of
        // them
        let tolerance = |i: usize| (1.0 + 2.0 * more) * T::ROUNDING * want[i].abs().max(6.2e-5);
        loaded.assert_close(&kernel, &got, &saturated, tolerance);
    }
    let kernel = format!("{}x2_exp", T::NAME);
    let got: Vec<T> = map(loaded, &kernel, &[&x], x.len() / 2);
    let want: Vec<f64> = x.iter().map(|x| x.to().exp()).collect();
    loaded.assert_close(&kernel, &got, &want, |i| 3.0 * T::ROUNDING * want[i].max(6.2e-5));

    let floats: Vec<f32> = Random(4).floats(100);
    let got: Vec<T> = map(loaded, &format!("{}x2_from_f32", T::NAME), &[&floats], 50);
    loaded.assert_same("pairs from f32", &got, &floats.iter().map(|&x| T::of(x.into())).collect::<Vec<T>>());
    let back: Vec<f32> = map(loaded, &format!("{}x2_to_f32", T::NAME), &[&got], 50);
    loaded.assert_same("pairs to f32", &back, &got.iter().map(|x| x.to() as f32).collect::<Vec<_>>());
}

fn check<T: Half>(loaded: &mut Loaded) {
    conversions::<T>(loaded);
    arithmetic::<T>(loaded);
    functions::<T>(loaded);
}

#[test]
fn f16_and_bf16() {
    for_each_device("half", &one_schedule(), |loaded| {
        check::<f16>(loaded);
        check::<bf16>(loaded);
    });
}
