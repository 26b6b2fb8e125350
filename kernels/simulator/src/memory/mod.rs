//! Device memory.
//!
//! **An address carries the number of its allocation**: bits 36 and up, and the memory starts in the middle of the 64 GiB
//! that the rest spans. A pointer that strays by up to 32 GiB in either direction is therefore still known as one into
//! *that* allocation, which is what makes every bound exact, and numbers are never used twice, so that a freed pointer
//! stays a freed one. Number 0 is kept for the windows through which generic addresses reach a block's own memory.

mod bytes;
mod order;
mod shadow;

use std::sync::Arc;

pub use bytes::{Bytes, Word};
pub use order::{Order, Work};
pub use shadow::{Cursor, Rival, Shadow, Touch};

/// Bits of an address below the allocation's number.
const SLOT_BITS: u32 = 36;
/// Where in its slot an allocation starts.
const START: u64 = 1 << (SLOT_BITS - 1);
/// Where generic addresses of shared memory start; each window is of 4 GiB.
pub const SHARED_WINDOW: u64 = 0x4_0000_0000;
/// Where generic addresses of local memory start.
pub const LOCAL_WINDOW: u64 = 0x8_0000_0000;
/// Where generic addresses of a kernel's parameters start.
pub const PARAM_WINDOW: u64 = 0xc_0000_0000;
/// What the driver rounds sizes up to when bounds are not checked, in bytes.
const GRANULARITY: u64 = 512;
/// Content of memory that nothing wrote: not a number in every floating-point type.
const POISON: u8 = 0xff;

/// See [`Allocation::written`]: nothing wrote it yet.
pub const UNWRITTEN: u8 = 0;
/// See [`Allocation::written`]: it may be read.
pub const WRITTEN: u8 = 1;
/// See [`Allocation::written`]: an asynchronous copy to it was not waited for.
pub const PENDING: u8 = 2;

/// Memory that one call of the driver allocated.
#[derive(Debug)]
pub struct Allocation {
    /// Of its first byte.
    pub address: u64,
    /// As asked for.
    pub bytes: u64,
    /// What it is: `variable table` for a module's; empty for memory that the program allocated.
    pub name: String,
    /// The content, `bytes` rounded up.
    pub data: Bytes,
    /// By byte: [`UNWRITTEN`], [`WRITTEN`] or [`PENDING`].
    pub written: Bytes,
    /// Who touched it last.
    pub shadow: Shadow,
}

/// What is done to memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Read.
    Read,
    /// Written.
    Write,
}

/// Why an access failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// No allocation ever was there.
    Unknown,
    /// Outside of the allocation that the address points into: (its address, its size).
    OutOfBounds(u64, u64),
    /// It was freed: (its address, its size).
    Freed(u64, u64),
}

#[derive(Debug)]
enum Slot {
    Live(Arc<Allocation>),
    Freed(u64),
}

/// All allocations of the device, by number.
#[derive(Debug)]
pub struct Memory {
    /// Index is the number less one.
    slots: Vec<Slot>,
    /// Whether allocations end where they were asked to, and unwritten bytes may not be read.
    exact_bounds: bool,
}

impl Memory {
    /// None yet. Without `exact_bounds` sizes are rounded up as the driver does.
    pub fn new(exact_bounds: bool) -> Self {
        Self { slots: Vec::new(), exact_bounds }
    }

    /// Allocates; the address is aligned to 32 GiB. Nothing is written yet, and the content is not a number.
    pub fn allocate(&mut self, bytes: u64, name: &str) -> u64 {
        let address = ((self.slots.len() as u64 + 1) << SLOT_BITS) + START;
        let size = if self.exact_bounds { bytes } else { bytes.next_multiple_of(GRANULARITY) };
        self.slots.push(Slot::Live(Arc::new(self.fresh(address, size, name))));
        address
    }

    /// Bytes that nothing wrote; if bounds are not exact they may be read all the same.
    pub fn fresh(&self, address: u64, bytes: u64, name: &str) -> Allocation {
        let allocation = Allocation::new(address, bytes, name);
        if !self.exact_bounds {
            allocation.written.fill(0, bytes, WRITTEN);
        }
        allocation
    }

    /// Frees an allocation by the address of its first byte, and returns it.
    ///
    /// # Errors
    /// If there is none, or it was freed before.
    pub fn free(&mut self, address: u64) -> Result<Arc<Allocation>, Fault> {
        let allocation = self.find(address, 0)?.0.clone();
        if allocation.address != address {
            return Err(Fault::OutOfBounds(allocation.address, allocation.bytes));
        }
        self.slots[slot(address).unwrap_or(0)] = Slot::Freed(allocation.bytes);
        Ok(allocation)
    }

    /// The allocation that holds `bytes` bytes at `address`, and where in it.
    ///
    /// # Errors
    /// If they are not all inside of one that lives.
    #[inline]
    pub fn find(&self, address: u64, bytes: u64) -> Result<(&Arc<Allocation>, u64), Fault> {
        let index = slot(address).ok_or(Fault::Unknown)?;
        let start = ((index as u64 + 1) << SLOT_BITS) + START;
        match self.slots.get(index) {
            None => Err(Fault::Unknown),
            Some(Slot::Freed(size)) => Err(Fault::Freed(start, *size)),
            Some(Slot::Live(allocation)) => match address.checked_sub(start) {
                Some(offset) if offset.checked_add(bytes).is_some_and(|end| end <= allocation.bytes) => {
                    Ok((allocation, offset))
                }
                _ => Err(Fault::OutOfBounds(start, allocation.bytes)),
            },
        }
    }

    /// Those that live, in the order of their allocation.
    pub fn live(&self) -> impl Iterator<Item = &Arc<Allocation>> {
        self.slots.iter().filter_map(|slot| match slot {
            Slot::Live(allocation) => Some(allocation),
            Slot::Freed(_) => None,
        })
    }
}

/// The index of an address's slot.
fn slot(address: u64) -> Option<usize> {
    ((address >> SLOT_BITS) as usize).checked_sub(1)
}

/// Whether two addresses point into, or stray from, the same allocation.
pub fn same_allocation(a: u64, b: u64) -> bool {
    slot(a).is_some() && slot(a) == slot(b)
}

impl Allocation {
    /// Bytes that nothing wrote: not a number in every floating-point type.
    pub fn new(address: u64, bytes: u64, name: &str) -> Self {
        Self {
            address,
            bytes,
            name: name.to_owned(),
            data: Bytes::new(bytes, POISON),
            written: Bytes::new(bytes, UNWRITTEN),
            shadow: Shadow::new(bytes),
        }
    }

    /// Writes `from` to `offset`, and notes that it is written.
    pub fn write(&self, offset: u64, from: &[u8]) {
        self.data.copy_in(offset, from);
        self.written.fill(offset, from.len() as u64, WRITTEN);
    }

    /// `bytes` bytes from `offset` on, whether written or not.
    pub fn read(&self, offset: u64, bytes: u64) -> Vec<u8> {
        let mut out = vec![0; bytes as usize];
        self.data.copy_out(offset, &mut out);
        out
    }

    /// Notes that `work` reads or writes a range as a whole (a copy, a library's call), and returns an earlier piece of
    /// work that touched it and is not certain to be done.
    pub fn touch(&self, offset: u64, bytes: u64, access: Access, work: &Work) -> Option<u32> {
        self.shadow.touch(offset, bytes, access, work).and_then(|rival| match rival {
            Rival::Work(work, _) => Some(work),
            Rival::Thread(..) | Rival::Blocks => None,
        })
    }

    /// The offset of the first of `bytes` bytes from `offset` on that nothing wrote.
    pub fn first_unwritten(&self, offset: u64, bytes: u64) -> Option<u64> {
        self.written.first_other(offset, bytes, WRITTEN)
    }
}

#[cfg(test)]
mod tests {
    use super::{Fault, Memory};

    #[test]
    fn strayed_pointers_are_known_by_their_allocation() {
        let mut memory = Memory::new(true);
        let (a, b) = (memory.allocate(100, ""), memory.allocate(8, ""));
        assert_eq!(memory.find(a + 96, 4).unwrap().1, 96);
        assert_eq!(memory.find(a + 97, 4).unwrap_err(), Fault::OutOfBounds(a, 100));
        assert_eq!(memory.find(a - 4, 4).unwrap_err(), Fault::OutOfBounds(a, 100));
        assert_eq!(memory.find(b + (1 << 34), 4).unwrap_err(), Fault::OutOfBounds(b, 8));
        assert_eq!(memory.find(16, 4).unwrap_err(), Fault::Unknown);
        assert_eq!(memory.free(a + 4).unwrap_err(), Fault::OutOfBounds(a, 100));
        memory.free(a).unwrap();
        assert_eq!(memory.find(a, 4).unwrap_err(), Fault::Freed(a, 100));
        assert_eq!(memory.free(a).unwrap_err(), Fault::Freed(a, 100));
        assert_ne!(memory.allocate(100, ""), a);
    }

    #[test]
    fn loose_bounds_are_those_of_the_driver() {
        let mut memory = Memory::new(false);
        let a = memory.allocate(100, "");
        assert!(memory.find(a + 508, 4).is_ok());
        assert!(memory.find(a + 512, 1).is_err());
    }
}
