//! Happens-before within a launch: what every thread of a block knows of the others' progress.
//!
//! A thread's clock rises when it passes on what it did: at barriers, at `bar.warp.sync`, at fences. An access carries
//! its thread's clock, and is ordered before what another thread does once that thread *knows* the clock. Knowledge
//! spreads by block and named barriers (among those that took part), by `bar.warp.sync` (among its members), and by a
//! fence, a strong write, a strong read of the same address, in the PTX memory model's sense; shuffles and votes
//! converge lanes and order no memory.
//!
//! Most of it is the same for all threads of a block, "everything up to clock c", which is why it is not kept as one
//! vector a thread (FastTrack's): `base` is shared, and a matrix a warp holds what lanes know beyond it.

use std::collections::HashMap;
use std::sync::Arc;

use super::registers::{LANES, Mask, lanes_of};

/// Clocks of other blocks' (and one's own block's) threads that were received through memory.
pub type Received = HashMap<u32, Arc<[u32]>>;

/// What a thread knows of all threads of its block.
#[derive(Clone, Debug)]
enum Base {
    /// Everything up to this clock.
    Upto(u32),
    /// By thread.
    Each(Arc<[u32]>),
}

impl Base {
    fn of(&self, thread: u32) -> u32 {
        match self {
            Base::Upto(clock) => *clock,
            Base::Each(clocks) => clocks[thread as usize],
        }
    }

    fn same(&self, other: &Self) -> bool {
        match (self, other) {
            (Base::Upto(a), Base::Upto(b)) => a == b,
            (Base::Each(a), Base::Each(b)) => Arc::ptr_eq(a, b),
            _ => false,
        }
    }
}

#[derive(Clone, Debug)]
struct Known {
    base: Base,
    received: Option<Arc<Received>>,
    /// What it received last: spinning threads read the same again and again.
    latest: [Option<Arc<Received>>; 2],
    /// What the thread passes on with its next strong write, since its last fence: to its block, to all.
    fenced: [Option<Arc<Received>>; 2],
}

/// What threads give to those that wait at a barrier: what they knew and did when they arrived.
#[derive(Clone, Debug, Default)]
pub struct Given {
    /// By thread.
    clocks: Vec<u32>,
    received: Option<Arc<Received>>,
}

/// How far a fence or a strong access reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    /// The thread's block.
    Block,
    /// Every thread (`.gpu`, `.sys`; clusters are not modelled).
    Gpu,
}

/// The clocks of a block's threads.
#[derive(Debug)]
pub struct Clocks {
    block: u32,
    own: Vec<u32>,
    known: Vec<Known>,
    /// By warp: what lane i knows of lane j beyond its base.
    rows: Vec<[[u32; LANES]; LANES]>,
}

impl Clocks {
    /// Threads that know nothing of each other.
    pub fn new(block: u32, threads: u32) -> Self {
        let known = Known { base: Base::Upto(0), received: None, latest: [None, None], fenced: [None, None] };
        Self {
            block,
            own: vec![1; threads as usize],
            known: vec![known; threads as usize],
            rows: vec![[[0; LANES]; LANES]; (threads as usize).div_ceil(LANES)],
        }
    }

    /// The block's index in the grid.
    pub fn block(&self) -> u32 {
        self.block
    }

    /// The clock that an access of `thread` carries now.
    #[inline]
    pub fn now(&self, thread: u32) -> u32 {
        self.own[thread as usize]
    }

    /// Whether `thread` knows that `other` of `block` got as far as `clock`.
    #[inline]
    pub fn knows(&self, thread: u32, block: u32, other: u32, clock: u32) -> bool {
        let known = &self.known[thread as usize];
        if block != self.block {
            return known
                .received
                .as_ref()
                .is_some_and(|r| r.get(&block).is_some_and(|c| c[other as usize] >= clock));
        }
        thread == other || self.of(thread, other) >= clock
    }

    /// Whether `thread` knows something of other blocks.
    pub fn has_received(&self, thread: u32) -> bool {
        self.known[thread as usize].received.is_some()
    }

    /// Whether `thread` knows that all of the warp's `lanes` got as far as `clock`.
    pub fn knows_lanes(&self, thread: u32, warp: u32, lanes: Mask, clock: u32) -> bool {
        if matches!(self.known[thread as usize].base, Base::Upto(base) if base >= clock) {
            return true;
        }
        let threads = self.own.len() as u32;
        lanes_of(lanes).all(|lane| {
            let other = warp * LANES as u32 + lane as u32;
            other >= threads || other == thread || self.of(thread, other) >= clock
        })
    }

    /// The clock of `other`, of the same block, that `thread` knows.
    #[inline]
    fn of(&self, thread: u32, other: u32) -> u32 {
        let base = self.known[thread as usize].base.of(other);
        if thread / LANES as u32 == other / LANES as u32 {
            let [t, o] = [thread, other].map(|i| i as usize % LANES);
            base.max(self.rows[thread as usize / LANES][t][o])
        } else {
            base
        }
    }

    /// A barrier that every thread of the block passes.
    pub fn join_all(&mut self) {
        let last = self.own.iter().copied().max().unwrap_or(0);
        let received = self.common_received(0..self.own.len() as u32);
        self.own.fill(last + 1);
        for known in &mut self.known {
            known.base = Base::Upto(last);
            known.received.clone_from(&received);
        }
    }

    /// Threads (by warp) arrive at a barrier: what they do from now on is not part of what they give.
    pub fn give(&mut self, arrived: &[Mask], given: &mut Given) {
        let members: Vec<u32> = threads_of(arrived).collect();
        given.clocks.resize(self.own.len(), 0);
        for &member in &members {
            for (other, clock) in given.clocks.iter_mut().enumerate() {
                *clock = (*clock).max(self.of(member, other as u32));
            }
        }
        for &member in &members {
            given.clocks[member as usize] = self.own[member as usize];
        }
        match (&mut given.received, self.common_received(members.iter().copied())) {
            (_, None) => {}
            (Some(known), Some(received)) => merge(Arc::make_mut(known), &received),
            (none, received) => *none = received,
        }
        let last = members.iter().map(|m| self.own[*m as usize]).max().unwrap_or(0);
        for member in members {
            self.own[member as usize] = last + 1;
        }
    }

    /// A barrier that the threads of `waited` (by warp) wait at, after others have `given`.
    pub fn join(&mut self, waited: &[Mask], mut given: Given) {
        self.give(waited, &mut given);
        let base = Base::Each(given.clocks.into());
        for thread in threads_of(waited) {
            self.known[thread as usize].base = base.clone();
            self.known[thread as usize].received.clone_from(&given.received);
        }
    }

    /// `bar.warp.sync` of a warp's `members`.
    pub fn join_lanes(&mut self, warp: u32, members: Mask) {
        let first = warp * LANES as u32;
        let lanes: Vec<usize> = lanes_of(members).collect();
        let Some(&leader) = lanes.first() else { return };
        let thread = |lane: usize| first as usize + lane;
        let same = |a: usize, b: usize| {
            let (a, b) = (&self.known[thread(a)], &self.known[thread(b)]);
            let received = match (&a.received, &b.received) {
                (None, None) => true,
                (Some(a), Some(b)) => Arc::ptr_eq(a, b),
                _ => false,
            };
            received && a.base.same(&b.base)
        };
        if !lanes.iter().all(|&lane| same(leader, lane)) {
            let mut masks = vec![0; self.rows.len()];
            masks[warp as usize] = members;
            return self.join(&masks, Given::default());
        }
        let rows = &mut self.rows[warp as usize];
        let mut joined = [0; LANES];
        for &lane in &lanes {
            joined = std::array::from_fn(|other| joined[other].max(rows[lane][other]));
        }
        for &lane in &lanes {
            joined[lane] = self.own[first as usize + lane];
        }
        let last = lanes.iter().map(|&lane| self.own[first as usize + lane]).max().unwrap_or(0);
        for &lane in &lanes {
            rows[lane] = joined;
            self.own[first as usize + lane] = last + 1;
        }
    }

    /// A fence: what `thread` knows and did goes with its next strong writes.
    pub fn fence(&mut self, thread: u32, scope: Scope) {
        let mut clocks: Vec<u32> = (0..self.own.len() as u32).map(|other| self.of(thread, other)).collect();
        clocks[thread as usize] = self.own[thread as usize];
        let known = &mut self.known[thread as usize];
        let mut passed = known.received.as_deref().cloned().unwrap_or_default();
        passed.insert(self.block, clocks.into());
        let passed = Arc::new(passed);
        known.fenced[0] = Some(passed.clone());
        if scope == Scope::Gpu {
            known.fenced[1] = Some(passed);
        }
        self.own[thread as usize] += 1;
    }

    /// What a strong write of `thread` passes on.
    pub fn passes(&self, thread: u32, scope: Scope) -> Option<&Arc<Received>> {
        self.known[thread as usize].fenced[usize::from(scope == Scope::Gpu)].as_ref()
    }

    /// `thread` reads what a strong write passed on.
    pub fn receive(&mut self, thread: u32, passed: &Arc<Received>) {
        let latest = &mut self.known[thread as usize].latest;
        if latest.iter().flatten().any(|latest| Arc::ptr_eq(latest, passed)) {
            return;
        }
        latest.swap(0, 1);
        latest[0] = Some(passed.clone());
        if let Some(clocks) = passed.get(&self.block) {
            let joined = (0..self.own.len()).map(|other| clocks[other].max(self.of(thread, other as u32)));
            self.known[thread as usize].base = Base::Each(joined.collect());
        }
        let known = &mut self.known[thread as usize];
        match &mut known.received {
            None => known.received = Some(passed.clone()),
            Some(received) if Arc::ptr_eq(received, passed) => {}
            Some(received) => merge(Arc::make_mut(received), passed),
        }
    }

    /// What any of `threads` received.
    fn common_received(&self, threads: impl Iterator<Item = u32>) -> Option<Arc<Received>> {
        let mut common: Option<Arc<Received>> = None;
        for received in threads.filter_map(|thread| self.known[thread as usize].received.as_ref()) {
            match &mut common {
                None => common = Some(received.clone()),
                Some(common) if Arc::ptr_eq(common, received) => {}
                Some(common) => merge(Arc::make_mut(common), received),
            }
        }
        common
    }
}

/// Joins `from` into `into`.
pub fn merge(into: &mut Received, from: &Received) {
    for (block, clocks) in from {
        match into.get_mut(block) {
            None => {
                into.insert(*block, clocks.clone());
            }
            Some(known) if known.iter().zip(&**clocks).all(|(a, b)| a >= b) => {}
            Some(known) => *known = known.iter().zip(&**clocks).map(|(a, b)| *a.max(b)).collect(),
        }
    }
}

fn threads_of(masks: &[Mask]) -> impl Iterator<Item = u32> {
    let of_warp = |(warp, &mask): (usize, &Mask)| lanes_of(mask).map(move |lane| (warp * LANES + lane) as u32);
    masks.iter().enumerate().flat_map(of_warp)
}

#[cfg(test)]
mod tests {
    use super::{Clocks, Given, Scope};

    #[test]
    fn barriers_order_those_that_took_part() {
        let mut clocks = Clocks::new(0, 128);
        let before = clocks.now(5);
        assert!(clocks.knows(5, 0, 5, before) && !clocks.knows(40, 0, 5, before));
        clocks.join_all();
        assert!(clocks.knows(40, 0, 5, before) && !clocks.knows(40, 0, 5, clocks.now(5)));
        let before = clocks.now(5);
        // warp 0 arrives and goes on, warp 1 waits
        let mut given = Given::default();
        clocks.give(&[u32::MAX, 0, 0, 0], &mut given);
        let after = clocks.now(5);
        clocks.join(&[0, u32::MAX, 0, 0], given);
        assert!(clocks.knows(40, 0, 5, before), "the one that waited");
        assert!(!clocks.knows(40, 0, 5, after), "what came after the arrival");
        assert!(!clocks.knows(5, 0, 40, before), "the one that only arrived");
        assert!(!clocks.knows(70, 0, 5, before), "the one that was not there");
    }

    #[test]
    fn lanes_know_the_members_of_their_last_sync() {
        let mut clocks = Clocks::new(0, 64);
        let before = clocks.now(0);
        clocks.join_lanes(0, 0xff);
        assert!(clocks.knows(7, 0, 0, before) && !clocks.knows(8, 0, 0, before) && !clocks.knows(33, 0, 0, before));
        assert!(!clocks.knows(7, 0, 0, clocks.now(0)));
        // lane 7 passes it on
        clocks.join_lanes(0, 0x180);
        assert!(clocks.knows(8, 0, 0, before));
    }

    #[test]
    fn strong_writes_pass_on_what_was_fenced() {
        let (mut a, mut b) = (Clocks::new(0, 64), Clocks::new(1, 64));
        let write = a.now(33);
        a.join_all();
        assert!(a.passes(0, Scope::Gpu).is_none());
        a.fence(0, Scope::Block);
        assert!(a.passes(0, Scope::Gpu).is_none(), "a fence of the block does not reach others");
        a.fence(0, Scope::Gpu);
        let passed = a.passes(0, Scope::Gpu).unwrap().clone();
        b.receive(2, &passed);
        assert!(b.knows(2, 0, 33, write) && !b.knows(3, 0, 33, write));
        assert!(!b.knows(2, 0, 0, a.now(0)), "what came after the fence");
        b.join_all();
        assert!(b.knows(3, 0, 33, write));
    }
}
