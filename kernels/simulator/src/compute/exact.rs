//! Numbers of any size on their way to a floating-point format: rounding in all directions, exactly.

/// Where a number goes that lies between two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rounding {
    /// `.rn`: to the nearer one, between the two to the even one.
    Nearest,
    /// `.rz`: towards zero.
    Zero,
    /// `.rm`: down.
    Down,
    /// `.rp`: up.
    Up,
}

/// A binary floating-point format as IEEE 754 lays them out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Format {
    /// Bits of a significand, the leading one included.
    pub precision: u32,
    /// Bits of an exponent.
    pub exponent_bits: u32,
}

impl Format {
    pub const F16: Self = Self { precision: 11, exponent_bits: 5 };
    pub const BF16: Self = Self { precision: 8, exponent_bits: 8 };
    pub const F32: Self = Self { precision: 24, exponent_bits: 8 };
    pub const F64: Self = Self { precision: 53, exponent_bits: 11 };

    /// The bit of the sign.
    pub const fn sign(self) -> u64 {
        1 << (self.precision + self.exponent_bits - 1)
    }

    /// The bits of 1.
    pub const fn one(self) -> u64 {
        ((1 << (self.exponent_bits - 1)) - 1) << (self.precision - 1)
    }

    /// The bits of infinity.
    pub const fn infinity(self) -> u64 {
        ((1 << self.exponent_bits) - 1) << (self.precision - 1)
    }

    /// The exponent of the smallest number's only bit.
    pub const fn lowest(self) -> i32 {
        3 - (1 << (self.exponent_bits - 1)) - self.precision as i32
    }
}

/// `±significand · 2^exponent`. Of a significand with more than 64 bits, the last one may stand for all that is below.
#[derive(Clone, Copy, Debug)]
pub(super) struct Exact {
    negative: bool,
    significand: u128,
    exponent: i32,
}

/// Where [`Exact::normalized`] puts the leading bit: a sum still fits.
const LEADING: u32 = 125;

impl From<f64> for Exact {
    /// Of a finite number.
    fn from(value: f64) -> Self {
        let bits = value.to_bits();
        let (exponent, fraction) = ((bits >> 52 & 0x7ff) as i32, bits & ((1 << 52) - 1));
        let significand = if exponent == 0 { fraction } else { fraction | 1 << 52 };
        Self {
            negative: value.is_sign_negative(),
            significand: significand.into(),
            exponent: exponent.max(1) + Format::F64.lowest() - 1,
        }
    }
}

impl From<i128> for Exact {
    fn from(value: i128) -> Self {
        Self { negative: value < 0, significand: value.unsigned_abs(), exponent: 0 }
    }
}

impl Exact {
    /// The sum; of a number and its opposite, zero with the sign that `rounding` gives it.
    pub fn add(self, other: Self, rounding: Rounding) -> Self {
        let cancelled = Self { negative: rounding == Rounding::Down, significand: 0, exponent: 0 };
        if self.significand == 0 && other.significand == 0 {
            return if self.negative == other.negative { self } else { cancelled };
        }
        let (a, b) = (self.normalized(), other.normalized());
        let (big, small) = if a.exponent >= b.exponent { (a, b) } else { (b, a) };
        let aligned = shifted_right(small.significand, (i64::from(big.exponent) - i64::from(small.exponent)) as u32);
        if big.negative == small.negative {
            return Self { significand: big.significand + aligned, ..big };
        }
        match big.significand.checked_sub(aligned) {
            Some(0) => cancelled,
            Some(significand) => Self { significand, ..big },
            None => Self { significand: aligned - big.significand, negative: small.negative, ..big },
        }
    }

    /// The product of numbers of up to 64 bits.
    pub fn multiply(self, other: Self) -> Self {
        Self {
            negative: self.negative != other.negative,
            significand: self.significand * other.significand,
            exponent: self.exponent + other.exponent,
        }
    }

    /// The quotient of numbers of up to 53 bits; `other` is not zero.
    pub fn divide(self, other: Self) -> Self {
        let (a, b) = (self.normalized(), other);
        let rest = a.significand % b.significand != 0;
        Self {
            negative: a.negative != b.negative,
            significand: (a.significand / b.significand) | u128::from(rest),
            exponent: a.exponent - b.exponent,
        }
    }

    /// The square root of a number of up to 53 bits that is not negative, or is a zero.
    pub fn sqrt(self) -> Self {
        let normalized = self.normalized();
        // half of an exponent has to be whole
        let odd = normalized.exponent & 1;
        let (significand, exponent) = (normalized.significand >> odd, normalized.exponent + odd);
        let root = significand.isqrt();
        Self {
            significand: root | u128::from(root * root != significand),
            exponent: exponent / 2,
            negative: self.negative,
        }
    }

    /// The bits of the number that `format` has for it.
    pub fn round(self, format: Format, rounding: Rounding) -> u64 {
        let sign = if self.negative { format.sign() } else { 0 };
        if self.significand == 0 {
            return sign;
        }
        let leading = self.exponent + 127 - self.significand.leading_zeros() as i32;
        // the place of the last bit that is kept
        let last = (leading + 1 - format.precision as i32).max(format.lowest());
        let dropped = last - self.exponent;
        let (kept, half, below) = match dropped {
            ..=0 => (self.significand << -dropped.max(-127), false, false),
            1..=127 => {
                let rest = self.significand & ((1 << dropped) - 1);
                let half = 1 << (dropped - 1);
                (self.significand >> dropped, rest & half != 0, rest & (half - 1) != 0)
            }
            _ => (0, false, self.significand != 0),
        };
        let up = match rounding {
            Rounding::Nearest => half && (below || kept & 1 == 1),
            Rounding::Zero => false,
            Rounding::Down => self.negative && (half || below),
            Rounding::Up => !self.negative && (half || below),
        };
        // The leading bit of a normal number adds one to the exponent, and so does a carry out of the significand.
        let magnitude = ((last - format.lowest()) as u128) << (format.precision - 1);
        let magnitude = magnitude + kept + u128::from(up);
        let infinity = u128::from(format.infinity());
        let overflowed = match rounding {
            Rounding::Nearest => infinity,
            Rounding::Zero => infinity - 1,
            Rounding::Down => infinity - u128::from(!self.negative),
            Rounding::Up => infinity - u128::from(self.negative),
        };
        sign | if magnitude >= infinity { overflowed } else { magnitude } as u64
    }

    /// The same number with the leading bit of its significand at [`LEADING`].
    fn normalized(self) -> Self {
        if self.significand == 0 {
            return Self { exponent: i32::MIN / 2, ..self };
        }
        let up = self.significand.leading_zeros() as i32 - (127 - LEADING as i32);
        let significand =
            if up >= 0 { self.significand << up } else { shifted_right(self.significand, up.unsigned_abs()) };
        Self { significand, exponent: self.exponent - up, ..self }
    }
}

/// Bits that are shifted out are kept in the last one.
fn shifted_right(significand: u128, by: u32) -> u128 {
    match significand.checked_shr(by) {
        Some(shifted) => shifted | u128::from(shifted << by != significand),
        None => u128::from(significand != 0),
    }
}
