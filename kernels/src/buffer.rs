//! Host memory with reuse: a training step asks for the same sizes again and again, and fresh pages from the
//! operating system cost more than many of the kernels that fill them.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{LazyLock, Mutex};

use memmap2::MmapMut;

/// 64 bytes, the alignment of every buffer: a cache line and the widest vector.
#[derive(Clone, Copy, bytemuck::Zeroable, bytemuck::Pod)]
#[repr(C, align(64))]
struct Line([u8; 64]);

/// Buffers below this many lines are not worth a lock.
const POOLED_LINES: usize = 64;

/// Buffers from this many lines on (2 MiB) are worth pages of their own size: with pages of 4 KiB, walking a feature map of
/// 50 MB misses the translation buffers all the time.
const HUGE_LINES: usize = 1 << 15;

/// Zeroed at first, then recycled: contents are arbitrary, never uninitialized.
pub(crate) struct Buffer {
    memory: Memory,
}

enum Memory {
    Heap(Vec<Line>),
    Pages(MmapMut),
}

impl Memory {
    fn new(lines: usize) -> Self {
        if lines >= HUGE_LINES
            && let Ok(pages) = MmapMut::map_anon(lines * 64)
        {
            // A hint: without huge pages all works as well, only slower.
            #[cfg(target_os = "linux")]
            let _ = pages.advise(memmap2::Advice::HugePage);
            return Memory::Pages(pages);
        }
        Memory::Heap(bytemuck::zeroed_vec(lines))
    }

    fn lines(&self) -> usize {
        self.bytes().len() / 64
    }

    fn bytes(&self) -> &[u8] {
        match self {
            Memory::Heap(lines) => bytemuck::cast_slice(lines),
            Memory::Pages(pages) => pages,
        }
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        match self {
            Memory::Heap(lines) => bytemuck::cast_slice_mut(lines),
            Memory::Pages(pages) => pages,
        }
    }
}

#[derive(Default)]
struct Pool {
    /// Oldest first.
    free: VecDeque<Memory>,
    free_lines: usize,
    live_lines: usize,
    peak_live_lines: usize,
}

static POOL: LazyLock<Mutex<Pool>> = LazyLock::new(Mutex::default);
static POISON: AtomicBool = AtomicBool::new(false);

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
    let pool = POOL.lock().expect("no panic while the pool is locked");
    (pool.live_lines * 64, pool.peak_live_lines * 64)
}

/// Eight size classes an octave: at most an eighth is wasted, and nearby sizes share buffers.
fn size_class(lines: usize) -> usize {
    let step = (lines.next_power_of_two() / 16).max(1);
    lines.div_ceil(step) * step
}

impl Buffer {
    pub(crate) fn new(bytes: usize) -> Self {
        let lines = size_class(bytes.div_ceil(64).max(1));
        let mut buffer = Buffer { memory: Self::take(lines) };
        if is_poisoning() {
            buffer.bytes_mut().fill(0xFF);
        }
        buffer
    }

    fn take(lines: usize) -> Memory {
        if lines >= POOLED_LINES {
            let mut pool = POOL.lock().expect("no panic while the pool is locked");
            pool.live_lines += lines;
            pool.peak_live_lines = pool.peak_live_lines.max(pool.live_lines);
            if let Some(v) = pool.free.iter().rposition(|v| v.lines() == lines).and_then(|i| pool.free.remove(i)) {
                pool.free_lines -= lines;
                return v;
            }
        }
        Memory::new(lines)
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        self.memory.bytes()
    }

    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        self.memory.bytes_mut()
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let memory = std::mem::replace(&mut self.memory, Memory::Heap(Vec::new()));
        let lines = memory.lines();
        if lines < POOLED_LINES {
            return;
        }
        let mut evicted = Vec::new(); // returned to the system once the pool is unlocked
        let mut pool = POOL.lock().expect("no panic while the pool is locked");
        pool.live_lines -= lines;
        pool.free_lines += lines;
        pool.free.push_back(memory);
        // What is kept for reuse makes the process by a quarter larger than tensors ever were at once, since what the peak of a
        // step pushes out is asked for again in the next one. The oldest goes first, so that sizes of past batches make room
        // for those of this one.
        while pool.free_lines + pool.live_lines > pool.peak_live_lines + pool.peak_live_lines / 4 {
            let Some(oldest) = pool.free.pop_front() else { break };
            pool.free_lines -= oldest.lines();
            evicted.push(oldest);
        }
        drop(pool);
    }
}
