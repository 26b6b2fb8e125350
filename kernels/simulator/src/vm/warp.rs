//! A warp: groups of lanes, each with its own program counter.
//!
//! Lanes are independent threads. Those that are at the same instruction of the same call run together; where they part,
//! groups form, and the group that is furthest behind goes first, so that they meet again as early as they can. A
//! schedule seed picks another group instead, and parts groups that could stay together.

use super::registers::{Frame, Mask, Row};

/// Lanes at the same instruction.
#[derive(Clone, Debug)]
pub struct Group {
    /// Which.
    pub lanes: Mask,
    /// Of the function that the frame is of.
    pub pc: usize,
    /// Index of their frame.
    pub frame: usize,
    /// What the barrier that released them counted: those with the predicate, and all.
    pub released: Option<(u32, u32)>,
}

impl Group {
    /// Whether both are at the same instruction of the same call, so that they can go on together.
    pub fn is_beside(&self, other: &Self) -> bool {
        (self.pc, self.frame, self.released) == (other.pc, other.frame, other.released)
    }
}

/// What lanes wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// The other members of a collective, which has to be the same instruction.
    Collective(Mask),
    /// The other members of a `bar.warp.sync`, wherever they are.
    WarpSync(Mask),
}

/// A call of a function by some lanes.
#[derive(Debug)]
pub struct CallFrame {
    /// Its registers.
    pub registers: Frame,
    /// The function.
    pub function: usize,
    /// The caller's frame and the call's instruction there; none for a kernel.
    pub caller: Option<(usize, usize)>,
    /// Calls below it.
    pub depth: usize,
    /// Lanes that have not returned.
    pub lanes: Mask,
    /// Where its local memory starts.
    pub local: u64,
}

/// The state of a warp.
#[derive(Debug, Default)]
pub struct Warp {
    /// In its block.
    pub index: u32,
    /// Lanes that there are.
    pub lanes: Mask,
    /// Those that have exited.
    pub exited: Mask,
    /// Groups that can run.
    pub ready: Vec<Group>,
    /// Groups that wait for lanes of the same warp.
    pub parked: Vec<(Group, Wait)>,
    /// By index; free ones are empty.
    pub frames: Vec<Option<CallFrame>>,
    /// Instructions that it ran.
    pub steps: u64,
}

impl Warp {
    /// Lanes that run.
    pub fn live(&self) -> Mask {
        self.lanes & !self.exited
    }

    /// The registers of a frame.
    ///
    /// # Panics
    /// If the frame is free: groups hold frames that are not.
    #[inline]
    pub fn frame(&mut self, index: usize) -> &mut CallFrame {
        self.frames[index].as_mut().expect("a group's frame is not free")
    }

    /// Puts a frame into a free place.
    pub fn push_frame(&mut self, frame: CallFrame) -> usize {
        match self.frames.iter().position(Option::is_none) {
            Some(free) => {
                self.frames[free] = Some(frame);
                free
            }
            None => {
                self.frames.push(Some(frame));
                self.frames.len() - 1
            }
        }
    }

    /// How far a group has come: deeper calls first, then by program counter.
    fn progress(&self, group: &Group) -> (usize, usize) {
        let depth = self.frames[group.frame].as_ref().map_or(0, |frame| frame.depth);
        (usize::MAX - depth, group.pc)
    }

    /// Makes a group ready, as part of one at the same instruction if there is one.
    pub fn make_ready(&mut self, group: Group) {
        match self.ready.iter_mut().find(|other| other.is_beside(&group)) {
            Some(known) => known.lanes |= group.lanes,
            None => self.ready.push(group),
        }
    }

    /// Takes the ready group that is furthest behind, or the one that `pick` says of so many.
    pub fn take_ready(&mut self, pick: Option<usize>) -> Option<Group> {
        let furthest = (0..self.ready.len()).min_by_key(|&i| self.progress(&self.ready[i]))?;
        let index = pick.map_or(furthest, |pick| pick % self.ready.len());
        Some(self.ready.swap_remove(index))
    }

    /// Takes the ready groups that are where `group` is into it.
    pub fn absorb(&mut self, group: &mut Group) {
        let mut i = 0;
        while i < self.ready.len() {
            if self.ready[i].is_beside(group) {
                group.lanes |= self.ready.swap_remove(i).lanes;
            } else {
                i += 1;
            }
        }
    }

    /// Whether a ready group is further behind than `group`.
    pub fn is_ahead(&self, group: &Group) -> bool {
        let progress = self.progress(group);
        self.ready.iter().any(|other| self.progress(other) < progress)
    }

    /// Parks a group, and returns those that no longer have to wait, with all members.
    pub fn park(&mut self, group: Group, wait: Wait) -> Vec<Group> {
        match self.parked.iter_mut().find(|(other, of)| *of == wait && other.is_beside(&group)) {
            Some((known, _)) => known.lanes |= group.lanes,
            None => self.parked.push((group, wait)),
        }
        self.complete(wait)
    }

    /// Takes the parked groups of `wait` if all of its members that run are there.
    fn complete(&mut self, wait: Wait) -> Vec<Group> {
        let live = self.live();
        let parked = &self.parked;
        let arrived = |index: usize| match wait {
            Wait::Collective(_) => parked[index].0.lanes,
            Wait::WarpSync(_) => parked.iter().filter(|(_, w)| *w == wait).fold(0, |all, (g, _)| all | g.lanes),
        };
        let (Wait::Collective(members) | Wait::WarpSync(members)) = wait;
        let complete = (0..parked.len()).filter(|&i| parked[i].1 == wait && arrived(i) == members & live);
        let mut complete: Vec<usize> = complete.collect();
        complete.reverse();
        complete.into_iter().map(|index| self.parked.swap_remove(index).0).collect()
    }

    /// The waits that the exit of lanes completed.
    pub fn completed_by_exit(&mut self) -> Vec<(Vec<Group>, Wait)> {
        let mut waits: Vec<Wait> = self.parked.iter().map(|(_, wait)| *wait).collect();
        waits.dedup();
        waits.into_iter().map(|wait| (self.complete(wait), wait)).filter(|(groups, _)| !groups.is_empty()).collect()
    }

    /// Sets a register of any size in some lanes.
    pub fn set(&mut self, frame: usize, row: Row, lanes: Mask, values: [u64; 32]) {
        self.frame(frame).registers.set_values(row, lanes, values);
    }
}
