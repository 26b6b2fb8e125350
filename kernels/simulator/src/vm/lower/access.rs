//! Loads, stores, asynchronous copies and matrix loads.

use super::Lowering;
use crate::ptx::ast::Operand;
use crate::vm::clocks::Scope;
use crate::vm::code::{Access, CopyAsync, Op, Space, Strength};
use crate::vm::registers::Row;

/// What the parts of an opcode between its name and its type say.
pub(super) struct Modifiers {
    pub space: Space,
    pub strength: (Strength, Scope),
    /// Neighbouring elements.
    pub elements: usize,
    /// What is none of those.
    pub rest: Vec<String>,
}

/// Bytes of a type, and whether it is a signed integer.
pub(super) fn element(ty: &str) -> Result<(u64, bool), String> {
    Ok(match ty {
        "b8" | "u8" => (1, false),
        "s8" => (1, true),
        "b16" | "u16" | "f16" | "bf16" => (2, false),
        "s16" => (2, true),
        "b32" | "u32" | "f32" | "f16x2" | "bf16x2" => (4, false),
        "s32" => (4, true),
        "b64" | "u64" | "s64" | "f64" => (8, false),
        other => return Err(format!(".{other} is not modelled as a type of memory")),
    })
}

impl Modifiers {
    pub(super) fn of(parts: &[&str]) -> Self {
        let mut modifiers =
            Self { space: Space::Generic, strength: (Strength::Weak, Scope::Gpu), elements: 1, rest: Vec::new() };
        for part in parts {
            match *part {
                "global" | "const" => modifiers.space = Space::Global,
                "shared" | "shared::cta" => modifiers.space = Space::Shared,
                "local" => modifiers.space = Space::Local,
                "param" | "param::entry" => modifiers.space = Space::Parameter,
                "weak" => {}
                "volatile" | "relaxed" | "mmio" => modifiers.strength.0 = Strength::Relaxed,
                "acquire" | "release" | "acq_rel" => modifiers.strength.0 = Strength::Ordered,
                "cta" => modifiers.strength.1 = Scope::Block,
                "gpu" | "sys" => modifiers.strength.1 = Scope::Gpu,
                "v2" => modifiers.elements = 2,
                "v4" => modifiers.elements = 4,
                "v8" => modifiers.elements = 8,
                // where a value is cached changes no value
                "ca" | "cg" | "cs" | "lu" | "cv" | "wb" | "wt" | "nc" => {}
                cache if cache.starts_with("L1::") || cache.starts_with("L2::") => {}
                other => modifiers.rest.push(other.to_owned()),
            }
        }
        modifiers
    }

    fn nothing_else(&self) -> Result<(), String> {
        match &self.rest[..] {
            [] => Ok(()),
            [first, ..] => Err(format!(".{first} is not modelled")),
        }
    }
}

fn vector(operand: &Operand) -> &[Operand] {
    match operand {
        Operand::Vector(elements) => elements,
        one => std::slice::from_ref(one),
    }
}

impl Lowering<'_> {
    pub(super) fn load(&mut self, parts: &[&str], operands: &[Operand]) -> Result<Op, String> {
        let (ty, parts) = parts.split_last().ok_or("expected a type")?;
        let modifiers = Modifiers::of(parts);
        modifiers.nothing_else()?;
        let (size, signed) = element(ty)?;
        let [targets, address, ..] = operands else { return Err("expected a target and an address".to_owned()) };
        let mut rows = Vec::new();
        for target in vector(targets) {
            let fill = if signed && *target != Operand::Sink { Some(self.operands.width(target)?) } else { None };
            rows.push((self.operands.target_row(target)?, fill));
        }
        self.access(rows, address, size, &modifiers).map(Op::Load)
    }

    pub(super) fn store(&mut self, parts: &[&str], operands: &[Operand]) -> Result<Op, String> {
        let (ty, parts) = parts.split_last().ok_or("expected a type")?;
        let modifiers = Modifiers::of(parts);
        modifiers.nothing_else()?;
        let (size, _) = element(ty)?;
        let [address, values, ..] = operands else { return Err("expected an address and a value".to_owned()) };
        let rows = vector(values).iter().map(|v| Ok((self.operands.source_row(v, size as u32 * 8)?, None)));
        let rows = rows.collect::<Result<_, String>>()?;
        self.access(rows, address, size, &modifiers).map(Op::Store)
    }

    fn access(
        &mut self,
        rows: Vec<(Row, Option<u32>)>,
        address: &Operand,
        size: u64,
        modifiers: &Modifiers,
    ) -> Result<Access, String> {
        if rows.len() != modifiers.elements {
            return Err(format!("expected {} elements, found {}", modifiers.elements, rows.len()));
        }
        let address = self.address(address, modifiers.space)?;
        Ok(Access { address, rows, size, strength: modifiers.strength })
    }

    /// `ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16`, `stmatrix`.
    pub(super) fn matrix(&mut self, opcode: &[&str], operands: &[Operand]) -> Result<Op, String> {
        let (mut count, mut transposed) = (1, false);
        for part in &opcode[1..] {
            match *part {
                "sync" | "aligned" | "m8n8" | "shared" | "shared::cta" | "b16" => {}
                "x1" => count = 1,
                "x2" => count = 2,
                "x4" => count = 4,
                "trans" => transposed = true,
                other => return Err(format!(".{other} is not modelled")),
            }
        }
        let [a, b] = operands else { return Err("expected two operands".to_owned()) };
        let loads = opcode[0] == "ldmatrix";
        let (registers, address) = if loads { (a, b) } else { (b, a) };
        let rows = vector(registers)
            .iter()
            .map(|register| if loads { self.operands.target(register) } else { self.operands.source(register) });
        let rows = rows.collect::<Result<Vec<_>, String>>()?;
        if rows.len() != count {
            return Err(format!("expected {count} registers, found {}", rows.len()));
        }
        let address = self.address(address, Space::Shared)?;
        Ok(if loads { Op::LoadMatrix(address, rows, transposed) } else { Op::StoreMatrix(address, rows, transposed) })
    }

    /// `cp.async.ca.shared.global [to], [from], 16;` and its groups.
    pub(super) fn copy_async(&mut self, parts: &[&str], operands: &[Operand]) -> Result<Op, String> {
        match (parts, operands) {
            (["commit_group"], []) => return Ok(Op::CommitCopies),
            (["wait_all"], []) => return Ok(Op::WaitCopies(None)),
            (["wait_group"], [Operand::Integer(groups)]) => return Ok(Op::WaitCopies(Some(*groups as usize))),
            _ => {}
        }
        let known =
            |part: &&str| ["ca", "cg", "shared", "shared::cta", "global"].contains(part) || part.starts_with("L2::");
        if let Some(other) = parts.iter().find(|part| !known(part)) {
            return Err(format!(".{other} is not modelled"));
        }
        let [to, from, Operand::Integer(size), rest @ ..] = operands else {
            return Err("expected two addresses and a size".to_owned());
        };
        if ![4, 8, 16].contains(size) || (parts.contains(&"cg") && *size != 16) {
            return Err(format!("copies of {size} bytes are not allowed"));
        }
        // a cache policy (64 bits) may follow or stand in the place of the source's size
        let source_size = match rest.first() {
            Some(Operand::Register(_)) if self.operands.width(&rest[0])? == 64 => None,
            Some(operand) => Some(self.source32(operand)?),
            None => None,
        };
        Ok(Op::CopyAsync(Box::new(CopyAsync {
            to: self.address(to, Space::Shared)?,
            from: self.address(from, Space::Global)?,
            size: *size,
            source_size,
        })))
    }
}
