//! An instruction on its way to code: its modifiers are taken one by one, its operands become rows.

use crate::ptx::ast::{Instruction, Operand};
use crate::vm::code::Op;
use crate::vm::operands::Operands;
use crate::vm::registers::{Frame, LANES, Lane, Mask, Predicate, Reg, lanes_of};

/// Result of lowering an instruction.
pub(super) type Lowered = Result<Op, String>;

/// An instruction with the modifiers that nobody has taken yet. What is left at the end is an error, so that no
/// modifier is ignored.
pub(super) struct Lowering<'a, 'b> {
    instruction: &'a Instruction,
    modifiers: Vec<&'a str>,
    /// Rows of the function.
    pub operands: &'a mut Operands<'b>,
}

impl<'a, 'b> Lowering<'a, 'b> {
    pub fn new(instruction: &'a Instruction, operands: &'a mut Operands<'b>) -> Self {
        let modifiers = instruction.opcode.iter().skip(1).map(String::as_str).collect();
        Self { instruction, modifiers, operands }
    }

    /// `add` of `add.s32`.
    pub fn opcode(&self) -> &'a str {
        self.instruction.opcode.first().map_or("", String::as_str)
    }

    /// The last modifier that is left, without taking it: the type, as a rule.
    pub fn last(&self) -> &'a str {
        self.modifiers.last().unwrap_or(&"")
    }

    /// Takes the last modifier: the type, as a rule.
    pub fn ty(&mut self) -> &'a str {
        self.modifiers.pop().unwrap_or("")
    }

    /// Takes a modifier; whether it was there.
    pub fn take(&mut self, name: &str) -> bool {
        let position = self.modifiers.iter().position(|&modifier| modifier == name);
        position.map(|at| self.modifiers.remove(at)).is_some()
    }

    /// Takes a modifier that has to be there.
    pub fn require(&mut self, name: &str) -> Result<(), String> {
        if self.take(name) { Ok(()) } else { Err(format!("expected .{name}")) }
    }

    /// Takes the first modifier that is among `choices`.
    pub fn pick<T: Copy>(&mut self, choices: &[(&str, T)]) -> Option<T> {
        let of = |name: &str| choices.iter().find(|choice| choice.0 == name).map(|choice| choice.1);
        let at = self.modifiers.iter().position(|name| of(name).is_some())?;
        of(self.modifiers.remove(at))
    }

    /// Takes a modifier that has to be one of `choices`.
    pub fn choose<T: Copy>(&mut self, choices: &[(&str, T)]) -> Result<T, String> {
        self.pick(choices).ok_or_else(|| {
            let names: Vec<_> = choices.iter().map(|choice| format!(".{}", choice.0)).collect();
            format!("expected one of {}", names.join(", "))
        })
    }

    /// `op`, if every modifier was taken.
    pub fn finish(&self, op: Op) -> Lowered {
        match self.modifiers.first() {
            None => Ok(op),
            Some(modifier) => self.unmodelled(modifier),
        }
    }

    /// The error for a part of the opcode that has no meaning here.
    pub fn unmodelled<T>(&self, modifier: &str) -> Result<T, String> {
        Err(format!(".{modifier} is not modelled here"))
    }

    /// Number of operands.
    pub fn len(&self) -> usize {
        self.instruction.operands.len()
    }

    /// Checks the number of operands.
    pub fn expect(&self, count: usize) -> Result<(), String> {
        match self.len() {
            len if len == count => Ok(()),
            len => Err(format!("expected {count} operands, found {len}")),
        }
    }

    /// An operand as written.
    pub fn operand(&self, index: usize) -> Result<&'a Operand, String> {
        let operands = &self.instruction.operands;
        operands.get(index).ok_or_else(|| format!("expected more than {} operands", operands.len()))
    }

    /// An operand that is read.
    pub fn source<T: Lane>(&mut self, index: usize) -> Result<Reg<T>, String> {
        self.operands.source(self.operand(index)?)
    }

    /// The first operand, as what is written.
    pub fn target<T: Lane>(&mut self) -> Result<Reg<T>, String> {
        self.operands.target(self.operand(0)?)
    }

    /// A predicate that is read.
    pub fn predicate(&mut self, index: usize) -> Result<Predicate, String> {
        self.operands.predicate(self.operand(index)?)
    }

    /// The first operand, as a predicate that is written.
    pub fn predicate_target(&mut self) -> Result<u32, String> {
        self.operands.predicate_target(self.operand(0)?)
    }

    /// The first operand, as a register with a predicate behind it or without: `d|p` or `d`.
    pub fn pair_target(&self) -> Result<(&'a Operand, Option<&'a Operand>), String> {
        Ok(match self.operand(0)? {
            Operand::Pair(first, second) => (first, Some(second)),
            single => (single, None),
        })
    }

    /// An immediate operand.
    pub fn immediate(&self, index: usize) -> Result<u64, String> {
        match self.operand(index)? {
            Operand::Integer(value) => Ok(*value),
            other => Err(format!("expected an integer, found {other:?}")),
        }
    }

    /// `f` of a register, for all lanes at once.
    pub fn unary<A: Lane, D: Lane>(&mut self, f: impl Fn(A) -> D + Send + Sync + 'static) -> Lowered {
        self.expect(2)?;
        let (d, a) = (self.target::<D>()?, self.source::<A>(1)?);
        compute(move |frame, mask| D::set(frame, d, mask, map(A::get(frame, a), &f)))
    }

    /// `f` of two registers, for all lanes at once.
    pub fn binary<A: Lane, B: Lane, D: Lane>(&mut self, f: impl Fn(A, B) -> D + Send + Sync + 'static) -> Lowered {
        self.expect(3)?;
        let (d, a, b) = (self.target::<D>()?, self.source::<A>(1)?, self.source::<B>(2)?);
        compute(move |frame, mask| D::set(frame, d, mask, zip(A::get(frame, a), B::get(frame, b), &f)))
    }

    /// `f` of three registers, for all lanes at once.
    pub fn ternary<A: Lane, B: Lane, C: Lane, D: Lane>(
        &mut self,
        f: impl Fn(A, B, C) -> D + Send + Sync + 'static,
    ) -> Lowered {
        self.expect(4)?;
        let (d, a, b, c) = (self.target::<D>()?, self.source::<A>(1)?, self.source::<B>(2)?, self.source::<C>(3)?);
        compute(move |frame, mask| {
            let values = zip3(A::get(frame, a), B::get(frame, b), C::get(frame, c), &f);
            D::set(frame, d, mask, values);
        })
    }

    /// `f` of four registers, for all lanes at once.
    pub fn quaternary<A: Lane, B: Lane, C: Lane, E: Lane, D: Lane>(
        &mut self,
        f: impl Fn(A, B, C, E) -> D + Send + Sync + 'static,
    ) -> Lowered {
        self.expect(5)?;
        let (d, a, b) = (self.target::<D>()?, self.source::<A>(1)?, self.source::<B>(2)?);
        let (c, e) = (self.source::<C>(3)?, self.source::<E>(4)?);
        compute(move |frame, mask| {
            let (a, b, c, e) = (A::get(frame, a), B::get(frame, b), C::get(frame, c), E::get(frame, e));
            D::set(frame, d, mask, std::array::from_fn(|lane| f(a[lane], b[lane], c[lane], e[lane])));
        })
    }

    /// `f` of two registers, lane by lane and only where it is wanted: for what takes long.
    pub fn binary_each<A: Lane, B: Lane, D: Lane>(
        &mut self,
        f: impl Fn(A, B) -> D + Send + Sync + 'static,
    ) -> Lowered {
        self.expect(3)?;
        let (d, a, b) = (self.target::<D>()?, self.source::<A>(1)?, self.source::<B>(2)?);
        compute(move |frame, mask| {
            let (a, b) = (A::get(frame, a), B::get(frame, b));
            D::set(frame, d, mask, each(mask, |lane| f(a[lane], b[lane])));
        })
    }
}

/// An operation of registers to registers.
pub(super) fn compute(run: impl Fn(&mut Frame, Mask) + Send + Sync + 'static) -> Lowered {
    Ok(Op::Compute(Box::new(run)))
}

/// `f` of every lane.
#[inline]
pub(super) fn map<A: Copy, D>(a: [A; LANES], f: impl Fn(A) -> D) -> [D; LANES] {
    std::array::from_fn(|lane| f(a[lane]))
}

/// `f` of every lane of two rows.
#[inline]
pub(super) fn zip<A: Copy, B: Copy, D>(a: [A; LANES], b: [B; LANES], f: impl Fn(A, B) -> D) -> [D; LANES] {
    std::array::from_fn(|lane| f(a[lane], b[lane]))
}

/// `f` of every lane of three rows.
#[inline]
pub(super) fn zip3<A: Copy, B: Copy, C: Copy, D>(
    a: [A; LANES],
    b: [B; LANES],
    c: [C; LANES],
    f: impl Fn(A, B, C) -> D,
) -> [D; LANES] {
    std::array::from_fn(|lane| f(a[lane], b[lane], c[lane]))
}

/// `f` of the lanes of `mask`.
#[inline]
pub(super) fn each<D: Copy + Default>(mask: Mask, f: impl Fn(usize) -> D) -> [D; LANES] {
    let mut values = [D::default(); LANES];
    for lane in lanes_of(mask) {
        values[lane] = f(lane);
    }
    values
}
