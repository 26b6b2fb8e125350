//! Launches of `weighted_sum.cu`.

use crate::cuda::Cuda;
use crate::kernel_source::{KernelSource, ONLY_F32};
use crate::launch::{Arg, element};
use crate::op::GradSlot;
use crate::{Tensor, args, kernel_source};

/// The op's `.cu` files.
pub const KERNELS: &[KernelSource] = &[WEIGHTED_SUM];

const WEIGHTED_SUM: KernelSource = kernel_source!("weighted_sum", ONLY_F32);

/// Terms of a launch.
const TERMS: usize = 4;

/// `weights` lie term by term.
pub fn forward(cuda: &Cuda, y: &mut Tensor, inputs: &[&Tensor], weights: &Tensor) {
    let defines = [element("T", y.dtype())];
    let mut first = 0;
    for (launch, terms) in inputs.chunks(TERMS).enumerate() {
        let [x0, x1, x2, x3] = std::array::from_fn(|i| Arg::from(terms.get(i).copied()));
        let counts: [usize; TERMS] = std::array::from_fn(|i| terms.get(i).map_or(0, |x| x.len()));
        let [n0, n1, n2, n3] = counts;
        let weights = weights.slice(first..weights.len());
        let args = args![&mut *y, launch > 0, x0, x1, x2, x3, &weights, n0, n1, n2, n3];
        cuda.launch(&WEIGHTED_SUM, "weighted_sum_fwd", &defines, &[], &args);
        first += counts.iter().sum::<usize>();
    }
}

pub fn backward(cuda: &Cuda, grads: &mut [GradSlot], dy: &Tensor, weights: &Tensor, counts: &[usize]) {
    let mut first = 0;
    for (dx, &n) in grads.iter_mut().zip(counts) {
        let weights = weights.slice(first..first + n);
        first += n;
        if dx.is_needed() {
            let [dx, accumulate] = dx.args();
            let args = args![dx, accumulate, dy, &weights, n];
            let sizes = [("elements", n)];
            cuda.launch(&WEIGHTED_SUM, "weighted_sum_bwd", &[element("T", dy.dtype())], &sizes, &args);
        }
    }
}
