//! Code that a warp runs: instructions with every operand resolved to a register's row.

use std::fmt;

use super::clocks::Scope;
use super::operands::Layout;
use super::registers::{Frame, Mask, Predicate, Reg, Row};

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
    /// Of a device function.
    Call(Call),
    /// `vprintf(format, arguments)` by address; the number of arguments goes to the row.
    Print(Reg<u64>, Reg<u64>, Row),
    /// `__assertfail(message, file, line, function)`.
    AssertFail([Reg<u64>; 4]),
    /// From a function, or out of the kernel.
    Return,
    /// Out of the kernel.
    Exit,
    /// `trap`.
    Trap,
    /// From memory to registers.
    Load(Access),
    /// From registers to memory.
    Store(Access),
    /// Read, modify, write.
    Atomic(Box<Atomic>),
    /// `fence`, `membar`.
    Fence(Scope),
    /// `bar`, `barrier`.
    Barrier(Box<Barrier>),
    /// `bar.warp.sync`: the member mask.
    WarpSync(Reg<u32>),
    /// `cp.async`.
    CopyAsync(Box<CopyAsync>),
    /// `cp.async.commit_group`.
    CommitCopies,
    /// `cp.async.wait_group N`, or `wait_all`.
    WaitCopies(Option<usize>),
    /// `ldmatrix`: per matrix a target row, 8 x 8 elements of 16 bits, transposed or not.
    LoadMatrix(Address, Vec<Reg<u32>>, bool),
    /// `stmatrix`.
    StoreMatrix(Address, Vec<Reg<u32>>, bool),
    /// `%clock`, `%clock64`, `%globaltimer`: instructions that the warp ran.
    Clock(Row),
}

/// The state space that an address is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Space {
    Generic,
    Global,
    Shared,
    Local,
    Parameter,
}

/// `[%rd1+8]`.
#[derive(Clone, Copy, Debug)]
pub struct Address {
    /// Of the address.
    pub space: Space,
    /// By lane.
    pub base: Row,
    /// In bytes.
    pub offset: i64,
}

/// What an access promises to other threads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strength {
    /// Nothing.
    Weak,
    /// It does not race with other strong accesses (`.volatile`, `.relaxed`, atomics).
    Relaxed,
    /// It orders what comes after (`.acquire`), what was before (`.release`), or both.
    Ordered,
}

/// A load or a store of one or several neighbouring elements.
pub struct Access {
    /// Of the first element.
    pub address: Address,
    /// Where the elements go or come from, and bits of that register where a signed element is to fill it.
    pub rows: Vec<(Row, Option<u32>)>,
    /// Bytes of an element.
    pub size: u64,
    /// Weak or not, and for whom.
    pub strength: (Strength, Scope),
}

/// What an atomic puts in the place of `old`: a function of (old, first operand, second operand).
pub type Modify = fn(u64, u64, u64) -> u64;

/// `atom`, `red`.
pub struct Atomic {
    /// Of the word.
    pub address: Address,
    /// Where the old value goes.
    pub target: Option<Row>,
    /// The operands; the second of `cas` is the new value.
    pub operands: [Row; 2],
    /// What is stored.
    pub modify: Modify,
    /// Whether it is `cas`, which stores nothing if the old value is not the first operand.
    pub compares: bool,
    /// Bytes of the word.
    pub size: u64,
    /// For whom, and whether it orders.
    pub strength: (Strength, Scope),
}

/// What a barrier does with its threads.
pub enum BarrierKind {
    /// They wait.
    Sync,
    /// They do not.
    Arrive,
    /// They wait, and get how many of them (`popc`) have the predicate, or whether all or any have.
    Count(Predicate, Reg<u32>),
    /// See [`BarrierKind::Count`].
    All(Predicate, u32),
    /// See [`BarrierKind::Count`].
    Any(Predicate, u32),
}

/// `barrier.sync a, b`.
pub struct Barrier {
    /// Which of 16.
    pub id: Reg<u32>,
    /// Threads that it waits for; without it all of the block.
    pub threads: Option<Reg<u32>>,
    /// What it does.
    pub kind: BarrierKind,
    /// Whether all lanes of a warp have to reach the very same instruction.
    pub aligned: bool,
}

/// `cp.async [to], [from], size, source_size`.
pub struct CopyAsync {
    /// In shared memory.
    pub to: Address,
    /// In global memory.
    pub from: Address,
    /// Bytes: 4, 8 or 16.
    pub size: u64,
    /// Bytes to read, the rest being zeros.
    pub source_size: Option<Reg<u32>>,
}

/// A call of a device function: rows of parameters and of returned values are copied between the frames.
pub struct Call {
    /// Index of the function in its program.
    pub function: usize,
    /// (row here, row there) of 64-bit slots.
    pub arguments: Vec<(u32, u32)>,
    /// (row here, row there).
    pub returns: Vec<(u32, u32)>,
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

/// A function that can run.
pub struct Function {
    /// As mangled.
    pub name: String,
    /// In order; running past the end returns.
    pub code: Vec<Instruction>,
    /// Of its frames.
    pub layout: Layout,
    /// Bytes of its local variables.
    pub local: u64,
}

impl fmt::Debug for Function {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({} instructions)", self.name, self.code.len())
    }
}
