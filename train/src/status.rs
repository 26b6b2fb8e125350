//! What a step tells: its losses by term, the gradients' norm, whether it was skipped. One record of numbers, which comes
//! from a GPU as one copy that nobody waits for until it is read.

use mdetr_autograd::functional as f;
use mdetr_autograd::{Parameters, Tape};
use mdetr_kernels::prefetch::ReadBack;
use mdetr_kernels::{Device, Precision, Tensor};
use mdetr_model::criterion::by_layer;

use crate::optimizer::Outcome;

/// The record of a step on its way to the host.
pub struct Status {
    /// Name and number of values of each loss term.
    terms: Vec<(&'static str, usize)>,
    numbers: Numbers,
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

impl Status {
    /// Gathers and sends: the total (), the terms (L each), and what the optimizer's step left.
    pub fn send(total: &Tensor, terms: &[(&'static str, Tensor)], optimizer: &Tensor) -> Self {
        let device = total.device();
        let nothing = Parameters::default();
        let tape = Tape::inference(&nothing, device, Precision::F32);
        let parts = [total].into_iter().chain(terms.iter().map(|(_, t)| t)).chain([optimizer]);
        let columns: Vec<_> = parts.map(|t| tape.constant(t.reshape(&[t.len(), 1]))).collect();
        let rows: usize = columns.iter().map(|c| c.shape()[0]).sum();
        let index: Vec<i32> = (0..rows as i32).collect();
        let index = Tensor::from_slice(&index, &[rows], device);
        let record = f::gather_rows(&index, &columns.iter().collect::<Vec<_>>());
        let numbers = match device {
            Device::Cpu => Numbers::Here(record.value().as_slice().to_vec()),
            Device::Cuda(cuda) => Numbers::Coming(cuda, cuda.read_back(record.value())),
        };
        Status { terms: terms.iter().map(|(name, t)| (*name, t.len())).collect(), numbers }
    }

    /// The numbers; waits for them where they are still coming. `None` after a failure of the device.
    pub fn read(self) -> Option<StepNumbers> {
        let numbers = match self.numbers {
            Numbers::Here(numbers) => numbers,
            Numbers::Coming(cuda, coming) => cuda.wait_for(coming?)?,
        };
        let mut rest = numbers.iter().map(|&v| f64::from(v));
        let mut losses = vec![("loss".to_string(), rest.next()?)];
        let terms = self.terms.iter().map(|&(name, n)| (name, rest.by_ref().take(n).collect()));
        losses.extend(by_layer(&terms.collect::<Vec<_>>()));
        Some(StepNumbers { losses, outcome: Outcome::new(&rest.collect::<Vec<_>>()) })
    }
}
