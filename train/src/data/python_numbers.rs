//! Numbers that Python's `json` writes and JSON lacks: `NaN`, `Infinity` and `-Infinity`.
//!
//! They become texts of the same length, so that places in error messages stay true, and [`Number`] reads them as what
//! they were.

use serde::de::{Deserializer, Error, Visitor};
use std::fmt::{self, Formatter};

/// (as Python writes it, as it is quoted, its value)
const WORDS: [(&[u8], &[u8], f64); 3] = [
    (b"-Infinity", b"\"-Inf\"   ", f64::NEG_INFINITY),
    (b"Infinity", b"\"Inf\"   ", f64::INFINITY),
    (b"NaN", b"\"N\"", f64::NAN),
];

/// Quotes such numbers in a JSON text; whether there were any.
pub fn quote(text: &mut [u8]) -> bool {
    let (mut found, mut in_text, mut at) = (false, false, 0);
    while at < text.len() {
        match text[at] {
            b'\\' if in_text => at += 1,
            b'"' => in_text = !in_text,
            b'-' | b'I' | b'N' if !in_text => {
                if let Some((word, quoted, _)) = WORDS.iter().find(|(word, ..)| text[at..].starts_with(word)) {
                    text[at..at + word.len()].copy_from_slice(quoted);
                    (found, at) = (true, at + word.len() - 1);
                }
            }
            _ => {}
        }
        at += 1;
    }
    found
}

/// A number of a text that may have gone through [`quote`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Number(pub f64);

impl<'de> serde::Deserialize<'de> for Number {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        input.deserialize_any(NumberVisitor)
    }
}

struct NumberVisitor;

impl Visitor<'_> for NumberVisitor {
    type Value = Number;

    fn expecting(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        formatter.write_str("a number")
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Number, E> {
        Ok(Number(value))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Number, E> {
        Ok(Number(value as f64))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Number, E> {
        Ok(Number(value as f64))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Number, E> {
        let quoted =
            |(_, quoted, _): &&(&[u8], &[u8], f64)| quoted.trim_ascii_end() == format!("\"{text}\"").as_bytes();
        let found = WORDS.iter().find(quoted);
        found
            .map(|(.., value)| Number(*value))
            .ok_or_else(|| E::invalid_type(serde::de::Unexpected::Str(text), &self))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn python_numbers_are_read_and_texts_are_left_alone() {
        let mut text = br#"{"a NaN \" NaN": [NaN, -1, Infinity, -Infinity], "b": "\\"}"#.to_vec();
        let (length, before) = (text.len(), text[..16].to_vec());
        assert!(quote(&mut text));
        assert_eq!((text.len(), &text[..16]), (length, &before[..]));
        let read: std::collections::HashMap<String, serde_json::Value> = serde_json::from_slice(&text).unwrap();
        let numbers: Vec<Number> = serde_json::from_value(read["a NaN \" NaN"].clone()).unwrap();
        assert!(numbers[0].0.is_nan());
        assert_eq!(numbers[1..], [Number(-1.0), Number(f64::INFINITY), Number(f64::NEG_INFINITY)]);
        assert!(!quote(&mut text) && !quote(&mut br#"["NaN", nan]"#.to_vec()));
        assert!(serde_json::from_str::<Number>("\"1\"").is_err());
    }
}
