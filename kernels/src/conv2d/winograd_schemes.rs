//! One-dimensional transforms of minimal filtering: 4 outputs of a filter of 3, from N inputs by N products.
//!
//! The points of interpolation are 0, ±1/√2, ±√2 and infinity: their powers stay nearer to 1 than those of the usual
//! 0, ±1, ±2, which keeps digits, for as many operations.

use std::f32::consts::{FRAC_1_SQRT_2, SQRT_2};

use pulp::Simd;

/// How 4 outputs are made of N products.
pub trait Scheme<const N: usize>: Copy + Sync {
    /// B^T d.
    fn input<S: Simd>(self, simd: S, d: [S::f32s; N]) -> [S::f32s; N];

    /// G g.
    fn filter<S: Simd>(self, simd: S, g: [S::f32s; 3]) -> [S::f32s; 6];

    /// A^T m.
    fn output<S: Simd>(self, simd: S, m: [S::f32s; N]) -> [S::f32s; 4];

    /// Which of the transformed filter's 6 values the product `at` takes.
    fn factor(self, at: usize) -> usize;
}

/// F(4, 3).
#[derive(Clone, Copy)]
pub struct Adjacent;

/// Outputs two inputs apart: y = (g0, g2) on the even inputs, of which there are 5, plus g1 on the 4 odd ones. The former is
/// F(4, 3) of the filter (0, g0, g2), whose product at point 0 is always 0 and left out.
#[derive(Clone, Copy)]
pub struct Strided;

impl Scheme<6> for Adjacent {
    #[inline(always)]
    fn input<S: Simd>(self, simd: S, d: [S::f32s; 6]) -> [S::f32s; 6] {
        input(simd, d)
    }

    #[inline(always)]
    fn filter<S: Simd>(self, simd: S, g: [S::f32s; 3]) -> [S::f32s; 6] {
        filter(simd, g)
    }

    #[inline(always)]
    fn output<S: Simd>(self, simd: S, m: [S::f32s; 6]) -> [S::f32s; 4] {
        output(simd, m)
    }

    fn factor(self, at: usize) -> usize {
        at
    }
}

/// The products at 5 points, then those of odd inputs.
impl Scheme<9> for Strided {
    #[inline(always)]
    fn input<S: Simd>(self, simd: S, d: [S::f32s; 9]) -> [S::f32s; 9] {
        let [_, v1, v2, v3, v4, v5] = input(simd, [simd.splat_f32s(0.0), d[0], d[2], d[4], d[6], d[8]]);
        [v1, v2, v3, v4, v5, d[1], d[3], d[5], d[7]]
    }

    #[inline(always)]
    fn filter<S: Simd>(self, simd: S, g: [S::f32s; 3]) -> [S::f32s; 6] {
        let [_, u1, u2, u3, u4, u5] = filter(simd, [simd.splat_f32s(0.0), g[0], g[2]]);
        [g[1], u1, u2, u3, u4, u5]
    }

    #[inline(always)]
    fn output<S: Simd>(self, simd: S, m: [S::f32s; 9]) -> [S::f32s; 4] {
        let mut y = output(simd, [simd.splat_f32s(0.0), m[0], m[1], m[2], m[3], m[4]]);
        for at in 0..4 {
            y[at] = simd.add_f32s(y[at], m[5 + at]);
        }
        y
    }

    fn factor(self, at: usize) -> usize {
        if at < 5 { at + 1 } else { 0 }
    }
}

/// a x.
#[inline(always)]
pub fn times<S: Simd>(simd: S, a: f32, x: S::f32s) -> S::f32s {
    simd.mul_f32s(simd.splat_f32s(a), x)
}

/// a x + y.
#[inline(always)]
pub fn scaled<S: Simd>(simd: S, a: f32, x: S::f32s, y: S::f32s) -> S::f32s {
    simd.mul_add_e_f32s(simd.splat_f32s(a), x, y)
}

/// B^T d.
#[inline(always)]
fn input<S: Simd>(simd: S, d: [S::f32s; 6]) -> [S::f32s; 6] {
    // The points' even and odd parts.
    let (even, odd) = (scaled(simd, -2.0, d[2], d[4]), scaled(simd, -2.0, d[1], d[3]));
    let (even2, odd2) = (scaled(simd, -0.5, d[2], d[4]), scaled(simd, -0.5, d[1], d[3]));
    [
        scaled(simd, -2.5, d[2], simd.add_f32s(d[0], d[4])),
        scaled(simd, FRAC_1_SQRT_2, odd, even),
        scaled(simd, -FRAC_1_SQRT_2, odd, even),
        scaled(simd, SQRT_2, odd2, even2),
        scaled(simd, -SQRT_2, odd2, even2),
        scaled(simd, -2.5, d[3], simd.add_f32s(d[1], d[5])),
    ]
}

/// G g.
#[inline(always)]
fn filter<S: Simd>(simd: S, g: [S::f32s; 3]) -> [S::f32s; 6] {
    let even = scaled(simd, -2.0 / 3.0, g[0], times(simd, -1.0 / 3.0, g[2]));
    let even2 = scaled(simd, 1.0 / 6.0, g[0], times(simd, 1.0 / 3.0, g[2]));
    [
        g[0],
        scaled(simd, -SQRT_2 / 3.0, g[1], even),
        scaled(simd, SQRT_2 / 3.0, g[1], even),
        scaled(simd, SQRT_2 / 6.0, g[1], even2),
        scaled(simd, -SQRT_2 / 6.0, g[1], even2),
        g[2],
    ]
}

/// A^T m.
#[inline(always)]
fn output<S: Simd>(simd: S, m: [S::f32s; 6]) -> [S::f32s; 4] {
    let (even, odd) = (simd.add_f32s(m[1], m[2]), simd.sub_f32s(m[1], m[2]));
    let (even2, odd2) = (simd.add_f32s(m[3], m[4]), simd.sub_f32s(m[3], m[4]));
    [
        simd.add_f32s(m[0], simd.add_f32s(even, even2)),
        scaled(simd, SQRT_2, odd2, times(simd, FRAC_1_SQRT_2, odd)),
        scaled(simd, 2.0, even2, times(simd, 0.5, even)),
        scaled(simd, 2.0 * SQRT_2, odd2, scaled(simd, 0.5 * FRAC_1_SQRT_2, odd, m[5])),
    ]
}
