//! The threads that compute: rayon's global pool, a thread a core.

use rayon::ThreadPoolBuilder;

/// Makes the calling thread one of those that compute, where there are several. Between two ops it then hands over nothing and
/// is not woken: about 20 µs an op. For programs, first of all: the pool is made once.
///
/// A single thread stays apart: it would wait for batches whose makers wait for it.
pub fn join() {
    let asked = std::env::var("RAYON_NUM_THREADS").ok().and_then(|n| n.parse().ok()).filter(|&n: &usize| n > 0);
    let threads = asked.or_else(|| std::thread::available_parallelism().ok().map(usize::from)).unwrap_or(1);
    if threads > 1 {
        let _ = ThreadPoolBuilder::new().num_threads(threads).use_current_thread().build_global();
    }
}
