//! Who touched memory last: a cell a word (or a byte, where accesses are that small) with the last write and the reads
//! since, as FastTrack keeps them. An access that is not ordered after them is a race.

use std::sync::{Mutex, MutexGuard};

use super::{Access, Work};
use crate::vm::clocks::{Clocks, Scope};
use crate::vm::registers::lanes_of;

/// Bytes of a page, whose cells are made when a thread first touches it.
const PAGE: u64 = 1024;

/// A thread's access.
#[derive(Clone, Copy, Debug)]
pub struct Touch {
    /// In its block.
    pub thread: u32,
    /// How far it reaches if it is volatile, relaxed, acquire, release or atomic: such accesses do not race with each other
    /// where both reach.
    pub strong: Option<Scope>,
}

/// With whom an access races.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rival {
    /// A thread of the same launch: (block, thread in it), and what it did.
    Thread(u32, u32, Access),
    /// Some threads of other blocks that read.
    Blocks,
    /// An earlier piece of work that is not certain to be done, and what it did.
    Work(u32, Access),
}

#[derive(Clone, Copy, Debug, Default)]
struct Write {
    work: u32,
    block: u32,
    clock: u32,
    thread: u16,
    strong: Option<Scope>,
}

/// Who read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Readers {
    #[default]
    None,
    /// Lanes of this warp.
    Lanes(u16),
    /// Warps of the block, a bit each.
    Warps(u32),
    /// Several blocks.
    Blocks,
}

#[derive(Clone, Copy, Debug, Default)]
struct Reads {
    work: u32,
    /// Work that read before and that `work` does not wait for, or 0.
    earlier: u32,
    block: u32,
    /// The lowest of the readers': what is missed for it is a second race between the same threads.
    clock: u32,
    /// Of any of the warps.
    lanes: u32,
    readers: Readers,
    /// The weakest of the readers'.
    strong: Option<Scope>,
}

impl Reads {
    /// Work that read and that `work` does not wait for.
    fn rival_work(&self, work: &Work) -> Option<u32> {
        [self.work, self.earlier].into_iter().find(|earlier| !work.after(*earlier))
    }
}

/// Whether strong accesses reach each other.
fn reach(a: Option<Scope>, b: Option<Scope>, same_block: bool) -> bool {
    match a.min(b) {
        None => false,
        Some(Scope::Block) => same_block,
        Some(Scope::Gpu) => true,
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct Cell {
    weak: Write,
    /// The last strong write since: it does not hide a weak one from other strong accesses.
    strong: Write,
    reads: Reads,
}

impl Cell {
    fn touched_by_work(&mut self, access: Access, work: &Work) -> Option<Rival> {
        let rival = self.rival_work(access, work);
        match access {
            Access::Read => {
                let earlier = self.reads.rival_work(work).unwrap_or(0);
                self.reads = Reads { work: work.id, earlier, readers: Readers::Blocks, ..Reads::default() };
            }
            Access::Write => {
                *self = Self { weak: Write { work: work.id, ..Write::default() }, ..Self::default() };
            }
        }
        rival
    }

    fn rival_work(&self, access: Access, work: &Work) -> Option<Rival> {
        if let Some(write) = [self.weak, self.strong].into_iter().find(|write| !work.after(write.work)) {
            return Some(Rival::Work(write.work, Access::Write));
        }
        let reader = self.reads.rival_work(work).filter(|_| access == Access::Write);
        reader.map(|reader| Rival::Work(reader, Access::Read))
    }

    #[inline]
    fn read(&mut self, touch: Touch, work: &Work, clocks: &Clocks) -> Option<Rival> {
        let rival = self.rival_writer(touch, work, clocks);
        let (warp, lane) = ((touch.thread / 32) as u16, 1 << (touch.thread % 32));
        let reads = &mut self.reads;
        let alone = Reads {
            work: work.id,
            earlier: reads.rival_work(work).unwrap_or(0),
            block: clocks.block(),
            clock: clocks.now(touch.thread),
            lanes: lane,
            readers: Readers::Lanes(warp),
            strong: touch.strong,
        };
        if reads.work != work.id || reads.readers == Readers::None {
            *reads = alone;
            return rival;
        }
        let known = |w: u32| clocks.knows_lanes(touch.thread, w, reads.lanes, reads.clock);
        match reads.readers {
            _ if reads.block != alone.block => reads.readers = Readers::Blocks,
            Readers::Lanes(w) if w == warp && reads.clock == alone.clock => {}
            Readers::Lanes(w) if known(w.into()) => *reads = alone,
            Readers::Lanes(w) if w == warp => {}
            Readers::Lanes(w) => reads.readers = Readers::Warps(1 << w | 1 << warp),
            Readers::Warps(mask) if warps(mask).all(known) => *reads = alone,
            Readers::Warps(mask) => reads.readers = Readers::Warps(mask | 1 << warp),
            Readers::None | Readers::Blocks => {}
        }
        reads.lanes |= lane;
        reads.clock = reads.clock.min(alone.clock);
        reads.strong = reads.strong.min(touch.strong);
        rival
    }

    #[inline]
    fn write(&mut self, touch: Touch, work: &Work, clocks: &Clocks) -> Option<Rival> {
        let rival = self.rival_writer(touch, work, clocks).or_else(|| self.rival_reader(touch, work, clocks));
        let write = Write {
            work: work.id,
            block: clocks.block(),
            clock: clocks.now(touch.thread),
            thread: touch.thread as u16,
            strong: touch.strong,
        };
        if touch.strong.is_some() {
            self.strong = write;
        } else {
            (self.weak, self.strong) = (write, Write::default());
        }
        self.reads = Reads::default();
        rival
    }

    #[inline]
    fn rival_writer(&self, touch: Touch, work: &Work, clocks: &Clocks) -> Option<Rival> {
        let rival = |write: &Write| {
            if write.work != work.id {
                return (!work.after(write.work)).then_some(Rival::Work(write.work, Access::Write));
            }
            let thread = u32::from(write.thread);
            let ordered = reach(touch.strong, write.strong, write.block == clocks.block())
                || clocks.knows(touch.thread, write.block, thread, write.clock);
            (!ordered).then_some(Rival::Thread(write.block, thread, Access::Write))
        };
        rival(&self.weak).or_else(|| rival(&self.strong))
    }

    fn rival_reader(&self, touch: Touch, work: &Work, clocks: &Clocks) -> Option<Rival> {
        let reads = &self.reads;
        if let Some(reader) = reads.rival_work(work) {
            return Some(Rival::Work(reader, Access::Read));
        }
        if reads.work != work.id {
            return None;
        }
        let same_block = reads.block == clocks.block() && reads.readers != Readers::Blocks;
        let reader = |thread: u32| Rival::Thread(reads.block, thread, Access::Read);
        match reads.readers {
            _ if reach(reads.strong, touch.strong, same_block) => None,
            Readers::None => None,
            Readers::Lanes(warp) => {
                let first = u32::from(warp) * 32;
                let unordered = |t: &u32| !clocks.knows(touch.thread, reads.block, *t, reads.clock);
                lanes_of(reads.lanes).map(|lane| first + lane as u32).find(unordered).map(reader)
            }
            Readers::Warps(mask) => warps(mask)
                .find(|w| !clocks.knows_lanes(touch.thread, *w, reads.lanes, reads.clock))
                .map(|w| reader(w * 32 + reads.lanes.trailing_zeros())),
            Readers::Blocks => (!clocks.has_received(touch.thread)).then_some(Rival::Blocks),
        }
    }
}

/// The warps of a mask: a block has as many at most as a warp has lanes.
fn warps(mask: u32) -> impl Iterator<Item = u32> {
    lanes_of(mask).map(|warp| warp as u32)
}

/// The cells of an allocation.
#[derive(Debug)]
pub struct Shadow {
    /// By page: one cell for all of it until a thread touches it, then one a word, or one a byte where it must be.
    pages: Box<[Mutex<Vec<Cell>>]>,
}

impl Shadow {
    /// Of memory that nothing touched.
    pub fn new(bytes: u64) -> Self {
        Self { pages: (0..bytes.div_ceil(PAGE)).map(|_| Mutex::new(vec![Cell::default()])).collect() }
    }

    /// A piece of work touches a range as a whole; returns one that it races with.
    pub fn touch(&self, offset: u64, bytes: u64, access: Access, work: &Work) -> Option<Rival> {
        let end = offset + bytes;
        let mut rival = None;
        let mut at = offset;
        while at < end {
            let mut cells = lock(&self.pages[(at / PAGE) as usize]);
            let next = end.min((at / PAGE + 1) * PAGE);
            if next - at == PAGE {
                let rivals = cells.iter_mut().filter_map(|cell| cell.touched_by_work(access, work));
                rival = rivals.last().or(rival);
                if access == Access::Write {
                    cells.truncate(1);
                }
            } else {
                for cell in cells_of(&mut cells, at, next - at) {
                    rival = cell.touched_by_work(access, work).or(rival);
                }
            }
            at = next;
        }
        rival
    }
}

/// Touches cells one after another, keeping the page that it is on.
#[derive(Default)]
pub struct Cursor<'a> {
    page: Option<Locked<'a>>,
}

/// A page and its cells.
type Locked<'a> = (*const Mutex<Vec<Cell>>, MutexGuard<'a, Vec<Cell>>);

impl<'a> Cursor<'a> {
    /// A thread reads or writes `bytes` bytes at `offset`, within a page; returns with whom it races.
    #[inline]
    pub fn touch(
        &mut self,
        (shadow, offset, bytes): (&'a Shadow, u64, u64),
        access: Access,
        touch: Touch,
        work: &Work,
        clocks: &Clocks,
    ) -> Option<Rival> {
        let page = &shadow.pages[(offset / PAGE) as usize];
        if !self.page.as_ref().is_some_and(|(at, _)| std::ptr::eq(*at, page)) {
            self.page = None; // unlock one before locking the other
            self.page = Some((page, lock(page)));
        }
        let (_, cells) = self.page.as_mut()?;
        let mut rival = None;
        for cell in cells_of(cells, offset, bytes) {
            let race = match access {
                Access::Read => cell.read(touch, work, clocks),
                Access::Write => cell.write(touch, work, clocks),
            };
            rival = rival.or(race);
        }
        rival
    }
}

fn lock(page: &Mutex<Vec<Cell>>) -> MutexGuard<'_, Vec<Cell>> {
    page.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// The cells of a range within a page, made finer where it asks for that.
#[inline]
fn cells_of(cells: &mut Vec<Cell>, offset: u64, bytes: u64) -> &mut [Cell] {
    let size = if cells.len() as u64 == PAGE || !(offset | bytes).is_multiple_of(4) { 1 } else { 4 };
    let count = (PAGE / size) as usize;
    if cells.len() != count {
        let finer = count / cells.len();
        *cells = cells.iter().flat_map(|cell| std::iter::repeat_n(*cell, finer)).collect();
    }
    &mut cells[(offset % PAGE / size) as usize..][..(bytes / size) as usize]
}

#[cfg(test)]
mod tests {
    use super::{Cursor, Rival, Shadow, Touch};
    use crate::memory::{Access, Work};
    use crate::vm::clocks::{Clocks, Given, Scope};

    const WEAK: fn(u32) -> Touch = |thread| Touch { thread, strong: None };

    #[test]
    fn unordered_accesses_race_and_ordered_ones_do_not() {
        let (shadow, work) = (Shadow::new(4096), Work::in_order(1));
        let mut clocks = Clocks::new(0, 64);
        let touch = |at, bytes, access, touch, clocks: &Clocks| {
            Cursor::default().touch((&shadow, at, bytes), access, touch, &work, clocks)
        };
        let by = |thread, access| Some(Rival::Thread(0, thread, access));
        assert_eq!(touch(1024, 4, Access::Write, WEAK(3), &clocks), None);
        assert_eq!(touch(1028, 4, Access::Read, WEAK(4), &clocks), None, "the next word");
        assert_eq!(touch(1024, 8, Access::Read, WEAK(40), &clocks), by(3, Access::Write));
        clocks.join_all();
        assert_eq!(touch(1024, 16, Access::Read, WEAK(40), &clocks), None);
        assert_eq!(touch(1024, 2, Access::Read, WEAK(41), &clocks), None);
        assert_eq!(touch(1026, 1, Access::Write, WEAK(40), &clocks), None, "41 read other bytes");
        assert_eq!(touch(1025, 1, Access::Write, WEAK(40), &clocks), by(41, Access::Read));
        let strong = |thread| Touch { thread, strong: Some(Scope::Block) };
        assert_eq!(touch(2048, 4, Access::Write, strong(1), &clocks), None);
        assert_eq!(touch(2048, 4, Access::Write, strong(2), &clocks), None);
        assert_eq!(touch(2048, 4, Access::Write, WEAK(3), &clocks), by(2, Access::Write));
    }

    #[test]
    fn reads_of_many_are_remembered() {
        let (shadow, work) = (Shadow::new(1024), Work::in_order(1));
        let mut clocks = Clocks::new(0, 96);
        let touch = |access, thread, clocks: &Clocks| {
            Cursor::default().touch((&shadow, 0, 4), access, WEAK(thread), &work, clocks)
        };
        for thread in 0..64 {
            assert_eq!(touch(Access::Read, thread, &clocks), None);
        }
        assert!(touch(Access::Write, 70, &clocks).is_some());
        clocks.join_all();
        for thread in 0..64 {
            touch(Access::Read, thread, &clocks);
        }
        let mut given = Given::default();
        clocks.give(&[u32::MAX, u32::MAX, 0], &mut given);
        clocks.join(&[0, 0, u32::MAX], given);
        assert_eq!(touch(Access::Write, 70, &clocks), None, "a named barrier ordered them");
        // readers need not have come equally far
        touch(Access::Read, 0, &clocks);
        clocks.fence(1, Scope::Gpu);
        touch(Access::Read, 1, &clocks);
        clocks.join(&[0b11, 0, u32::MAX], Given::default());
        assert_eq!(touch(Access::Write, 70, &clocks), None, "each reader is known as far as it read");
    }

    #[test]
    fn pieces_of_work_are_ordered_by_the_books() {
        #[derive(Debug)]
        struct After(u32);
        impl crate::memory::Order for After {
            fn after(&self, work: u32) -> bool {
                work == self.0
            }
            fn name(&self, work: u32) -> String {
                format!("work {work}")
            }
        }
        let shadow = Shadow::new(3000);
        let other_stream = Work { id: 3, all_before: 1, order: std::sync::Arc::new(After(0)) };
        assert_eq!(shadow.touch(0, 3000, Access::Write, &Work::in_order(1)), None);
        assert_eq!(shadow.touch(0, 3000, Access::Read, &other_stream), None);
        assert_eq!(shadow.touch(100, 8, Access::Write, &Work::in_order(4)), None);
        let clocks = Clocks::new(0, 32);
        let race = Cursor::default().touch((&shadow, 104, 4), Access::Read, WEAK(0), &other_stream, &clocks);
        assert_eq!(race, Some(Rival::Work(4, Access::Write)));
        assert_eq!(shadow.touch(0, 3000, Access::Read, &other_stream), Some(Rival::Work(4, Access::Write)));
        // a later reader does not hide one of another stream
        let read = |work: &Work| Cursor::default().touch((&shadow, 0, 4), Access::Read, WEAK(0), work, &clocks);
        assert_eq!((read(&other_stream), read(&Work { id: 5, ..other_stream.clone() })), (None, None));
        let third = Work { id: 6, all_before: 1, order: std::sync::Arc::new(After(5)) };
        let write = Cursor::default().touch((&shadow, 0, 4), Access::Write, WEAK(0), &third, &clocks);
        assert_eq!(write, Some(Rival::Work(3, Access::Read)));
    }
}
