//! Host memory with reuse: a training step asks for the same sizes again and again, and fresh pages from the
//! operating system cost more than many of the kernels that fill them.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{LazyLock, Mutex};

/// 64 bytes, the alignment of every buffer: a cache line and the widest vector.
#[derive(Clone, Copy, bytemuck::Zeroable, bytemuck::Pod)]
#[repr(C, align(64))]
struct Line([u8; 64]);

/// Buffers below this many lines are not worth a lock.
const POOLED_LINES: usize = 64;

/// Zeroed at first, then recycled: contents are arbitrary, never uninitialized.
pub(crate) struct Buffer {
    lines: Vec<Line>,
}

#[derive(Default)]
struct Pool {
    /// Oldest first.
    free: VecDeque<Vec<Line>>,
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
        let mut buffer = Buffer { lines: Self::take(lines) };
        if POISON.load(Ordering::Relaxed) {
            buffer.bytes_mut().fill(0xFF);
        }
        buffer
    }

    fn take(lines: usize) -> Vec<Line> {
        if lines >= POOLED_LINES {
            let mut pool = POOL.lock().expect("no panic while the pool is locked");
            pool.live_lines += lines;
            pool.peak_live_lines = pool.peak_live_lines.max(pool.live_lines);
            if let Some(v) = pool.free.iter().rposition(|v| v.len() == lines).and_then(|i| pool.free.remove(i)) {
                pool.free_lines -= lines;
                return v;
            }
        }
        bytemuck::zeroed_vec(lines)
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        bytemuck::cast_slice(&self.lines)
    }

    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        bytemuck::cast_slice_mut(&mut self.lines)
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let lines = std::mem::take(&mut self.lines);
        if lines.len() < POOLED_LINES {
            return;
        }
        let mut evicted = Vec::new(); // returned to the system once the pool is unlocked
        let mut pool = POOL.lock().expect("no panic while the pool is locked");
        pool.live_lines -= lines.len();
        pool.free_lines += lines.len();
        pool.free.push_back(lines);
        // What is kept for reuse never makes the process larger than its own high-water mark: the oldest goes first, so
        // that sizes of past batches make room for those of this one.
        while pool.free_lines + pool.live_lines > pool.peak_live_lines {
            let Some(oldest) = pool.free.pop_front() else { break };
            pool.free_lines -= oldest.len();
            evicted.push(oldest);
        }
        drop(pool);
    }
}
