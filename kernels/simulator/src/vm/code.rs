//! Code that a warp runs: instructions with every operand resolved to a register's row.

use super::registers::{Frame, Mask, Predicate, Reg};

/// An instruction that only reads and writes registers: called for a whole warp with the lanes that take part.
/// It may compute in the other lanes too, as long as it writes nothing there; so it has to be total.
pub type Compute = Box<dyn Fn(&mut Frame, Mask) + Send + Sync>;

/// See [`Collective::run`].
pub type Exchange = Box<dyn Fn(&mut Frame, Mask) -> Mask + Send + Sync>;

/// A `.sync` instruction of a warp that touches registers only (`shfl`, `vote`, `match`, `redux`, `mma`): it runs when
/// all lanes of `members` that have not exited have arrived.
pub struct Collective {
    /// The member mask; without one all lanes take part (`.aligned`).
    pub members: Option<Reg<u32>>,
    /// Called with the lanes that arrived together; returns those that read a lane which is not among them.
    pub run: Exchange,
}

/// What an instruction does.
pub enum Op {
    /// Registers to registers, lane by lane.
    Compute(Compute),
    /// Registers to registers, across lanes.
    Collective(Collective),
    /// To an instruction.
    Branch(usize),
    /// To the instruction that the index picks.
    BranchTable(Reg<u32>, Vec<usize>),
}

/// An instruction with its guard and where it came from.
pub struct Instruction {
    /// What it does.
    pub op: Op,
    /// `@%p1` or `@!%p1`.
    pub guard: Option<Predicate>,
    /// (file, line) of the CUDA source; line 0 means unknown.
    pub location: Option<(u32, u32)>,
    /// Line of the PTX text.
    pub line: u32,
}
