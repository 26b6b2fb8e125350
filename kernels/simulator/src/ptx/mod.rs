//! PTX text to a syntax tree. Names, scopes and labels are resolved here, so that a tree is free of dangling references;
//! what an instruction means is not known here.

pub mod ast;
mod cursor;
mod function;
mod lexer;
mod number;
mod operand;
mod parse;
mod scope;
mod variable;

pub use parse::{SyntaxError, parse};
