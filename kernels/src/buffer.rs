//! Host memory with reuse: a training step asks for the same sizes again and again, and fresh pages from the operating system
//! cost more than many of the kernels that fill them. Pieces of any size come from one range of addresses, whose pages become
//! memory when they are first written, and stay: the process is about as large as its tensors ever were at once.

use std::alloc::{Layout, handle_alloc_error};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{LazyLock, Mutex, MutexGuard};

use memmap2::{MmapMut, MmapOptions};

use crate::arena::Arena;

/// 64 bytes, the alignment of every buffer: a cache line and the widest vector.
#[derive(Clone, Copy, bytemuck::Zeroable, bytemuck::Pod)]
#[repr(C, align(64))]
struct Line([u8; 64]);

const LINE: usize = size_of::<Line>();

/// Buffers of fewer bytes are not worth a lock.
const POOLED: usize = 4096;

/// Buffers of fewer bytes (2 MiB) are zeroed in less time than it takes to map pages.
const SPARSE: usize = 1 << 21;

/// Addresses that are asked for at once, which costs nothing: more than a machine's memory, where a system grants that.
const CHUNK: usize = 1 << 36;

/// The least that is asked for where that is not granted.
const SMALL_CHUNK: usize = 8 << 20;

/// Zeroed at first, then recycled: contents are arbitrary, never uninitialized.
pub(crate) struct Buffer {
    memory: Memory,
}

enum Memory {
    Heap(Vec<Line>),
    Piece(Piece),
    /// Zeros but for what was written.
    Sparse(MmapMut),
}

/// `bytes` bytes of the pool, nobody else's.
struct Piece {
    start: NonNull<u8>,
    bytes: usize,
}

// SAFETY: a piece owns its bytes, as a Vec does.
unsafe impl Send for Piece {}
// SAFETY: as above.
unsafe impl Sync for Piece {}

#[derive(Default)]
struct Pool {
    arena: Arena,
    /// Behind the arena's chunks.
    mappings: Vec<MmapMut>,
    live: usize,
    peak_live: usize,
}

static POOL: LazyLock<Mutex<Pool>> = LazyLock::new(Mutex::default);
static POISON: AtomicBool = AtomicBool::new(false);

fn pool() -> MutexGuard<'static, Pool> {
    POOL.lock().expect("no panic while the pool is locked")
}

/// From now on new buffers are filled with 0xFF (NaN in every float type), so that a kernel that leaves part of its
/// output unwritten is seen. For tests.
pub(crate) fn poison_new_buffers() {
    POISON.store(true, Ordering::Relaxed);
}

/// Whether new buffers are to be poisoned.
pub(crate) fn is_poisoning() -> bool {
    POISON.load(Ordering::Relaxed)
}

/// (live, peak live) bytes of pooled tensor memory.
pub(crate) fn usage() -> (usize, usize) {
    let pool = pool();
    (pool.live, pool.peak_live)
}

impl Pool {
    fn take(&mut self, bytes: usize) -> Piece {
        let address = self.arena.take(bytes).unwrap_or_else(|| {
            self.grow(bytes);
            self.arena.take(bytes).expect("the chunk is large enough")
        });
        self.live += bytes;
        self.peak_live = self.peak_live.max(self.live);
        let start = NonNull::new(std::ptr::with_exposed_provenance_mut(address as usize));
        Piece { start: start.expect("mappings do not start at 0"), bytes }
    }

    /// A chunk of at least so many bytes. Where the system counts addresses as memory, the arena grows by as few as the
    /// device's.
    fn grow(&mut self, bytes: usize) {
        let sizes = [CHUNK.max(bytes), bytes.max(SMALL_CHUNK).max(self.arena.size() / 8), bytes];
        let map = |&size: &usize| MmapOptions::new().len(size).no_reserve_swap().map_anon().ok();
        let Some(mut mapping) = sizes.iter().find_map(map) else {
            handle_alloc_error(Layout::array::<u8>(bytes).expect("a tensor's size"))
        };
        // A hint to use pages of 2 MiB: with those of 4 KiB, walking a feature map of 50 MB misses the translation buffers all
        // the time.
        #[cfg(target_os = "linux")]
        let _ = mapping.advise(memmap2::Advice::HugePage);
        self.arena.add(mapping.as_mut_ptr().expose_provenance() as u64, mapping.len());
        self.mappings.push(mapping);
    }
}

impl Buffer {
    pub(crate) fn new(bytes: usize) -> Self {
        let bytes = bytes.max(1).next_multiple_of(LINE);
        let memory = match bytes < POOLED {
            true => Memory::Heap(bytemuck::zeroed_vec(bytes / LINE)),
            false => Memory::Piece(pool().take(bytes)),
        };
        let mut buffer = Buffer { memory };
        if is_poisoning() {
            buffer.bytes_mut().fill(0xFF);
        }
        buffer
    }

    /// Zeros that become memory where they are written, in small pages; if there are enough of them for that to pay. Not
    /// counted as pooled.
    pub(crate) fn sparse_zeros(bytes: usize) -> Option<Self> {
        let pages = (bytes >= SPARSE).then(|| MmapMut::map_anon(bytes.next_multiple_of(LINE)).ok())??;
        #[cfg(target_os = "linux")]
        let _ = pages.advise(memmap2::Advice::NoHugePage); // refused where pages are small anyway
        Some(Buffer { memory: Memory::Sparse(pages) })
    }

    /// A copy as [`Self::sparse_zeros`], if few pages are not zero.
    pub(crate) fn thinned(bytes: &[u8]) -> Option<Self> {
        const PAGE: usize = 4096;
        let is_written = |page: &[u8]| page.iter().any(|&byte| byte != 0);
        let written = bytes.chunks(PAGE).filter(|page| is_written(page)).count();
        if 4 * written * PAGE > bytes.len() {
            return None;
        }
        let mut sparse = Self::sparse_zeros(bytes.len())?;
        for (page, copy) in bytes.chunks(PAGE).zip(sparse.bytes_mut().chunks_mut(PAGE)) {
            if is_written(page) {
                copy[..page.len()].copy_from_slice(page);
            }
        }
        Some(sparse)
    }

    /// Whether it was made by [`Self::sparse_zeros`].
    pub(crate) fn is_sparse(&self) -> bool {
        matches!(self.memory, Memory::Sparse(_))
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        match &self.memory {
            Memory::Heap(lines) => bytemuck::cast_slice(lines),
            Memory::Sparse(pages) => pages,
            // SAFETY: the pool's mappings are never undone; the system has zeroed them, and this piece is the buffer's alone.
            Memory::Piece(Piece { start, bytes }) => unsafe { std::slice::from_raw_parts(start.as_ptr(), *bytes) },
        }
    }

    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        match &mut self.memory {
            Memory::Heap(lines) => bytemuck::cast_slice_mut(lines),
            Memory::Sparse(pages) => pages,
            // SAFETY: as above, and it is borrowed for writing.
            Memory::Piece(Piece { start, bytes }) => unsafe {
                std::slice::from_raw_parts_mut(start.as_ptr(), *bytes)
            },
        }
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        let mut pool = pool();
        pool.live -= self.bytes;
        pool.arena.put_back(self.start.addr().get() as u64, self.bytes);
    }
}

/// Bytes of the mapping that holds these bytes which are memory; the system may have made one of neighbours.
#[cfg(all(test, target_os = "linux"))]
pub(crate) fn resident(bytes: &[u8]) -> usize {
    let address = bytes.as_ptr() as usize;
    let maps = std::fs::read_to_string("/proc/self/smaps").unwrap();
    let mut lines = maps.lines().skip_while(|line| {
        let range = line.split(' ').next().and_then(|range| range.split_once('-'));
        let [start, end] = range.map_or([0; 2], |(a, b)| [a, b].map(|x| usize::from_str_radix(x, 16).unwrap_or(0)));
        !(start..end).contains(&address)
    });
    let line = lines.find(|line| line.starts_with("Rss:")).expect("mappings have this line");
    1024 * line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_are_aligned_and_apart() {
        let sizes = [0, 1, LINE, POOLED - 1, POOLED, POOLED + 1, 5000, 1 << 20];
        // The second time they are recycled.
        for _ in 0..2 {
            let mut buffers = sizes.map(Buffer::new);
            buffers.iter_mut().enumerate().for_each(|(i, buffer)| buffer.bytes_mut().fill(i as u8));
            for (i, buffer) in buffers.iter().enumerate() {
                assert!(buffer.bytes().len() >= sizes[i] && buffer.bytes().as_ptr().addr() % LINE == 0);
                assert!(buffer.bytes().iter().all(|&byte| byte == i as u8), "{} bytes", sizes[i]);
            }
        }
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn sparse_zeros_are_memory_where_they_are_written() {
        assert!(Buffer::sparse_zeros(SPARSE - 1).is_none());
        let mut buffer = Buffer::sparse_zeros(64 << 20).unwrap();
        assert!(buffer.bytes().iter().all(|&byte| byte == 0));
        buffer.bytes_mut()[40 << 20] = 1;
        assert!(resident(buffer.bytes()) < 1 << 20, "{} bytes", resident(buffer.bytes()));
    }

    #[test]
    fn bytes_of_few_pages_are_thinned() {
        let bytes = |step: usize| {
            let mut bytes = vec![0; (4 << 20) + 3];
            bytes.iter_mut().skip(5).step_by(step).for_each(|byte| *byte = 7);
            bytes
        };
        for step in [1 << 21, 100_000] {
            let few = bytes(step);
            let thinned = Buffer::thinned(&few).unwrap();
            assert!(thinned.is_sparse() && thinned.bytes()[..few.len()] == few);
            #[cfg(target_os = "linux")]
            assert!(resident(thinned.bytes()) < 1 << 20, "{} bytes", resident(thinned.bytes()));
        }
        assert!(Buffer::thinned(&bytes(10_000)).is_none(), "every third page");
        assert!(Buffer::thinned(&[0; 100]).is_none(), "too small");
    }
}
