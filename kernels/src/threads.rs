//! The threads that compute: rayon's global pool, one a core.
//!
//! Kernels cut their work into tasks of some ten to a hundred microseconds, and hand them over one by one
//! (`with_max_len(1)`): rayon would give a thread a run of tasks, which nobody takes over when something else slows that
//! thread down.

use rayon::ThreadPoolBuilder;

/// Makes the calling thread one of those that compute, where there are several: between two ops it then hands nothing over
/// and need not be woken, which is some 20 µs an op. For a program's start, before anything computes.
///
/// A single thread stays apart: it would wait for threads of loaders, which may wait for it.
pub fn join() {
    let asked = std::env::var("RAYON_NUM_THREADS").ok().and_then(|n| n.parse().ok()).filter(|&n: &usize| n > 0);
    let threads = asked.or_else(|| std::thread::available_parallelism().ok().map(usize::from)).unwrap_or(1);
    if threads > 1 {
        // An error says that the pool is there already, which works as well.
        let _ = ThreadPoolBuilder::new().num_threads(threads).use_current_thread().build_global();
    }
}
