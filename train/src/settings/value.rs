//! Values of settings as people write them: numbers as text, 0 and 1 for switches, one text for a list of one.

use serde_json::{Number, Value};

use super::Kind;

/// What a value of `kind` is given as in text.
pub fn from_text(kind: Kind, text: &str) -> Value {
    let json = serde_json::from_str(text);
    match (kind, json) {
        (Kind::Text | Kind::Path | Kind::Choice(_), Ok(json @ (Value::String(_) | Value::Null))) => json,
        (Kind::Text | Kind::Path | Kind::Choice(_), _) | (_, Err(_)) => Value::String(text.into()),
        (Kind::Words | Kind::Paths, Ok(json)) if !json.is_array() && !json.is_null() => Value::String(text.into()),
        (_, Ok(json)) => json,
    }
}

/// The form that a field serializes to; `None` for what is no such value.
pub fn canonical(kind: Kind, value: Value) -> Option<Value> {
    if value.is_null() || value == "" {
        return Some(Value::Null);
    }
    match kind {
        Kind::Switch => switch(&value).map(Value::Bool),
        Kind::Number => number(&value).and_then(Number::from_f64).map(Value::Number),
        Kind::Count => whole(&value).and_then(|n| u64::try_from(n).ok()).map(Value::from),
        Kind::Integer => whole(&value).and_then(|n| i64::try_from(n).ok()).map(Value::from),
        Kind::Text | Kind::Path => text(value),
        Kind::Choice(choices) => text(value).filter(|text| choices.contains(&text.as_str().unwrap_or_default())),
        Kind::Words | Kind::Paths => list(value)?.into_iter().map(text).collect(),
        Kind::Counts => list(value)?.into_iter().map(|item| canonical(Kind::Count, item)).collect(),
        Kind::Object => None,
    }
}

/// Completes "expected ...".
pub fn expected(kind: Kind) -> String {
    match kind {
        Kind::Switch => "true or false, or 1 or 0".into(),
        Kind::Number => "a number".into(),
        Kind::Count => "a whole number, 0 or more".into(),
        Kind::Integer => "a whole number".into(),
        Kind::Text => "a text".into(),
        Kind::Path => "a path".into(),
        Kind::Choice(choices) => format!("one of {}", choices.join(", ")),
        Kind::Words => "a list of words".into(),
        Kind::Paths => "a list of paths".into(),
        Kind::Counts => "a list of whole numbers".into(),
        Kind::Object => "a JSON object, or null".into(),
    }
}

fn switch(value: &Value) -> Option<bool> {
    match value {
        Value::Bool(set) => Some(*set),
        Value::Number(n) if n.as_f64() == Some(0.0) => Some(false),
        Value::Number(n) if n.as_f64() == Some(1.0) => Some(true),
        Value::String(text) => match text.to_lowercase().as_str() {
            "true" | "1" => Some(true),
            "false" | "0" => Some(false),
            _ => None,
        },
        _ => None,
    }
}

fn number(value: &Value) -> Option<f64> {
    match value {
        Value::Number(n) => n.as_f64(),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    }
}

fn whole(value: &Value) -> Option<i128> {
    match value {
        Value::String(text) => text.trim().parse().ok(),
        Value::Number(n) => match (n.as_u64(), n.as_i64(), n.as_f64()) {
            (Some(n), ..) => Some(n.into()),
            (_, Some(n), _) => Some(n.into()),
            (.., Some(n)) => (n.fract() == 0.0 && n.abs() < 1e15).then_some(n as i128),
            _ => None,
        },
        _ => None,
    }
}

fn text(value: Value) -> Option<Value> {
    match value {
        Value::String(_) => Some(value),
        Value::Number(n) => Some(n.to_string().into()),
        _ => None,
    }
}

fn list(value: Value) -> Option<Vec<Value>> {
    match value {
        Value::Array(items) => Some(items),
        Value::String(_) | Value::Number(_) => Some(vec![value]),
        _ => None,
    }
}
