//! Memory that several host threads may touch at once, as the blocks of a launch do.

use std::sync::atomic::{AtomicU8, AtomicU16, AtomicU32, AtomicU64, Ordering::Relaxed};

/// Bytes without a lock: every access is a relaxed atomic of its own size, so that a simulated race is not one of ours.
#[derive(Debug)]
pub struct Bytes {
    words: Box<[AtomicU64]>,
}

/// Unsigned integers that memory holds.
pub trait Word: Copy + Default + Into<u64> + PartialEq {
    /// Its atomic.
    type Atomic;
    /// Bytes.
    const SIZE: u64 = size_of::<Self>() as u64;

    /// The low bits.
    fn truncate(bits: u64) -> Self;
    /// A relaxed load.
    fn load(atomic: &Self::Atomic) -> Self;
    /// A relaxed store.
    fn store(atomic: &Self::Atomic, value: Self);
    /// Replaces the value by `f` of it, atomically; returns the old one.
    fn update(atomic: &Self::Atomic, f: impl Fn(Self) -> Self) -> Self;
}

macro_rules! word {
    ($($word:ty, $atomic:ty;)*) => {$(
        impl Word for $word {
            type Atomic = $atomic;

            fn truncate(bits: u64) -> Self {
                bits as $word
            }

            fn load(atomic: &Self::Atomic) -> Self {
                atomic.load(Relaxed)
            }

            fn store(atomic: &Self::Atomic, value: Self) {
                atomic.store(value, Relaxed);
            }

            fn update(atomic: &Self::Atomic, f: impl Fn(Self) -> Self) -> Self {
                atomic.fetch_update(Relaxed, Relaxed, |old| Some(f(old))).unwrap_or_else(|old| old)
            }
        }
    )*};
}

word! {
    u8, AtomicU8;
    u16, AtomicU16;
    u32, AtomicU32;
    u64, AtomicU64;
}

impl Bytes {
    /// `len` bytes (rounded up to a multiple of 8) of `fill`.
    pub fn new(len: u64, fill: u8) -> Self {
        let word = u64::from_ne_bytes([fill; 8]);
        Self { words: (0..len.div_ceil(8)).map(|_| AtomicU64::new(word)).collect() }
    }

    /// The size in bytes.
    pub fn len(&self) -> u64 {
        self.words.len() as u64 * 8
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.words.is_empty()
    }

    /// The word at `offset`, a multiple of its size.
    ///
    /// # Panics
    /// If it is not inside.
    #[inline]
    pub fn word<T: Word>(&self, offset: u64) -> &T::Atomic {
        assert!(offset.is_multiple_of(T::SIZE) && offset + T::SIZE <= self.len(), "{offset} of {} bytes", self.len());
        // SAFETY: inside and aligned, as just checked; integers and their atomics have the same size and alignment, and
        // every access, of whatever size, is atomic.
        unsafe { &*self.words.as_ptr().cast::<u8>().add(offset as usize).cast::<T::Atomic>() }
    }

    /// Loads the word at `offset`, a multiple of its size.
    #[inline]
    pub fn load<T: Word>(&self, offset: u64) -> T {
        T::load(self.word::<T>(offset))
    }

    /// Stores a word at `offset`, a multiple of its size.
    #[inline]
    pub fn store<T: Word>(&self, offset: u64, value: T) {
        T::store(self.word::<T>(offset), value);
    }

    /// Copies `to.len()` bytes from `offset` on out.
    pub fn copy_out(&self, offset: u64, to: &mut [u8]) {
        let mut at = offset;
        for chunk in Steps::new(offset, to.len() as u64) {
            let here = &mut to[(at - offset) as usize..][..chunk as usize];
            match chunk {
                8 => here.copy_from_slice(&self.load::<u64>(at).to_ne_bytes()),
                _ => here[0] = self.load::<u8>(at),
            }
            at += chunk;
        }
    }

    /// Copies `from` to `offset`.
    pub fn copy_in(&self, offset: u64, from: &[u8]) {
        let mut at = offset;
        for chunk in Steps::new(offset, from.len() as u64) {
            let here = &from[(at - offset) as usize..][..chunk as usize];
            match here.try_into() {
                Ok(word) => self.store::<u64>(at, u64::from_ne_bytes(word)),
                Err(_) => self.store::<u8>(at, here[0]),
            }
            at += chunk;
        }
    }

    /// Sets `len` bytes from `offset` on.
    #[inline]
    pub fn fill(&self, offset: u64, len: u64, value: u8) {
        // what a thread writes is a word, mostly
        match len {
            2 if offset.is_multiple_of(2) => return self.store(offset, u16::from_ne_bytes([value; 2])),
            4 if offset.is_multiple_of(4) => return self.store(offset, u32::from_ne_bytes([value; 4])),
            _ => {}
        }
        let mut at = offset;
        for chunk in Steps::new(offset, len) {
            match chunk {
                8 => self.store::<u64>(at, u64::from_ne_bytes([value; 8])),
                _ => self.store::<u8>(at, value),
            }
            at += chunk;
        }
    }

    /// The offset of the first of `len` bytes from `offset` on that is not `value`.
    #[inline]
    pub fn first_other(&self, offset: u64, len: u64, value: u8) -> Option<u64> {
        let same = match len {
            2 if offset.is_multiple_of(2) => self.load::<u16>(offset) == u16::from_ne_bytes([value; 2]),
            4 if offset.is_multiple_of(4) => self.load::<u32>(offset) == u32::from_ne_bytes([value; 4]),
            _ => false,
        };
        if same {
            return None;
        }
        let mut at = offset;
        for chunk in Steps::new(offset, len) {
            let whole = chunk == 8 && self.load::<u64>(at) == u64::from_ne_bytes([value; 8]);
            if !whole && let Some(other) = (at..at + chunk).find(|&at| self.load::<u8>(at) != value) {
                return Some(other);
            }
            at += chunk;
        }
        None
    }
}

/// The sizes of steps through a range: 8 bytes where that is aligned and fits, else 1.
struct Steps {
    at: u64,
    end: u64,
}

impl Steps {
    fn new(offset: u64, len: u64) -> Self {
        Self { at: offset, end: offset + len }
    }
}

impl Iterator for Steps {
    type Item = u64;

    fn next(&mut self) -> Option<u64> {
        if self.at == self.end {
            return None;
        }
        let step = if self.at.is_multiple_of(8) && self.end - self.at >= 8 { 8 } else { 1 };
        self.at += step;
        Some(step)
    }
}

#[cfg(test)]
mod tests {
    use super::Bytes;

    #[test]
    fn words_of_all_sizes_share_the_bytes() {
        let bytes = Bytes::new(24, 0);
        bytes.copy_in(3, &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15]);
        assert_eq!(bytes.load::<u8>(2), 0);
        assert_eq!(bytes.load::<u16>(4), u16::from_ne_bytes([2, 3]));
        assert_eq!(bytes.load::<u64>(8), u64::from_ne_bytes([6, 7, 8, 9, 10, 11, 12, 13]));
        let mut out = [0; 4];
        bytes.copy_out(15, &mut out);
        assert_eq!(out, [13, 14, 15, 0]);
        bytes.fill(1, 20, 7);
        assert_eq!(bytes.first_other(1, 23, 7), Some(21));
        assert_eq!(bytes.first_other(1, 20, 7), None);
    }
}
