//! Batches on their way to the device while the step before them runs.

use anyhow::Result;
use mdetr_kernels::prefetch::Prefetched;
use mdetr_kernels::{Device, Tensor};

use crate::collate::Collated;

/// Keeps one batch ahead of the one that it gives.
pub struct Ahead<I> {
    batches: I,
    device: Device,
    next: Option<Result<Sent>>,
}

/// A batch that was sent to its device.
pub struct Sent {
    batch: Collated,
    prefetched: Option<Prefetched>,
}

impl<I: Iterator<Item = Result<Collated>>> Ahead<I> {
    /// Sends the first batch.
    pub fn new(mut batches: I, device: Device) -> Self {
        let next = batches.next().map(|batch| batch.map(|batch| Sent::new(batch, device)));
        Ahead { batches, device, next }
    }
}

impl<I: Iterator<Item = Result<Collated>>> Iterator for Ahead<I> {
    type Item = Result<Sent>;

    fn next(&mut self) -> Option<Result<Sent>> {
        let following = match &self.next {
            Some(Ok(_)) => self.batches.next().map(|batch| batch.map(|batch| Sent::new(batch, self.device))),
            _ => None,
        };
        std::mem::replace(&mut self.next, following)
    }
}

impl Sent {
    /// Starts sending.
    pub fn new(mut batch: Collated, device: Device) -> Self {
        let prefetched = device.cuda().and_then(|cuda| {
            let tensors = batch.tensors_mut().map(|t| t.clone());
            cuda.prefetch(&tensors)
        });
        Sent { batch, prefetched }
    }

    /// Runs a step on the batch, whose tensors are on the device from here on.
    pub fn use_in<R>(mut self, device: Device, step: impl FnOnce(&Collated) -> R) -> R {
        let (Some(cuda), Some(prefetched)) = (device.cuda(), self.prefetched) else { return step(&self.batch) };
        let received: Vec<Tensor> = cuda.receive(&prefetched).to_vec();
        self.batch.tensors_mut().into_iter().zip(received).for_each(|(t, on_device)| *t = on_device);
        let result = step(&self.batch);
        cuda.consumed(prefetched);
        result
    }
}
