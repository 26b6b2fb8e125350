//! Branches, calls and barriers.

use super::Lowering;
use crate::ptx::ast::{Operand, Symbol};
use crate::vm::code::{Barrier, BarrierKind, Op};

impl Lowering<'_> {
    pub(super) fn control(&mut self, opcode: &[&str], operands: &[Operand]) -> Result<Op, String> {
        match (opcode[0], operands) {
            ("bra", [Operand::Label(target)]) => Ok(Op::Branch(*target)),
            ("brx", [index, Operand::Targets(targets)]) => {
                Ok(Op::BranchTable(self.source32(index)?, self.body.targets[*targets].clone()))
            }
            ("call", operands) => self.call_of(operands),
            ("ret", []) => Ok(Op::Return),
            ("exit", []) => Ok(Op::Exit),
            ("trap" | "brkpt", []) => Ok(Op::Trap),
            _ => Err(format!("unexpected operands {operands:?}")),
        }
    }

    /// `call (returns), name, (arguments)`, with either list left out where it is empty.
    fn call_of(&mut self, operands: &[Operand]) -> Result<Op, String> {
        let (returns, rest) = match operands {
            [Operand::List(returns), rest @ ..] => (&returns[..], rest),
            rest => (&[][..], rest),
        };
        let (name, arguments) = match rest {
            [Operand::Symbol(Symbol::Module(name), 0)] => (name, &[][..]),
            [Operand::Symbol(Symbol::Module(name), 0), Operand::List(arguments)] => (name, &arguments[..]),
            _ => return Err("calls through a register are not modelled".to_owned()),
        };
        self.call(returns, name, arguments)
    }

    /// `bar.sync`, `barrier.cta.red.popc.aligned.u32`, `bar.warp.sync`.
    pub(super) fn barrier(&mut self, opcode: &[&str], operands: &[Operand]) -> Result<Op, String> {
        let (name, parts) = opcode.split_first().ok_or("no opcode")?;
        if parts == ["warp", "sync"]
            && let [members] = operands
        {
            return Ok(Op::WarpSync(self.source32(members)?));
        }
        let parts: Vec<&str> = parts.iter().copied().filter(|part| *part != "cta").collect();
        // `bar` is aligned, `barrier` only says so
        let aligned = *name == "bar" || parts.contains(&"aligned");
        let parts: Vec<&str> = parts.into_iter().filter(|part| *part != "aligned").collect();
        let (kind, id, threads) = match (&parts[..], operands) {
            (["sync"], [id]) => (BarrierKind::Sync, id, None),
            (["sync"], [id, threads]) => (BarrierKind::Sync, id, Some(threads)),
            (["arrive"], [id, threads]) => (BarrierKind::Arrive, id, Some(threads)),
            (["red", kind, _], [target, id, threads @ .., predicate]) if threads.len() <= 1 => {
                let predicate = self.operands.predicate(predicate)?;
                let kind = match *kind {
                    "popc" => BarrierKind::Count(predicate, self.operands.target(target)?),
                    "and" => BarrierKind::All(predicate, self.operands.predicate_target(target)?),
                    "or" => BarrierKind::Any(predicate, self.operands.predicate_target(target)?),
                    other => return Err(format!(".{other} is not modelled")),
                };
                (kind, id, threads.first())
            }
            _ => return Err("not modelled".to_owned()),
        };
        let id = self.source32(id)?;
        let threads = threads.map(|threads| self.source32(threads)).transpose()?;
        Ok(Op::Barrier(Box::new(Barrier { id, threads, kind, aligned })))
    }
}
