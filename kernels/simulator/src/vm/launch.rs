//! A launch: all blocks of a grid, over all cores.

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use super::block::Block;
use super::clocks::{Received, merge};
use super::program::{Kernel, Program};
use super::special::coordinates;
use crate::findings::{self, Finding, Kind};
use crate::memory::{Allocation, Memory, Work};
use crate::options::Options;

/// What `cuLaunchKernel` says.
#[derive(Debug)]
pub struct Launch<'a> {
    /// The module.
    pub program: &'a Program,
    /// Name of the kernel in it.
    pub kernel: &'a str,
    /// Blocks.
    pub grid: [u32; 3],
    /// Threads of a block.
    pub block: [u32; 3],
    /// Bytes of `.extern .shared`.
    pub dynamic_shared: u32,
    /// The arguments at the offsets of [`Kernel::parameters`](super::program::Kernel::parameters).
    pub arguments: &'a [u8],
}

/// What a launch did.
#[derive(Debug, Default)]
pub struct Outcome {
    /// What is wrong with it. The launch stops at the first fault that a GPU would stop at.
    pub findings: Vec<Finding>,
    /// Instructions by all threads.
    pub instructions: u64,
    /// What it printed.
    pub printed: String,
    /// Addresses of the allocations that it touched.
    pub touched: Vec<u64>,
}

/// An address, and a block where what is passed on there reaches no further.
pub(super) type Key = (u64, Option<u32>);

/// What strong writes passed on.
type Passed = HashMap<Key, Arc<Received>>;

/// What the blocks of a launch share.
pub(super) struct Grid<'a> {
    pub launch: &'a Launch<'a>,
    pub kernel: &'a Kernel,
    pub memory: &'a Memory,
    pub work: &'a Work,
    pub options: &'a Options,
    /// The launch's arguments as memory.
    pub arguments: Allocation,
    next: AtomicU32,
    stopped: AtomicBool,
    has_passed: AtomicBool,
    passed: Mutex<Passed>,
    outcome: Mutex<(Outcome, BTreeSet<u64>)>,
}

/// Runs a launch to its end.
pub fn run(launch: &Launch<'_>, memory: &Memory, work: &Work, options: &Options) -> Outcome {
    let refused = |message: String| Outcome {
        findings: vec![Finding {
            kind: Kind::Unsupported,
            place: launch.kernel.to_owned(),
            line: None,
            argument: None,
            thread: None,
            message,
            count: 1,
        }],
        ..Outcome::default()
    };
    let Some(kernel) = launch.program.kernel(launch.kernel) else {
        return refused("the module has no such kernel".to_owned());
    };
    let blocks = launch.grid.iter().map(|&n| u64::from(n)).product::<u64>();
    let threads = launch.block.iter().map(|&n| u64::from(n)).product::<u64>();
    if blocks == 0 || threads == 0 || threads > 1024 || blocks > u64::from(u32::MAX / 2) {
        return refused(format!("a grid of {:?} blocks of {:?} threads", launch.grid, launch.block));
    }
    let arguments = Allocation::new(0, launch.arguments.len() as u64, "arguments");
    arguments.write(0, launch.arguments);
    let grid = Grid {
        launch,
        kernel,
        memory,
        work,
        options,
        arguments,
        next: AtomicU32::new(0),
        stopped: AtomicBool::new(false),
        has_passed: AtomicBool::new(false),
        passed: Mutex::default(),
        outcome: Mutex::default(),
    };
    if blocks == 1 {
        grid.run_blocks(1, 0);
    } else {
        rayon::broadcast(|core| grid.run_blocks(blocks as u32, core.index() as u32));
    }
    let (mut outcome, touched) = grid.outcome.into_inner().unwrap_or_else(PoisonError::into_inner);
    outcome.touched = touched.into_iter().collect();
    outcome
}

impl Grid<'_> {
    /// Takes blocks until none is left, in an order that the seed permutes.
    fn run_blocks(&self, blocks: u32, core: u32) {
        let mut block = Block::new(self, core);
        loop {
            let turn = self.next.fetch_add(1, Relaxed);
            if turn >= blocks || self.stopped() {
                break;
            }
            let index = match self.options.seed {
                0 => turn,
                // every residue once, whatever the count
                seed => ((u64::from(turn) * stride(blocks, seed) + seed) % u64::from(blocks)) as u32,
            };
            block.run(index, coordinates(index, self.launch.grid));
        }
        let (outcome, touched) = &mut *self.outcome.lock().unwrap_or_else(PoisonError::into_inner);
        outcome.instructions += block.instructions;
        touched.append(&mut block.touched.take());
    }

    /// Whether the launch is to end.
    pub fn stopped(&self) -> bool {
        self.stopped.load(Relaxed)
    }

    /// Ends the launch: a GPU would not go on.
    pub fn stop(&self) {
        self.stopped.store(true, Relaxed);
    }

    /// Adds to what is wrong.
    pub fn report(&self, finding: Finding) {
        findings::add(&mut self.outcome.lock().unwrap_or_else(PoisonError::into_inner).0.findings, finding);
    }

    /// Adds to what is printed.
    pub fn print(&self, text: &str) {
        self.outcome.lock().unwrap_or_else(PoisonError::into_inner).0.printed.push_str(text);
    }

    /// A strong write passes something on to all that read it at these keys. It has to be done by `write`, which says whether
    /// it wrote at all; nobody receives in between.
    pub fn pass<R>(&self, keys: &[(Key, &Arc<Received>)], keep: bool, write: impl FnOnce() -> (R, bool)) -> R {
        let mut passed = self.passed.lock().unwrap_or_else(PoisonError::into_inner);
        self.has_passed.store(true, Relaxed);
        let (result, wrote) = write();
        for (key, received) in keys.iter().filter(|_| wrote) {
            match passed.get_mut(key) {
                Some(known) if Arc::ptr_eq(known, received) => {}
                // an atomic goes on with what was passed on there before
                Some(known) if keep => merge(Arc::make_mut(known), received),
                _ => {
                    passed.insert(*key, (*received).clone());
                }
            }
        }
        result
    }

    /// What a strong read at `address` by a thread of `block` receives; to be asked when it has read.
    pub fn passed(&self, address: u64, block: u32) -> [Option<Arc<Received>>; 2] {
        if !self.has_passed.load(Relaxed) {
            return [None, None];
        }
        let passed = self.passed.lock().unwrap_or_else(PoisonError::into_inner);
        [passed.get(&(address, None)).cloned(), passed.get(&(address, Some(block))).cloned()]
    }
}

/// A number without a common factor with `blocks`.
fn stride(blocks: u32, seed: u64) -> u64 {
    let common = |mut a: u64, mut b: u64| {
        while b != 0 {
            (a, b) = (b, a % b);
        }
        a
    };
    let start = seed % u64::from(blocks) + 1;
    (start..).find(|stride| common(*stride, blocks.into()) == 1).unwrap_or(1)
}
