//! Literals.

/// What a literal says.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Number {
    /// Of 64 bits.
    Integer(u64),
    /// `0f3F800000`: bits.
    Float(u32),
    /// `0d3FF0000000000000` or `1.0`: bits.
    Double(u64),
}

impl Number {
    /// Reads a literal; `None` if it is not one, or an integer of more than 64 bits.
    pub fn read(text: &str) -> Option<Self> {
        let bytes = text.as_bytes();
        match (bytes, bytes.get(1)) {
            ([b'0', _, digits @ ..], Some(b'f' | b'F')) if digits.len() == 8 => {
                u32::from_str_radix(&text[2..], 16).ok().map(Number::Float)
            }
            ([b'0', _, digits @ ..], Some(b'd' | b'D')) if digits.len() == 16 => {
                u64::from_str_radix(&text[2..], 16).ok().map(Number::Double)
            }
            ([b'0', ..], Some(b'x' | b'X')) => integer(&text[2..], 16),
            ([b'0', ..], Some(b'b' | b'B')) => integer(&text[2..], 2),
            _ if text.contains(['.', 'e', 'E']) => {
                text.parse().ok().filter(|value: &f64| value.is_finite()).map(|value| Number::Double(value.to_bits()))
            }
            ([b'0', _, ..], Some(b'0'..=b'9')) => integer(&text[1..], 8),
            _ => integer(text, 10),
        }
    }

    /// With the sign flipped: an integer as two's complement.
    pub fn negate(self) -> Self {
        match self {
            Number::Integer(value) => Number::Integer(value.wrapping_neg()),
            Number::Float(bits) => Number::Float(bits ^ (1 << 31)),
            Number::Double(bits) => Number::Double(bits ^ (1 << 63)),
        }
    }
}

/// Digits with the suffix `U` or without.
fn integer(digits: &str, radix: u32) -> Option<Number> {
    let digits = digits.strip_suffix('U').unwrap_or(digits);
    u64::from_str_radix(digits, radix).ok().map(Number::Integer)
}
