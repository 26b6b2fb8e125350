//! `atom` and `red`: what replaces the old value.

use half::{bf16, f16};

use super::Lowering;
use super::access::{Modifiers, element};
use crate::ptx::ast::Operand;
use crate::vm::code::{Atomic, Modify, Op, Strength};
use crate::vm::registers::Row;

impl Lowering<'_> {
    pub(super) fn atomic(&mut self, parts: &[&str], operands: &[Operand], returns: bool) -> Result<Op, String> {
        let (ty, parts) = parts.split_last().ok_or("expected a type")?;
        let mut modifiers = Modifiers::of(parts);
        modifiers.rest.retain(|part| part != "noftz");
        let [operation] = &modifiers.rest[..] else {
            return Err(format!("expected one operation, found {:?}", modifiers.rest));
        };
        if modifiers.elements != 1 {
            return Err("vectors are not modelled".to_owned());
        }
        let modify = modify(operation, ty)?;
        let (size, _) = element(ty)?;
        let (target, operands) = match operands {
            [target, rest @ ..] if returns => (Some(self.operands.target_row(target)?), rest),
            rest => (None, rest),
        };
        let (address, values) = operands.split_first().ok_or("expected an address")?;
        if values.len() < if operation == "cas" { 2 } else { 1 } {
            return Err("an operand is missing".to_owned());
        }
        let row = |value: &Operand, lowering: &mut Self| lowering.operands.source_row(value, size as u32 * 8);
        let first = row(&values[0], self)?;
        let second: Row = if operation == "cas" { row(&values[1], self)? } else { first };
        let (strength, scope) = modifiers.strength;
        let strength = if strength == Strength::Ordered { strength } else { Strength::Relaxed };
        Ok(Op::Atomic(Box::new(Atomic {
            address: self.address(address, modifiers.space)?,
            target,
            operands: [first, second],
            modify,
            compares: operation == "cas",
            size,
            strength: (strength, scope),
        })))
    }
}

/// Applies `f` to both halves of a word.
fn halves(a: u64, b: u64, f: fn(u16, u16) -> u16) -> u64 {
    u64::from(f(a as u16, b as u16)) | u64::from(f((a >> 16) as u16, (b >> 16) as u16)) << 16
}

fn add_f16(a: u16, b: u16) -> u16 {
    f16::from_f64(f16::from_bits(a).to_f64() + f16::from_bits(b).to_f64()).to_bits()
}

fn add_bf16(a: u16, b: u16) -> u16 {
    (bf16::from_bits(a) + bf16::from_bits(b)).to_bits()
}

fn modify(operation: &str, ty: &str) -> Result<Modify, String> {
    Ok(match (operation, ty) {
        ("exch", "b32" | "b64") => |_, a, _| a,
        ("cas", "b16" | "b32" | "b64") => |old, a, b| if old == a { b } else { old },
        ("and", "b32" | "b64") => |old, a, _| old & a,
        ("or", "b32" | "b64") => |old, a, _| old | a,
        ("xor", "b32" | "b64") => |old, a, _| old ^ a,
        ("add", "u32" | "s32" | "u64" | "s64") => |old, a, _| old.wrapping_add(a),
        ("add", "f32") => |old, a, _| u64::from((f32::from_bits(old as u32) + f32::from_bits(a as u32)).to_bits()),
        ("add", "f64") => |old, a, _| (f64::from_bits(old) + f64::from_bits(a)).to_bits(),
        ("add", "f16") => |old, a, _| u64::from(add_f16(old as u16, a as u16)),
        ("add", "bf16") => |old, a, _| u64::from(add_bf16(old as u16, a as u16)),
        ("add", "f16x2") => |old, a, _| halves(old, a, add_f16),
        ("add", "bf16x2") => |old, a, _| halves(old, a, add_bf16),
        ("inc", "u32") => |old, a, _| if old >= a { 0 } else { old + 1 },
        ("dec", "u32") => |old, a, _| if old == 0 || old > a { a } else { old - 1 },
        ("min", "u32" | "u64") => |old, a, _| old.min(a),
        ("max", "u32" | "u64") => |old, a, _| old.max(a),
        ("min", "s32") => |old, a, _| u64::from((old as i32).min(a as i32) as u32),
        ("max", "s32") => |old, a, _| u64::from((old as i32).max(a as i32) as u32),
        ("min", "s64") => |old, a, _| (old as i64).min(a as i64) as u64,
        ("max", "s64") => |old, a, _| (old as i64).max(a as i64) as u64,
        _ => return Err(format!(".{operation}.{ty} is not modelled")),
    })
}
