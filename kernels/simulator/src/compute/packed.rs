//! One or two floating-point numbers in a register, and what modifiers do to operands and results.

use half::{bf16, f16};

use super::exact::Rounding;
use super::float::Float;
use super::lowering::{Lowered, Lowering, compute, each, map, zip};
use crate::vm::registers::{LANES, Lane};

/// A register of one number (`f32`) or two (`f16x2`).
pub(super) trait Packed: Lane {
    /// The number.
    type Element: Float;

    /// `f` of every number.
    fn map(self, f: impl Fn(Self::Element) -> Self::Element) -> Self;
    /// `f` of every two numbers.
    fn zip(self, b: Self, f: impl Fn(Self::Element, Self::Element) -> Self::Element) -> Self;
    /// `a · b + c`, rounded to nearest.
    fn multiply_add(a: [Self; LANES], b: [Self; LANES], c: [Self; LANES]) -> [Self; LANES];
    /// The numbers, from the low bits up; the last one again if there is but one.
    fn elements(self) -> [Self::Element; 2];
}

macro_rules! packed {
    ($($ty:ty),*) => {$(
        impl Packed for $ty {
            type Element = $ty;

            #[inline]
            fn map(self, f: impl Fn($ty) -> $ty) -> Self {
                f(self)
            }

            #[inline]
            fn zip(self, b: Self, f: impl Fn($ty, $ty) -> $ty) -> Self {
                f(self, b)
            }

            fn multiply_add(a: [Self; LANES], b: [Self; LANES], c: [Self; LANES]) -> [Self; LANES] {
                <$ty>::multiply_add_rows(a, b, c)
            }

            #[inline]
            fn elements(self) -> [$ty; 2] {
                [self, self]
            }
        }
    )*};
    ($($ty:ty),*; 2) => {$(
        impl Packed for [$ty; 2] {
            type Element = $ty;

            #[inline]
            fn map(self, f: impl Fn($ty) -> $ty) -> Self {
                [f(self[0]), f(self[1])]
            }

            #[inline]
            fn zip(self, b: Self, f: impl Fn($ty, $ty) -> $ty) -> Self {
                [f(self[0], b[0]), f(self[1], b[1])]
            }

            fn multiply_add(a: [Self; LANES], b: [Self; LANES], c: [Self; LANES]) -> [Self; LANES] {
                let half = |i: usize| {
                    <$ty>::multiply_add_rows(map(a, |a| a[i]), map(b, |b| b[i]), map(c, |c| c[i]))
                };
                zip(half(0), half(1), |low, high| [low, high])
            }

            #[inline]
            fn elements(self) -> [$ty; 2] {
                self
            }
        }
    )*};
}

packed!(f32, f64, f16, bf16);
packed!(f16, bf16; 2);

/// `$body` with `$P` as the register that a type's name means.
macro_rules! packed_type {
    ($it:ident, $ty:expr, $P:ident => $body:expr) => {
        packed_type!(@ $it, $ty, $P => $body, "f32" f32, "f64" f64, "f16" half::f16, "bf16" half::bf16,
            "f16x2" [half::f16; 2], "bf16x2" [half::bf16; 2])
    };
    (@ $it:ident, $ty:expr, $P:ident => $body:expr, $($name:literal $number:ty),*) => {
        match $ty {
            $($name => {
                type $P = $number;
                $body
            })*
            other => $it.unmodelled(other),
        }
    };
}
pub(super) use packed_type;

/// The rounding that an instruction asks for.
pub(super) fn rounding(it: &mut Lowering<'_, '_>) -> Option<Rounding> {
    it.pick(&[("rn", Rounding::Nearest), ("rz", Rounding::Zero), ("rm", Rounding::Down), ("rp", Rounding::Up)])
}

/// What `.ftz`, `.sat` and `.relu` do to whole rows.
#[derive(Clone, Copy, Debug)]
pub(super) struct Modes {
    /// Subnormal operands and results are zeros.
    pub ftz: bool,
    /// Results lie in [0, 1].
    pub sat: bool,
    /// Results are not negative.
    pub relu: bool,
}

impl Modes {
    /// Takes the modifiers, as far as there are such for `ty`.
    pub fn take(it: &mut Lowering<'_, '_>, ty: &str) -> Self {
        let (single, half) = (ty == "f32", ty.starts_with("f16"));
        Self {
            ftz: (single || half) && it.take("ftz"),
            sat: (single || half) && it.take("sat"),
            relu: (half || ty.starts_with("bf16")) && it.take("relu"),
        }
    }

    #[inline]
    pub fn operands<P: Packed>(self, row: [P; LANES]) -> [P; LANES] {
        if self.ftz { map(row, |value| value.map(Float::flush)) } else { row }
    }

    #[inline]
    pub fn results<P: Packed>(self, row: [P; LANES]) -> [P; LANES] {
        let mut row = map(row, |value| value.map(Float::canonical));
        if self.relu {
            row = map(row, |value| value.map(Float::relu));
        }
        if self.sat {
            row = map(row, |value| value.map(Float::saturate));
        }
        self.operands(row)
    }
}

/// `f` of a register's numbers.
pub(super) fn unary<P: Packed>(
    it: &mut Lowering<'_, '_>,
    modes: Modes,
    f: impl Fn(P::Element) -> P::Element + Send + Sync + 'static,
) -> Lowered {
    it.expect(2)?;
    let (d, a) = (it.target::<P>()?, it.source::<P>(1)?);
    compute(move |frame, mask| {
        let a = modes.operands(P::get(frame, a));
        P::set(frame, d, mask, modes.results(map(a, |a| a.map(&f))));
    })
}

/// As [`unary`], only in the lanes where it is wanted: for what takes long.
pub(super) fn unary_each<P: Packed>(
    it: &mut Lowering<'_, '_>,
    modes: Modes,
    f: impl Fn(P::Element) -> P::Element + Send + Sync + 'static,
) -> Lowered {
    it.expect(2)?;
    let (d, a) = (it.target::<P>()?, it.source::<P>(1)?);
    compute(move |frame, mask| {
        let a = modes.operands(P::get(frame, a));
        P::set(frame, d, mask, modes.results(each(mask, |lane| a[lane].map(&f))));
    })
}

/// `f` of the numbers of two registers.
pub(super) fn binary<P: Packed>(
    it: &mut Lowering<'_, '_>,
    modes: Modes,
    f: impl Fn(P::Element, P::Element) -> P::Element + Send + Sync + 'static,
) -> Lowered {
    it.expect(3)?;
    let (d, a, b) = (it.target::<P>()?, it.source::<P>(1)?, it.source::<P>(2)?);
    compute(move |frame, mask| {
        let (a, b) = (modes.operands(P::get(frame, a)), modes.operands(P::get(frame, b)));
        P::set(frame, d, mask, modes.results(zip(a, b, |a, b| a.zip(b, &f))));
    })
}

/// `f` of the rows of three registers.
pub(super) fn ternary<P: Packed>(
    it: &mut Lowering<'_, '_>,
    modes: Modes,
    f: impl Fn([P; LANES], [P; LANES], [P; LANES]) -> [P; LANES] + Send + Sync + 'static,
) -> Lowered {
    it.expect(4)?;
    let d = it.target::<P>()?;
    let (a, b, c) = (it.source::<P>(1)?, it.source::<P>(2)?, it.source::<P>(3)?);
    compute(move |frame, mask| {
        let row = |register| modes.operands(P::get(frame, register));
        let values = f(row(a), row(b), row(c));
        P::set(frame, d, mask, modes.results(values));
    })
}
