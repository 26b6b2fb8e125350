//! The list of ops. Adding an op adds a line here; tests and benches go through this list.

use crate::case::{Case, Draw};

/// An op's entry.
pub struct Entry {
    /// The folder's name.
    pub name: &'static str,
    /// Fixed cases: one row, odd widths, empty, larger than a block.
    pub cases: fn() -> Vec<Case>,
    /// A small random case for gradient checks and conformance; it keeps away from kinks.
    pub draw: fn(&mut Draw) -> Case,
}

macro_rules! ops {
    ($($op:ident),* $(,)?) => {
        /// All differentiable ops.
        pub const OPS: &[Entry] = &[
            $(Entry { name: stringify!($op), cases: crate::$op::cases::cases, draw: crate::$op::cases::draw }),*
        ];
    };
}

ops!(layer_norm, linear);
