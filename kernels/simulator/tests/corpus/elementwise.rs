//! Arithmetic is exact up to one rounding, so results are compared by bits.

use std::fmt::Debug;

use bytemuck::Pod;
use half::{bf16, f16};

use crate::common::Arg;
use crate::support::{Float, Loaded, Random, for_each_device, one_schedule};

/// A dtype with the six operations of the kernels.
trait Element: Pod + Debug {
    /// Numbers at the edges.
    fn edges() -> Vec<Self>;
    fn random(random: &mut Random) -> Self;
    fn results(a: Self, b: Self, c: Self) -> [Self; 6];
    /// Equal to the sign of zero, or both not a number.
    fn same(self, other: Self) -> bool;
}

macro_rules! integer {
    ($($ty:ty),*) => {$(
        impl Element for $ty {
            fn edges() -> Vec<Self> {
                vec![0, 1, 2, <$ty>::MAX, <$ty>::MAX - 1, <$ty>::MIN, <$ty>::MAX / 2 + 1]
            }
            fn random(random: &mut Random) -> Self {
                random.bits() as $ty
            }
            fn results(a: Self, b: Self, c: Self) -> [Self; 6] {
                let product = a.wrapping_mul(b);
                [a.wrapping_add(b), product, product.wrapping_add(c), a.min(b), a.max(b), if a < b { a } else { c }]
            }
            fn same(self, other: Self) -> bool {
                self == other
            }
        }
    )*};
}
integer!(i8, u8, i16, u16, i32, u32, i64, u64);

macro_rules! float {
    ($($ty:ty: $add:expr, $mul:expr, $fma:expr;)*) => {$(
        impl Element for $ty {
            fn edges() -> Vec<Self> {
                let least = <$ty>::from_bits(1);
                let numbers = [0.0, -0.0, 1.0, -1.5, f64::INFINITY, f64::NEG_INFINITY, f64::NAN];
                [numbers.map(<$ty as Float>::of).as_slice(), &[least, <$ty>::MAX, <$ty>::MIN_POSITIVE]].concat()
            }
            fn random(random: &mut Random) -> Self {
                let scale = 2_f64.powi(random.below(17) as i32 - 8);
                <$ty as Float>::of(scale * random.uniform(-1.0, 1.0))
            }
            fn results(a: Self, b: Self, c: Self) -> [Self; 6] {
                // a number wins over none, and -0 is less than 0
                let less = a < b || (a == b && a.is_sign_negative()) || b.is_nan();
                let more = a > b || (a == b && a.is_sign_positive()) || b.is_nan();
                let (min, max) = (if less { a } else { b }, if more { a } else { b });
                [($add)(a, b), ($mul)(a, b), ($fma)(a, b, c), min, max, if a < b { a } else { c }]
            }
            fn same(self, other: Self) -> bool {
                self.to_bits() == other.to_bits() || (self.is_nan() && other.is_nan())
            }
        }
    )*};
}
/// f64 holds the halves' products and sums exactly, in the ranges of the test.
fn through_f64<T: Float>(of: impl Fn(f64, f64) -> f64) -> impl Fn(T, T) -> T {
    move |a, b| T::of(of(a.to(), b.to()))
}
fn fma_through_f64<T: Float>(a: T, b: T, c: T) -> T {
    T::of(a.to() * b.to() + c.to())
}
float! {
    f32: |a, b| a + b, |a, b| a * b, f32::mul_add;
    f64: |a, b| a + b, |a, b| a * b, f64::mul_add;
    f16: through_f64(|a, b| a + b), through_f64(|a, b| a * b), fma_through_f64;
    bf16: through_f64(|a, b| a + b), through_f64(|a, b| a * b), fma_through_f64;
}

/// `pack` elements a thread.
fn check<T: Element>(loaded: &mut Loaded, kernel: &str, pack: usize) {
    let mut random = Random(1);
    let edges = T::edges();
    // all pairs of edges, then random ones, to an odd number
    let mut columns: [Vec<T>; 3] = Default::default();
    for i in 0..edges.len() * edges.len() + 700 * pack + pack {
        let row = match (edges.get(i / edges.len()), edges[i % edges.len()]) {
            (Some(&a), b) => [a, b, edges[i * 7 % edges.len()]],
            (None, _) => [(); 3].map(|()| T::random(&mut random)),
        };
        columns.iter_mut().zip(row).for_each(|(column, x)| column.push(x));
    }
    columns.iter_mut().for_each(|column| column.truncate(column.len() / pack * pack));
    let n = columns[0].len();
    let y = loaded.device.uninitialized::<T>(6 * n);
    let [a, b, c] = columns.each_ref().map(|column| loaded.device.upload(column));
    let args: [Arg; 5] = [(&y).into(), (&a).into(), (&b).into(), (&c).into(), ((n / pack) as i32).into()];
    loaded.launch_over(kernel, n / pack, 96, &args);
    let y: Vec<T> = loaded.device.download(&y);
    for i in 0..n {
        let [a, b, c] = [0, 1, 2].map(|column| columns[column][i]);
        for (operation, want) in T::results(a, b, c).into_iter().enumerate() {
            let got = y[operation * n + i];
            let name = &loaded.name;
            assert!(
                got.same(want),
                "{kernel}, operation {operation} of {a:?}, {b:?}, {c:?}: {got:?}, not {want:?} ({name})"
            );
        }
    }
}

#[test]
fn every_dtype() {
    for_each_device("elementwise", &one_schedule(), |loaded| {
        check::<f32>(loaded, "elementwise_f32", 1);
        check::<f64>(loaded, "elementwise_f64", 1);
        check::<f16>(loaded, "elementwise_f16", 1);
        check::<bf16>(loaded, "elementwise_bf16", 1);
        check::<f16>(loaded, "elementwise_half2", 2);
        check::<bf16>(loaded, "elementwise_bf162", 2);
        check::<i8>(loaded, "elementwise_i8", 1);
        check::<u8>(loaded, "elementwise_u8", 1);
        check::<i16>(loaded, "elementwise_i16", 1);
        check::<u16>(loaded, "elementwise_u16", 1);
        check::<i32>(loaded, "elementwise_i32", 1);
        check::<u32>(loaded, "elementwise_u32", 1);
        check::<i64>(loaded, "elementwise_i64", 1);
        check::<u64>(loaded, "elementwise_u64", 1);
    });
}
