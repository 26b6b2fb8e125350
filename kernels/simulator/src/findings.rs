//! What the simulator finds wrong, and how it says so.

use std::fmt;

use serde::Serialize;

/// The kinds of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// An access outside of every allocation, of the block's shared memory or of the thread's local memory.
    OutOfBounds,
    /// An access to memory that was freed.
    UseAfterFree,
    /// An address that is not a multiple of the access's size.
    Misaligned,
    /// A read of bytes that nothing wrote.
    Uninitialized,
    /// Two accesses, one of them a write, that nothing orders.
    Race,
    /// Shared memory read before the `cp.async` that fills it was waited for.
    MissingAsyncWait,
    /// A barrier that part of a warp reaches, or that never completes.
    DivergentBarrier,
    /// A warp instruction whose members are absent, or a value from a lane that is.
    DivergentWarp,
    /// More instructions than `MDETR_SIM_LIMIT`.
    EndlessLoop,
    /// A failed `assert`, or `trap`.
    Assertion,
    /// An instruction or a library call outside of what is modelled.
    Unsupported,
    /// Memory used on a stream that does not wait for the work that made it or still uses it.
    StreamOrder,
    /// Device memory that nobody freed.
    Leak,
    /// A call that waits for the device where that is forbidden.
    BlockingCall,
}

/// A thread of a launch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Thread {
    /// `blockIdx`.
    pub block: [u32; 3],
    /// `threadIdx`.
    pub thread: [u32; 3],
}

impl fmt::Display for Thread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { block: [bx, by, bz], thread: [x, y, z] } = self;
        write!(f, "block ({bx}, {by}, {bz}), thread ({x}, {y}, {z})")
    }
}

/// One fault. Those of a launch name the kernel; `count` says how often it was met.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What it is.
    pub kind: Kind,
    /// The kernel, or the driver's call.
    pub place: String,
    /// `file.cu:line` of the kernel's source where it was compiled with line information, else the line of the PTX.
    pub line: Option<String>,
    /// The kernel's argument whose memory it is (`argument 2`), or the variable (`shared tile`).
    pub argument: Option<String>,
    /// The first thread that met it.
    pub thread: Option<Thread>,
    /// The whole story in a sentence.
    pub message: String,
    /// Threads that met it.
    pub count: u64,
}

impl Finding {
    /// Whether both are the same fault, met by other threads.
    pub fn same(&self, other: &Self) -> bool {
        (self.kind, &self.place, &self.line, &self.argument)
            == (other.kind, &other.place, &other.line, &other.argument)
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} in {}", self.kind, self.place)?;
        if let Some(line) = &self.line {
            write!(f, " at {line}")?;
        }
        if let Some(thread) = self.thread {
            write!(f, ", {thread}")?;
        }
        if let Some(argument) = &self.argument {
            write!(f, ", {argument}")?;
        }
        write!(f, ": {}", self.message)?;
        if self.count > 1 {
            write!(f, " ({} times)", self.count)?;
        }
        Ok(())
    }
}

/// Adds a finding, or counts it with the same fault met before. At most 1000 different ones are kept.
pub fn add(findings: &mut Vec<Finding>, finding: Finding) {
    if let Some(known) = findings.iter_mut().find(|f| f.same(&finding)) {
        known.count += finding.count;
    } else if findings.len() < 1000 {
        findings.push(finding);
    }
}
