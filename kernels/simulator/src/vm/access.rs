//! Loads, stores and atomics: where an address leads, and what is checked there.

use std::sync::Arc;

use super::block::{Block, Stop};
use super::clocks::{Received, Scope};
use super::code::{self, Access, Atomic, Space, Strength};
use super::launch::Key;
use super::program::SHARED_SLOT_BITS;
use super::registers::{LANES, Mask, lanes_of};
use super::warp::{Group, Warp};
use crate::memory::{
    self, Allocation, Cursor, Fault, LOCAL_WINDOW, PARAM_WINDOW, SHARED_WINDOW, Touch, WRITTEN, Word,
};

/// Elements of a vector access, at most.
const ELEMENTS: usize = 8;

/// Bytes of memory.
#[derive(Clone, Copy)]
pub(super) struct Place<'a> {
    pub allocation: &'a Allocation,
    pub offset: u64,
    pub space: Space,
}

/// A lane of a group that accesses memory.
#[derive(Clone, Copy)]
pub(super) struct Actor<'a> {
    pub warp: &'a Warp,
    pub group: &'a Group,
    pub lane: usize,
}

impl Actor<'_> {
    /// The thread, in its block.
    pub fn thread(self) -> u32 {
        self.warp.index * LANES as u32 + self.lane as u32
    }
}

/// What an access does to memory.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kinds {
    Read,
    Write,
    /// An atomic: it reads what has to be written, and writes.
    Both,
}

impl Block<'_> {
    /// Where an address leads.
    #[inline]
    fn place(&self, space: Space, address: u64, bytes: u64, thread: u32) -> Result<Place<'_>, (Fault, Space)> {
        const WINDOW: u64 = 1 << 32;
        match space {
            Space::Generic => {
                let window = |start: u64| address.checked_sub(start).filter(|offset| *offset < WINDOW);
                if let Some(address) = window(SHARED_WINDOW) {
                    self.place(Space::Shared, address, bytes, thread)
                } else if let Some(address) = window(LOCAL_WINDOW) {
                    self.place(Space::Local, address, bytes, thread)
                } else if let Some(address) = window(PARAM_WINDOW) {
                    self.place(Space::Parameter, address, bytes, thread)
                } else {
                    self.place(Space::Global, address, bytes, thread)
                }
            }
            Space::Global => match self.grid.memory.find(address, bytes) {
                Ok((allocation, offset)) => {
                    if self.last_touched.get() != allocation.address {
                        self.last_touched.set(allocation.address);
                        self.touched.borrow_mut().insert(allocation.address);
                    }
                    Ok(Place { allocation, offset, space })
                }
                Err(fault) => Err((fault, space)),
            },
            Space::Shared => {
                let number = (address >> SHARED_SLOT_BITS).wrapping_sub(1) as usize;
                let allocation = self.shared.get(number).ok_or((Fault::Unknown, space))?;
                let start = super::program::shared_address(number);
                inside(address.wrapping_sub(start), bytes, allocation.bytes, start)
                    .map(|offset| Place { allocation, offset, space })
                    .map_err(|fault| (fault, space))
            }
            Space::Local => inside(address, bytes, self.local_size, 0)
                .map(|offset| offset + u64::from(thread) * self.local_size)
                .map(|offset| Place { allocation: &self.local, offset, space })
                .map_err(|fault| (fault, space)),
            Space::Parameter => {
                let allocation = &self.grid.arguments;
                inside(address, bytes, allocation.bytes, 0)
                    .map(|offset| Place { allocation, offset, space })
                    .map_err(|fault| (fault, space))
            }
        }
    }

    /// Checks an access of a lane, up to races.
    #[inline]
    pub(super) fn checked<'a>(
        &'a self,
        actor: Actor<'_>,
        (space, address, bytes): (Space, u64, u64),
        kind: Kinds,
        strong: Option<Scope>,
        cursor: &mut Cursor<'a>,
    ) -> Result<Place<'a>, Stop> {
        let place = match self.place(space, address, bytes, actor.thread()) {
            Ok(place) => place,
            Err((fault, space)) => {
                self.report_fault(actor, space, address, bytes, kind, &fault);
                return Err(Stop);
            }
        };
        if !place.offset.is_multiple_of(bytes) {
            self.report_misaligned(actor, &place, address, bytes, kind);
            return Err(Stop);
        }
        if kind != Kinds::Write && place.allocation.written.first_other(place.offset, bytes, WRITTEN).is_some() {
            self.report_unwritten(actor, &place, bytes);
        }
        if kind != Kinds::Read && place.space != Space::Parameter {
            place.allocation.written.fill(place.offset, bytes, WRITTEN);
        }
        if self.grid.options.races && matches!(place.space, Space::Global | Space::Shared) {
            let touch = Touch { thread: actor.thread(), strong };
            let access = if kind == Kinds::Read { memory::Access::Read } else { memory::Access::Write };
            let at = (&place.allocation.shadow, place.offset, bytes);
            if let Some(rival) = cursor.touch(at, access, touch, self.grid.work, &self.clocks) {
                self.report_race(actor, &place, access, rival);
            }
        }
        Ok(place)
    }

    pub(super) fn load(&mut self, warp: &mut Warp, group: &Group, active: Mask, access: &Access) -> Result<(), Stop> {
        let addresses = self.addresses(warp, group, &access.address);
        let bytes = access.size * access.rows.len() as u64;
        let mut values = [[0_u64; LANES]; ELEMENTS];
        let strong = reach(access.strength);
        {
            let mut cursor = Cursor::default();
            for lane in lanes_of(active) {
                let actor = Actor { warp, group, lane };
                let at = (access.address.space, addresses[lane], bytes);
                let place = self.checked(actor, at, Kinds::Read, strong, &mut cursor)?;
                for (element, row) in values.iter_mut().enumerate().take(access.rows.len()) {
                    row[lane] = read(&place, element as u64 * access.size, access.size);
                }
            }
        }
        for ((row, fill), mut values) in access.rows.iter().zip(values) {
            if let Some(bits) = fill {
                let unused = 64 - access.size as u32 * 8;
                values = values.map(|v| ((v << unused) as i64 >> unused) as u64 & (u64::MAX >> (64 - bits)));
            }
            warp.set(group.frame, *row, active, values);
        }
        if strong.is_some() {
            self.receive(warp, active, &addresses, access.address.space);
        }
        Ok(())
    }

    pub(super) fn store(
        &mut self,
        warp: &mut Warp,
        group: &Group,
        active: Mask,
        access: &Access,
    ) -> Result<(), Stop> {
        let addresses = self.addresses(warp, group, &access.address);
        let bytes = access.size * access.rows.len() as u64;
        let mut values = [[0_u64; LANES]; ELEMENTS];
        for (values, (row, _)) in values.iter_mut().zip(&access.rows) {
            *values = warp.frame(group.frame).registers.values(*row);
        }
        let (strength, scope) = access.strength;
        if strength == Strength::Ordered {
            lanes_of(active).for_each(|lane| self.clocks.fence(Actor { warp, group, lane }.thread(), scope));
        }
        let strong = reach(access.strength);
        let mut cursor = Cursor::default();
        for lane in lanes_of(active) {
            let at = (access.address.space, addresses[lane], bytes);
            let actor = Actor { warp, group, lane };
            let place = self.checked(actor, at, Kinds::Write, strong, &mut cursor)?;
            let store = || {
                for (element, row) in values.iter().enumerate().take(access.rows.len()) {
                    write(&place, element as u64 * access.size, access.size, row[lane]);
                }
            };
            match self.passes(actor, access.address.space, addresses[lane], scope) {
                keys if strong.is_some() && !keys.is_empty() => self.grid.pass(&keys, false, || (store(), true)),
                _ => store(),
            }
        }
        Ok(())
    }

    pub(super) fn atomic(
        &mut self,
        warp: &mut Warp,
        group: &Group,
        active: Mask,
        atomic: &Atomic,
    ) -> Result<(), Stop> {
        let addresses = self.addresses(warp, group, &atomic.address);
        let registers = &warp.frame(group.frame).registers;
        let [a, b] = atomic.operands.map(|row| registers.values(row));
        let keep = u64::MAX >> (64 - atomic.size * 8);
        let (strength, scope) = atomic.strength;
        let space = atomic.address.space;
        if strength == Strength::Ordered {
            lanes_of(active).for_each(|lane| self.clocks.fence(Actor { warp, group, lane }.thread(), scope));
        }
        let mut old = [0; LANES];
        let first = if self.grid.options.seed == 0 { 0 } else { self.random() as usize % LANES };
        for lane in (0..LANES).map(|turn| (first + turn) % LANES).filter(|lane| active >> lane & 1 == 1) {
            let mut cursor = Cursor::default();
            let at = (space, addresses[lane], atomic.size);
            let actor = Actor { warp, group, lane };
            let place = self.checked(actor, at, Kinds::Both, Some(scope), &mut cursor)?;
            let modify = |old| (atomic.modify)(old, a[lane] & keep, b[lane] & keep) & keep;
            let (bytes, offset) = (&place.allocation.data, place.offset);
            let update = || match atomic.size {
                2 => u16::update(bytes.word::<u16>(offset), |old| modify(old.into()) as u16).into(),
                4 => u32::update(bytes.word::<u32>(offset), |old| modify(old.into()) as u32).into(),
                _ => u64::update(bytes.word::<u64>(offset), modify),
            };
            let keys = self.passes(actor, space, addresses[lane], scope);
            old[lane] = if keys.is_empty() {
                update()
            } else {
                self.grid.pass(&keys, true, || {
                    let old = update();
                    (old, !atomic.compares || old == a[lane] & keep)
                })
            };
            drop(cursor);
            // one after another: a lane receives what the one before passed on
            self.receive(warp, 1 << lane, &addresses, space);
        }
        if let Some(target) = atomic.target {
            warp.set(group.frame, target, active, old);
        }
        Ok(())
    }

    /// Addresses by lane.
    pub(super) fn addresses(&self, warp: &mut Warp, group: &Group, address: &code::Address) -> [u64; LANES] {
        let base = warp.frame(group.frame).registers.values(address.base);
        base.map(|base| base.wrapping_add_signed(address.offset))
    }

    /// Strong reads receive what strong writes at their addresses passed on.
    fn receive(&mut self, warp: &Warp, lanes: Mask, addresses: &[u64; LANES], space: Space) {
        for lane in lanes_of(lanes) {
            let (address, only) = key(space, addresses[lane]);
            let passed = self.grid.passed(address, self.index);
            let thread = warp.index * LANES as u32 + lane as u32;
            for (passed, of_block) in passed.iter().zip([false, true]) {
                if let Some(passed) = passed
                    && (of_block || !only)
                {
                    self.clocks.receive(thread, passed);
                }
            }
        }
    }

    /// What a strong write passes on, of what was fenced before it, and to whom.
    fn passes(&self, actor: Actor<'_>, space: Space, address: u64, scope: Scope) -> Vec<(Key, &Arc<Received>)> {
        let (address, only) = key(space, address);
        let [of_block, of_all] = [Scope::Block, Scope::Gpu].map(|scope| self.clocks.passes(actor.thread(), scope));
        let of_all = of_all.filter(|_| scope == Scope::Gpu && !only);
        let of_block = of_block.filter(|passed| !of_all.is_some_and(|all| Arc::ptr_eq(all, passed)));
        let of_all = of_all.map(|passed| ((address, None), passed));
        of_all.into_iter().chain(of_block.map(|passed| ((address, Some(self.index)), passed))).collect()
    }
}

/// How far a strong access reaches.
fn reach((strength, scope): (Strength, Scope)) -> Option<Scope> {
    (strength != Strength::Weak).then_some(scope)
}

/// A generic address for what strong writes pass on, and whether only threads of the block can reach it.
fn key(space: Space, address: u64) -> (u64, bool) {
    let shared = space == Space::Shared || (SHARED_WINDOW..LOCAL_WINDOW).contains(&address);
    let address = if space == Space::Shared { address + SHARED_WINDOW } else { address };
    (address, shared)
}

fn inside(offset: u64, bytes: u64, size: u64, start: u64) -> Result<u64, Fault> {
    if offset.checked_add(bytes).is_some_and(|end| end <= size) {
        Ok(offset)
    } else {
        Err(Fault::OutOfBounds(start, size))
    }
}

/// An element of `size` bytes.
#[inline]
pub(super) fn read(place: &Place<'_>, more: u64, size: u64) -> u64 {
    let (data, offset) = (&place.allocation.data, place.offset + more);
    match size {
        1 => data.load::<u8>(offset).into(),
        2 => data.load::<u16>(offset).into(),
        4 => data.load::<u32>(offset).into(),
        _ => data.load::<u64>(offset),
    }
}

/// Stores the low `size` bytes.
#[inline]
pub(super) fn write(place: &Place<'_>, more: u64, size: u64, value: u64) {
    let (data, offset) = (&place.allocation.data, place.offset + more);
    match size {
        1 => data.store::<u8>(offset, value as u8),
        2 => data.store::<u16>(offset, value as u16),
        4 => data.store::<u32>(offset, value as u32),
        _ => data.store::<u64>(offset, value),
    }
}
