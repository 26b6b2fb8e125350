//! The parser.
use super::ast::Module;

/// Text that is not PTX.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SyntaxError {
    /// Line of the text, from 1.
    pub line: u32,
    /// What was expected, and what is there.
    pub message: String,
}

/// Parses a module.
///
/// # Errors
/// Names the line; never panics, whatever the text.
pub fn parse(source: &str) -> Result<Module, SyntaxError> {
    let _ = source;
    Ok(Module::default())
}
