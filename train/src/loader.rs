//! Batches made ahead of the step, on threads of their own.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::JoinHandle;

use anyhow::{Result, anyhow};
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use crate::collate::{Collated, Collator};
use crate::data::concat::Examples;

/// Batches that wait for the step, per worker.
const AHEAD: usize = 2;

/// Iterates over batches in order. Worker w makes batches w, w + workers, ...; what a batch holds does not depend on the
/// number of workers.
pub struct Loader {
    queues: Vec<Receiver<Result<Collated>>>,
    workers: Vec<JoinHandle<()>>,
    next: usize,
    batches: usize,
}

/// Indices of a training epoch in random order, whole batches only.
pub fn shuffled(len: usize, batch_size: usize, seed: u64, epoch: usize) -> Vec<Vec<usize>> {
    let mut order: Vec<usize> = (0..len).collect();
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(epoch as u64);
    order.shuffle(&mut rng);
    order.chunks_exact(batch_size).map(<[usize]>::to_vec).collect()
}

/// All indices in order.
pub fn in_order(len: usize, batch_size: usize) -> Vec<Vec<usize>> {
    (0..len).collect::<Vec<_>>().chunks(batch_size.max(1)).map(<[usize]>::to_vec).collect()
}

impl Loader {
    /// Starts `workers` threads that make the batches of `plan`; augmentation is drawn from `seed`.
    pub fn new(
        dataset: &Arc<impl Examples + 'static>,
        collator: &Collator,
        plan: Vec<Vec<usize>>,
        seed: u64,
        workers: usize,
    ) -> Self {
        let workers = workers.clamp(1, plan.len().max(1));
        let plan = Arc::new(plan);
        let mut queues = Vec::new();
        let mut handles = Vec::new();
        for worker in 0..workers {
            let (send, receive) = sync_channel(AHEAD);
            let (dataset, collator, plan) = (dataset.clone(), collator.clone(), plan.clone());
            handles.push(std::thread::spawn(move || {
                for indices in plan.iter().skip(worker).step_by(workers) {
                    let examples: Result<Vec<_>> = indices.iter().map(|&i| dataset.example(i, seed)).collect();
                    // The receiver is gone when the run stopped early.
                    if send.send(examples.map(|e| collator.collate(e))).is_err() {
                        return;
                    }
                }
            }));
            queues.push(receive);
        }
        Loader { queues, workers: handles, next: 0, batches: plan.len() }
    }
}

impl Iterator for Loader {
    type Item = Result<Collated>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.next == self.batches {
            return None;
        }
        let worker = self.next % self.queues.len();
        self.next += 1;
        Some(self.queues[worker].recv().unwrap_or_else(|_| Err(anyhow!("a loader thread stopped"))))
    }
}

impl Drop for Loader {
    fn drop(&mut self) {
        self.queues.clear();
        for worker in self.workers.drain(..) {
            // A panic there was already reported by the missing batch.
            let _ = worker.join();
        }
    }
}
