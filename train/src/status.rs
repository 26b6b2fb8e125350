//! What a step tells: its losses by term, the gradients' norm, whether it was skipped. One record of numbers, which comes
//! from a GPU as one copy that nobody waits for until it is read.

use mdetr_autograd::functional as f;
use mdetr_autograd::{Parameters, Tape};
use mdetr_kernels::prefetch::ReadBack;
use mdetr_kernels::{Device, Precision, Tensor};
use mdetr_model::criterion::by_layer;

use crate::optimizer::Outcome;

/// The losses of a batch.
pub struct BatchLosses {
    /// What they count in those of the step: 1 unless several batches make one.
    pub share: f64,
    /// The weighted sum, ().
    pub total: Tensor,
    /// The terms by name, (L) each.
    pub terms: Vec<(&'static str, Tensor)>,
}

/// The record of a step, where it was computed.
pub struct Record {
    names: Names,
    numbers: Tensor,
}

/// The record of a step on its way to the host.
pub struct Status {
    names: Names,
    numbers: Numbers,
}

/// What the numbers of a record are.
struct Names {
    /// Name and number of values of each loss term.
    terms: Vec<(&'static str, usize)>,
    /// Of each batch.
    shares: Vec<f64>,
}

enum Numbers {
    Here(Vec<f32>),
    Coming(&'static mdetr_kernels::cuda::Cuda, Option<ReadBack>),
}

/// The numbers of a step.
#[derive(Clone, Debug)]
pub struct StepNumbers {
    /// Losses by published name, the weighted `loss` first.
    pub losses: Vec<(String, f64)>,
    /// How the optimizer's step went.
    pub outcome: Outcome,
}

impl Record {
    /// Gathers the losses of the step's batches, and what the optimizer's step left.
    pub fn new(batches: &[BatchLosses], optimizer: &Tensor) -> Self {
        let device = optimizer.device();
        let nothing = Parameters::default();
        let tape = Tape::inference(&nothing, device, Precision::F32);
        let losses = batches.iter().flat_map(|b| std::iter::once(&b.total).chain(b.terms.iter().map(|(_, t)| t)));
        let parts = losses.chain([optimizer]);
        let columns: Vec<_> = parts.map(|t| tape.constant(t.reshape(&[t.len(), 1]))).collect();
        let rows: usize = columns.iter().map(|c| c.shape()[0]).sum();
        let index: Vec<i32> = (0..rows as i32).collect();
        let index = Tensor::from_slice(&index, &[rows], device);
        let numbers = f::gather_rows(&index, &columns.iter().collect::<Vec<_>>()).value().clone();
        let terms = batches[0].terms.iter().map(|(name, t)| (*name, t.len())).collect();
        Record { names: Names { terms, shares: batches.iter().map(|b| b.share).collect() }, numbers }
    }

    /// Sends it to the host.
    pub fn send(self) -> Status {
        let numbers = match self.numbers.device() {
            Device::Cpu => Numbers::Here(self.numbers.as_slice().to_vec()),
            Device::Cuda(cuda) => Numbers::Coming(cuda, cuda.read_back(&self.numbers)),
        };
        Status { names: self.names, numbers }
    }
}

impl Status {
    /// The numbers; waits for them where they are still coming. `None` after a failure of the device.
    pub fn read(self) -> Option<StepNumbers> {
        let numbers = match self.numbers {
            Numbers::Here(numbers) => numbers,
            Numbers::Coming(cuda, coming) => cuda.wait_for(coming?)?,
        };
        let Names { terms, shares } = self.names;
        let width = 1 + terms.iter().map(|(_, n)| n).sum::<usize>();
        let (batches, outcome) = numbers.split_at_checked(width * shares.len())?;
        let of_step = |i| batches.chunks(width).zip(&shares).map(|(b, share)| share * f64::from(b[i])).sum();
        let mut rest = (0..width).map(of_step);
        let mut losses = vec![("loss".to_string(), rest.next()?)];
        let terms = terms.iter().map(|&(name, n)| (name, rest.by_ref().take(n).collect()));
        losses.extend(by_layer(&terms.collect::<Vec<_>>()));
        let outcome: Vec<f64> = outcome.iter().map(|&v| f64::from(v)).collect();
        Some(StepNumbers { losses, outcome: Outcome::new(&outcome) })
    }
}
