//! What instructions without memory do to registers: a closure for each, made once when a module is loaded.

use crate::ptx::ast::Instruction;
use crate::vm::code::Op;
use crate::vm::operands::Operands;

/// Code for an instruction that touches registers only; `None` if the opcode is none of those.
///
/// # Errors
/// What the instruction, as written, is not allowed to be, or what of it is not modelled.
pub fn lower(instruction: &Instruction, operands: &mut Operands<'_>) -> Result<Option<Op>, String> {
    let _ = (instruction, operands);
    Ok(None)
}
