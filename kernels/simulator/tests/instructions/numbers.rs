//! Floating-point formats as another implementation of IEEE 754 has them.

use rustc_apfloat::ieee::{BFloat, Double, Half, Single};
use rustc_apfloat::{Float, Round};

use super::harness::check;

/// A floating-point type of PTX.
pub trait Number: Float {
    /// Its name.
    const TYPE: &str;
    /// Its size.
    const WIDTH: u32;
    /// What is not a number, as the hardware makes it.
    const CANONICAL: u64;
    /// Name of its registers.
    const REGISTER: &str;

    fn of(bits: u64) -> Self {
        Self::from_bits(u128::from(bits) & ((1 << Self::WIDTH) - 1))
    }

    fn bits(self) -> u64 {
        if self.is_nan() { Self::CANONICAL } else { self.to_bits() as u64 }
    }

    fn flushed(self) -> Self {
        if self.is_denormal() { Self::ZERO.copy_sign(self) } else { self }
    }

    fn one() -> Self {
        Self::from_u128(1).value
    }
}

macro_rules! number {
    ($($number:ty, $name:literal, $width:literal, $canonical:literal, $register:literal;)*) => {$(
        impl Number for $number {
            const TYPE: &str = $name;
            const WIDTH: u32 = $width;
            const CANONICAL: u64 = $canonical;
            const REGISTER: &str = $register;
        }
    )*};
}

number! {
    Half, "f16", 16, 0x7fff, "%rs";
    BFloat, "bf16", 16, 0x7fff, "%rs";
    Single, "f32", 32, 0x7fff_ffff, "%f";
    Double, "f64", 64, 0x7ff8_0000_0000_0000, "%fd";
}

pub const ROUNDINGS: [(&str, Round); 4] = [
    ("rn", Round::NearestTiesToEven),
    ("rz", Round::TowardZero),
    ("rm", Round::TowardNegative),
    ("rp", Round::TowardPositive),
];

/// `value` with what the modifiers in `text` do to a result.
pub fn finished<F: Number>(text: &str, value: F) -> F {
    let negative = value.is_negative() && !value.is_nan();
    let value = if text.contains(".relu") && negative { F::ZERO } else { value };
    let value = match text.contains(".sat") && !text.contains(".satfinite") {
        true if value.is_nan() || value.is_negative() => F::ZERO,
        true if value > F::one() => F::one(),
        _ => value,
    };
    if text.contains(".ftz") { value.flushed() } else { value }
}

/// Checks `text`, in which `T` stands for the type and `N` for its registers; and with `x2`, two to a register.
pub fn numbers<F: Number>(text: &str, definition: impl Fn(&[F]) -> F) {
    let one = |text: &str, bits: &[u64]| {
        let flush = |value: F| if text.contains(".ftz") { value.flushed() } else { value };
        let values: Vec<_> = bits.iter().map(|&bits| flush(F::of(bits))).collect();
        finished(text, definition(&values)).bits()
    };
    let named =
        |ty: &str, register: &str| text.replace(".T", &format!(".{ty}")).replace(" N", &format!(" {register}"));
    let single = named(F::TYPE, F::REGISTER);
    check(&single, |bits| [one(&single, bits)]);
    if F::WIDTH == 16 {
        let pair = named(&format!("{}x2", F::TYPE), "%r");
        check(&pair, |bits| {
            let upper: Vec<_> = bits.iter().map(|bits| bits >> 16).collect();
            [one(&pair, bits) | one(&pair, &upper) << 16]
        });
    }
}
