//! `cp.async`, and the matrix loads and stores that go with it.
//!
//! A copy reads when it is issued and writes when its thread waits for it. Until then its bytes count as not written.

use std::collections::VecDeque;

use super::access::{Actor, Kinds, read, write};
use super::block::{Block, Stop};
use super::code::{Address, CopyAsync, Space};
use super::registers::{LANES, Mask, Reg, lanes_of};
use super::warp::{Group, Warp};
use crate::memory::{Cursor, PENDING};

/// A copy that was not waited for.
#[derive(Clone, Copy, Debug)]
struct Copy {
    /// In shared space.
    to: u64,
    bytes: [u8; 16],
    size: u64,
}

/// A thread's copies.
#[derive(Clone, Debug, Default)]
struct OfThread {
    /// Committed, the oldest first.
    groups: VecDeque<Vec<Copy>>,
    open: Vec<Copy>,
}

/// The copies of a block's threads that were not waited for.
#[derive(Debug, Default)]
pub(super) struct Copies {
    threads: Vec<OfThread>,
}

impl Copies {
    /// None yet.
    pub fn new(threads: u32) -> Self {
        Self { threads: vec![OfThread::default(); threads as usize] }
    }

    /// `cp.async.commit_group`.
    pub fn commit(&mut self, warp: u32, lanes: Mask) {
        for lane in lanes_of(lanes) {
            let copies = &mut self.threads[warp as usize * LANES + lane];
            let group = std::mem::take(&mut copies.open);
            copies.groups.push_back(group);
        }
    }

    /// Takes what is complete when all but the last `pending` groups are.
    fn take(&mut self, thread: u32, pending: Option<usize>) -> Vec<Copy> {
        let copies = &mut self.threads[thread as usize];
        match pending {
            Some(pending) => {
                let complete = copies.groups.len().saturating_sub(pending);
                copies.groups.drain(..complete).flatten().collect()
            }
            None => {
                let open = std::mem::take(&mut copies.open);
                copies.groups.drain(..).flatten().chain(open).collect()
            }
        }
    }
}

impl Block<'_> {
    pub(super) fn copy_async(
        &mut self,
        warp: &mut Warp,
        group: &Group,
        active: Mask,
        copy: &CopyAsync,
    ) -> Result<(), Stop> {
        let (to, from) = (self.addresses(warp, group, &copy.to), self.addresses(warp, group, &copy.from));
        let sizes = match copy.source_size {
            Some(register) => warp.frame(group.frame).registers.b32[register.index as usize],
            None => [copy.size as u32; LANES],
        };
        for lane in lanes_of(active) {
            let actor = Actor { warp, group, lane };
            let mut bytes = [0; 16];
            let size = u64::from(sizes[lane]).min(copy.size);
            // byte by byte where less is read: alignment is that of the whole all the same
            let mut cursor = Cursor::default();
            if size == copy.size {
                let at = (copy.from.space, from[lane], size);
                let place = self.checked(actor, at, Kinds::Read, None, &mut cursor)?;
                place.allocation.data.copy_out(place.offset, &mut bytes[..size as usize]);
            } else {
                for i in 0..size {
                    let at = (copy.from.space, from[lane] + i, 1);
                    let place = self.checked(actor, at, Kinds::Read, None, &mut cursor)?;
                    bytes[i as usize] = read(&place, 0, 1) as u8;
                }
            }
            drop(cursor);
            let mut cursor = Cursor::default();
            let at = (copy.to.space, to[lane], copy.size);
            let place = self.checked(actor, at, Kinds::Write, None, &mut cursor)?;
            place.allocation.written.fill(place.offset, copy.size, PENDING);
            drop(cursor);
            self.copies.threads[actor.thread() as usize].open.push(Copy { to: to[lane], bytes, size: copy.size });
        }
        Ok(())
    }

    /// `cp.async.wait_group`, or `wait_all` without a number of groups that may be pending.
    pub(super) fn wait_copies(
        &mut self,
        warp: &mut Warp,
        group: &Group,
        active: Mask,
        pending: Option<usize>,
    ) -> Result<(), Stop> {
        for lane in lanes_of(active) {
            let actor = Actor { warp, group, lane };
            for copy in self.copies.take(actor.thread(), pending) {
                let mut cursor = Cursor::default();
                let place =
                    self.checked(actor, (Space::Shared, copy.to, copy.size), Kinds::Write, None, &mut cursor)?;
                place.allocation.data.copy_in(place.offset, &copy.bytes[..copy.size as usize]);
            }
        }
        Ok(())
    }

    /// Lane `i` gives the address of row `i` of 8 elements; lane `i` gets elements `2i` and `2i + 1` of each matrix.
    pub(super) fn load_matrix(
        &mut self,
        warp: &mut Warp,
        group: &Group,
        address: Address,
        rows: &[Reg<u32>],
        transposed: bool,
    ) -> Result<(), Stop> {
        let addresses = self.addresses(warp, group, &address);
        let mut values = vec![[0_u32; LANES]; rows.len()];
        {
            let mut cursor = Cursor::default();
            for (lane, address_of_row) in addresses.into_iter().enumerate().take(8 * rows.len()) {
                let at = (address.space, address_of_row, 16);
                let place = self.checked(Actor { warp, group, lane }, at, Kinds::Read, None, &mut cursor)?;
                for column in 0..8 {
                    let element = read(&place, 2 * column, 2) as u32;
                    let (target, half) = holder(lane as u64 % 8, column, transposed);
                    values[lane / 8][target] |= element << (16 * half);
                }
            }
        }
        for (row, values) in rows.iter().zip(values) {
            warp.frame(group.frame).registers.b32[row.index as usize] = values;
        }
        Ok(())
    }

    pub(super) fn store_matrix(
        &mut self,
        warp: &mut Warp,
        group: &Group,
        address: Address,
        rows: &[Reg<u32>],
        transposed: bool,
    ) -> Result<(), Stop> {
        let addresses = self.addresses(warp, group, &address);
        let registers = &warp.frame(group.frame).registers;
        let values: Vec<[u32; LANES]> = rows.iter().map(|row| registers.b32[row.index as usize]).collect();
        let mut cursor = Cursor::default();
        for (lane, address_of_row) in addresses.into_iter().enumerate().take(8 * rows.len()) {
            let at = (address.space, address_of_row, 16);
            let place = self.checked(Actor { warp, group, lane }, at, Kinds::Write, None, &mut cursor)?;
            for column in 0..8 {
                let (source, half) = holder(lane as u64 % 8, column, transposed);
                write(&place, 2 * column, 2, u64::from(values[lane / 8][source] >> (16 * half)));
            }
        }
        Ok(())
    }
}

/// Which lane holds the element of an 8 x 8 matrix, and in which half of its register.
fn holder(row: u64, column: u64, transposed: bool) -> (usize, u32) {
    let (row, column) = if transposed { (column, row) } else { (row, column) };
    ((row * 4 + column / 2) as usize, (column % 2) as u32)
}
