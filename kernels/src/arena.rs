//! Pieces of large allocations (chunks), handed out and taken back: the smallest that is large enough, neighbours merged.
//! Of the host's memory or a device's: addresses are numbers here.

use std::collections::{BTreeMap, BTreeSet};

#[derive(Default)]
pub(crate) struct Arena {
    /// Free pieces: address to size. Neighbours of one chunk are merged.
    sizes: BTreeMap<u64, usize>,
    by_size: BTreeSet<(usize, u64)>,
    /// Address to size.
    chunks: BTreeMap<u64, usize>,
}

impl Arena {
    /// Takes in a chunk.
    pub(crate) fn add(&mut self, address: u64, size: usize) {
        self.chunks.insert(address, size);
        self.insert(address, size);
    }

    /// Bytes of all chunks.
    pub(crate) fn size(&self) -> usize {
        self.chunks.values().sum()
    }

    /// The address of `bytes` bytes, if a piece has them.
    pub(crate) fn take(&mut self, bytes: usize) -> Option<u64> {
        let &(size, address) = self.by_size.range((bytes, 0)..).next()?;
        self.remove(address);
        if size > bytes {
            self.insert(address + bytes as u64, size - bytes);
        }
        Some(address)
    }

    /// Takes back what [`Self::take`] gave.
    pub(crate) fn put_back(&mut self, address: u64, bytes: usize) {
        let (mut start, mut size) = (address, bytes);
        // Chunks that happen to touch stay apart: a piece across both could not be given back.
        let before = self.sizes.range(..address).next_back().map(|(&address, &size)| (address, size));
        if let Some((before, n)) = before
            && before + n as u64 == address
            && !self.chunks.contains_key(&address)
        {
            self.remove(before);
            (start, size) = (before, n + size);
        }
        let end = address + bytes as u64;
        if !self.chunks.contains_key(&end)
            && let Some(n) = self.remove(end)
        {
            size += n;
        }
        self.insert(start, size);
    }

    /// Takes out the chunks of which nothing is used: their addresses and sizes.
    pub(crate) fn take_unused(&mut self) -> Vec<(u64, usize)> {
        let is_unused = |(a, n): &(u64, usize)| self.sizes.get(a) == Some(n);
        let unused: Vec<(u64, usize)> = self.chunks.iter().map(|(&a, &n)| (a, n)).filter(is_unused).collect();
        for (address, _) in &unused {
            self.remove(*address);
            self.chunks.remove(address);
        }
        unused
    }

    fn insert(&mut self, address: u64, size: usize) {
        self.sizes.insert(address, size);
        self.by_size.insert((size, address));
    }

    /// Takes a piece out, and tells its size.
    fn remove(&mut self, address: u64) -> Option<usize> {
        let size = self.sizes.remove(&address)?;
        self.by_size.remove(&(size, address));
        Some(size)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_the_smallest_that_fit_and_merge_within_a_chunk() {
        let mut arena = Arena::default();
        arena.add(1000, 100);
        arena.add(1100, 50); // touches the other
        assert_eq!(arena.take(60), Some(1000));
        assert_eq!(arena.take(40), Some(1060), "the rest of the first chunk is smaller than the second");
        assert_eq!((arena.take(50), arena.take(1)), (Some(1100), None));
        arena.put_back(1060, 40);
        arena.put_back(1100, 50);
        assert_eq!(arena.take(90), None, "chunks stay apart");
        arena.put_back(1000, 60);
        assert_eq!((arena.take(100), arena.size()), (Some(1000), 150));
        assert_eq!(arena.take_unused(), [(1100, 50)]);
        assert_eq!((arena.take(1), arena.size()), (None, 100));
    }
}
