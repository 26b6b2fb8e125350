//! What instructions without memory do to registers: a closure for each, made once when a module is loaded.
//!
//! An instruction is a line in the `match` of its family: its opcode and type, and a function of one lane's values. What
//! it is called with and how it is written back is the business of `lowering`; a modifier that nobody takes is an
//! error.

mod approximate;
mod arithmetic;
mod bits;
mod carry;
mod compare;
mod convert;
mod divide;
mod exact;
mod float;
mod integer;
mod lowering;
mod matrix;
mod moves;
mod narrow;
mod packed;
mod warp;

use lowering::{Lowering, compute};

use crate::ptx::ast::Instruction;
use crate::vm::code::Op;
use crate::vm::operands::Operands;

/// Code for an instruction that touches registers only; `None` if the opcode is none of those, and for a `mov` of what
/// only the machine knows: addresses, clocks, special registers of 64 bits.
///
/// # Errors
/// What the instruction, as written, is not allowed to be, or what of it is not modelled.
pub fn lower(instruction: &Instruction, operands: &mut Operands<'_>) -> Result<Option<Op>, String> {
    let mut it = Lowering::new(instruction, operands);
    let floating = matches!(it.last(), "f16" | "f16x2" | "bf16" | "bf16x2" | "f32" | "f64");
    let op = match it.opcode() {
        "add" | "sub" | "mul" | "mad" | "neg" | "abs" | "min" | "max" if floating => arithmetic::lower(&mut it)?,
        "fma" | "copysign" | "testp" => arithmetic::lower(&mut it)?,
        "div" if floating => divide::lower(&mut it)?,
        "rcp" | "sqrt" | "rsqrt" => divide::lower(&mut it)?,
        "ex2" | "lg2" | "sin" | "cos" | "tanh" => approximate::lower(&mut it)?,
        "add" | "addc" | "sub" | "subc" | "mul" | "mul24" | "mad" | "madc" | "mad24" | "div" | "rem" | "neg"
        | "abs" | "min" | "max" | "sad" | "dp2a" | "dp4a" => integer::lower(&mut it)?,
        "and" | "or" | "xor" | "not" | "cnot" => bits::logic(&mut it)?,
        "lop3" => bits::lop3(&mut it)?,
        "shl" | "shr" => bits::shift(&mut it)?,
        "shf" => bits::funnel_shift(&mut it)?,
        "bfe" => bits::extract(&mut it)?,
        "bfi" => bits::insert(&mut it)?,
        "szext" => bits::extend(&mut it)?,
        "bmsk" => bits::mask(&mut it)?,
        "popc" | "clz" | "brev" | "bfind" | "fns" => bits::count(&mut it)?,
        "prmt" => bits::permute(&mut it)?,
        "setp" => compare::set_predicate(&mut it)?,
        "set" => compare::set(&mut it)?,
        "cvt" => convert::lower(&mut it)?,
        "mov" => match moves::copy(&mut it)? {
            Some(op) => op,
            None => return Ok(None),
        },
        "selp" => moves::select(&mut it)?,
        "slct" => moves::select_by_sign(&mut it)?,
        "cvta" => moves::convert_address(&mut it)?,
        "isspacep" => moves::is_space(&mut it)?,
        "shfl" => warp::shuffle(&mut it)?,
        "vote" => warp::vote(&mut it)?,
        "match" => warp::matching(&mut it)?,
        "redux" => warp::reduce(&mut it)?,
        "elect" => warp::elect(&mut it)?,
        "activemask" => warp::active(&mut it)?,
        "mma" => matrix::multiply(&mut it)?,
        "movmatrix" => matrix::transpose(&mut it)?,
        // hints, whatever their modifiers
        "nanosleep" | "pmevent" | "prefetch" | "prefetchu" | "discard" | "applypriority" => {
            return compute(|_, _| ()).map(Some);
        }
        _ => return Ok(None),
    };
    it.finish(op).map(Some)
}
