//! A block: its warps, its memory, and its findings.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;

use super::asynchronous::Copies;
use super::barrier::Barriers;
use super::clocks::Clocks;
use super::code::Instruction;
use super::launch::Grid;
use super::registers::{LANES, Mask, lanes_of};
use super::special::{Position, coordinates};
use super::warp::{CallFrame, Group, Wait, Warp};
use crate::findings::{Finding, Kind, Thread};
use crate::memory::Allocation;

/// The launch ends here.
pub(super) struct Stop;

/// A block that a core runs; the next one takes its place and its registers.
pub(super) struct Block<'a> {
    pub grid: &'a Grid<'a>,
    core: u32,
    pub index: u32,
    coordinates: [u32; 3],
    pub threads: u32,
    pub warps: Vec<Warp>,
    pub clocks: Clocks,
    pub barriers: Barriers,
    pub copies: Copies,
    /// By number of the variable.
    pub shared: Vec<Allocation>,
    /// Of all threads, one after another.
    pub local: Allocation,
    /// Bytes of it a thread.
    pub local_size: u64,
    pub instructions: u64,
    pub touched: RefCell<BTreeSet<u64>>,
    pub last_touched: Cell<u64>,
    random: u64,
}

impl<'a> Block<'a> {
    /// Room for blocks of a launch.
    pub fn new(grid: &'a Grid<'a>, core: u32) -> Self {
        let threads = grid.launch.block.iter().product::<u32>();
        let local_size = grid.kernel.local.next_multiple_of(16);
        let local = Allocation::new(0, local_size * u64::from(threads), "local memory");
        Self {
            grid,
            core,
            index: 0,
            coordinates: [0; 3],
            threads,
            warps: (0..threads.div_ceil(LANES as u32)).map(|index| Warp { index, ..Warp::default() }).collect(),
            clocks: Clocks::new(0, 0),
            barriers: Barriers::default(),
            copies: Copies::default(),
            shared: Vec::new(),
            local,
            local_size,
            instructions: 0,
            touched: RefCell::default(),
            last_touched: Cell::new(0),
            random: 0,
        }
    }

    /// Runs a block to its end.
    pub fn run(&mut self, index: u32, coordinates: [u32; 3]) {
        self.index = index;
        self.coordinates = coordinates;
        self.random = self.grid.options.seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ u64::from(index) << 20 | 1;
        self.clocks = Clocks::new(index, self.threads);
        self.barriers = Barriers::new(self.warps.len());
        self.copies = Copies::new(self.threads);
        self.shared = (0..)
            .zip(&self.grid.kernel.shared_variables)
            .map(|(number, (name, bytes))| {
                let bytes = if number == 0 { u64::from(self.grid.launch.dynamic_shared) } else { *bytes };
                self.grid.memory.fresh(0, bytes, name)
            })
            .collect();
        self.local = self.grid.memory.fresh(0, self.local.bytes, "local memory");
        for warp in 0..self.warps.len() {
            self.start(warp);
        }
        self.run_warps();
    }

    /// Where a warp is.
    pub fn position(&self, warp: u32) -> Position {
        let launch = self.grid.launch;
        let shared = [launch.dynamic_shared, launch.dynamic_shared + self.grid.kernel.shared as u32];
        Position { grid: launch.grid, block: launch.block, index: self.coordinates, warp, shared, core: self.core }
    }

    fn start(&mut self, index: usize) {
        let position = self.position(index as u32);
        let function = self.grid.kernel.function;
        let code = &self.grid.launch.program.functions[function];
        let first = (index * LANES) as u32;
        let warp = &mut self.warps[index];
        warp.lanes = Mask::MAX >> (LANES as u32 - (self.threads - first).min(LANES as u32));
        warp.exited = 0;
        warp.steps = 0;
        warp.parked.clear();
        // registers of the last block are as good as none: nothing reads them before they are set
        let registers = warp.frames.drain(..).next().flatten().map(|frame| frame.registers);
        let mut registers = registers.unwrap_or_else(|| code.layout.frame.clone());
        for (name, row) in &code.layout.specials {
            registers.b32[*row as usize] = position.special(name).unwrap_or_default();
        }
        let arguments = code.layout.arguments as usize;
        for (row, word) in self.grid.launch.arguments.chunks(8).enumerate() {
            let mut bytes = [0; 8];
            bytes[..word.len()].copy_from_slice(word);
            if let Some(row) = registers.b64.get_mut(arguments + row) {
                *row = [u64::from_le_bytes(bytes); LANES];
            }
        }
        let lanes = warp.lanes;
        let frame = CallFrame { registers, function, caller: None, depth: 0, lanes, local: 0 };
        warp.frames = vec![Some(frame)];
        warp.ready = vec![Group { lanes, pc: 0, frame: 0, released: None }];
    }

    fn run_warps(&mut self) {
        loop {
            let mut progress = false;
            let first = if self.grid.options.seed == 0 { 0 } else { self.random() as usize % self.warps.len() };
            for turn in 0..self.warps.len() {
                let index = (first + turn) % self.warps.len();
                if self.warps[index].ready.is_empty() {
                    continue;
                }
                progress = true;
                let mut warp = std::mem::take(&mut self.warps[index]);
                let result = self.run_warp(&mut warp);
                self.warps[index] = warp;
                self.distribute_released();
                if result.is_err() || self.grid.stopped() {
                    self.grid.stop();
                    return;
                }
            }
            if !progress {
                break;
            }
        }
        self.report_deadlock();
    }

    /// Gives groups that a barrier released back to their warps.
    fn distribute_released(&mut self) {
        for (warp, group) in self.barriers.released.drain(..) {
            self.warps[warp as usize].make_ready(group);
        }
    }

    /// Names the groups that wait for ever.
    fn report_deadlock(&mut self) {
        for index in 0..self.warps.len() {
            let warp = std::mem::take(&mut self.warps[index]);
            for (group, wait) in &warp.parked {
                let (Wait::Collective(members) | Wait::WarpSync(members)) = wait;
                let elsewhere = members & !group.lanes;
                let (absent, exited) = (elsewhere & !warp.exited, elsewhere & warp.exited);
                let message = format!(
                    "lanes {} wait for lanes {}, which are elsewhere{}",
                    list(group.lanes),
                    list(absent),
                    if exited == 0 { String::new() } else { format!("; lanes {} have exited", list(exited)) }
                );
                self.fault(Kind::DivergentWarp, &warp, group, group.lanes.trailing_zeros(), None, message);
            }
            self.warps[index] = warp;
        }
        let waiting = std::mem::take(&mut self.barriers).into_waiting();
        for (id, arrived, expected, warp, group) in waiting {
            let warp_state = std::mem::take(&mut self.warps[warp as usize]);
            let message = format!("barrier {id} waits for {expected} threads for ever: {arrived} have arrived");
            self.fault(Kind::DivergentBarrier, &warp_state, &group, group.lanes.trailing_zeros(), None, message);
            self.warps[warp as usize] = warp_state;
        }
    }

    /// The instruction that a group is at.
    pub fn instruction(&self, warp: &Warp, group: &Group) -> Option<&'a Instruction> {
        let frame = warp.frames.get(group.frame)?.as_ref()?;
        self.grid.launch.program.functions[frame.function].code.get(group.pc)
    }

    /// Reports what a lane of a group met.
    pub fn fault(
        &self,
        kind: Kind,
        warp: &Warp,
        group: &Group,
        lane: u32,
        argument: Option<String>,
        message: String,
    ) {
        let instruction = self.instruction(warp, group);
        let thread = warp.index * LANES as u32 + lane;
        self.grid.report(Finding {
            kind,
            place: self.grid.kernel.name.clone(),
            line: instruction.map(|i| self.grid.launch.program.line(i.location, i.line)),
            argument,
            thread: Some(self.thread(self.index, thread)),
            message,
            count: 1,
        });
    }

    /// A thread by the numbers that clocks use.
    pub fn thread(&self, block: u32, thread: u32) -> Thread {
        let launch = self.grid.launch;
        Thread { block: coordinates(block, launch.grid), thread: coordinates(thread, launch.block) }
    }

    /// The next random number of the schedule.
    pub fn random(&mut self) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random
    }
}

/// `0-3, 7`.
pub(super) fn list(mask: Mask) -> String {
    let mut ranges: Vec<(usize, usize)> = Vec::new();
    for lane in lanes_of(mask) {
        match ranges.last_mut() {
            Some((_, last)) if *last + 1 == lane => *last = lane,
            _ => ranges.push((lane, lane)),
        }
    }
    let range =
        |&(first, last): &(usize, usize)| if first == last { first.to_string() } else { format!("{first}-{last}") };
    ranges.iter().map(range).collect::<Vec<_>>().join(", ")
}
