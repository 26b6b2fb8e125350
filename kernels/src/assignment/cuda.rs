//! Launches of `assignment.cu`.

use super::MatchCost;
use crate::cuda::Cuda;
use crate::kernel_source::{KernelSource, ONLY_F32};
use crate::{DType, Device, Tensor, args, kernel_source};

/// The op's `.cu` files.
pub const KERNELS: &[KernelSource] = &[ASSIGNMENT];

const ASSIGNMENT: KernelSource = kernel_source!("assignment", ONLY_F32);

/// What a search keeps of `problems` problems with at most `size` rows and columns: (P, 3, size) f64 and (P, 4, size) i32.
fn state(cuda: &'static Cuda, problems: usize, size: usize) -> [Tensor; 2] {
    [(3, DType::F64), (4, DType::I32)]
        .map(|(n, dtype)| Tensor::empty(&[problems, n, size], dtype, Device::Cuda(cuda)))
}

pub fn assign(
    cuda: &'static Cuda,
    matches: &mut Tensor,
    [logits, boxes, positive_map, targets, image_of_target]: [&Tensor; 5],
    weights: MatchCost,
) {
    let &[layers, b, q, k] = logits.shape() else { panic!("assignment: logits are {:?}", logits.shape()) };
    let (problems, t) = (layers * b, image_of_target.len());
    let [mut doubles, mut ints] = state(cuda, problems, q.max(t));
    let [mut normalizer, mut costs] =
        [[layers, b, q], [layers, t, q]].map(|shape| Tensor::empty(&shape, DType::F32, Device::Cuda(cuda)));
    let [class, bbox, giou] = [weights.class, weights.bbox, weights.giou].map(|w| w as f32);
    let args = args![
        matches,
        &mut doubles,
        &mut ints,
        &mut normalizer,
        &mut costs,
        logits,
        boxes,
        positive_map,
        targets,
        image_of_target,
        class,
        bbox,
        giou,
        b,
        q,
        k,
        t
    ];
    cuda.launch(&ASSIGNMENT, "assignment", &[], &[("problems", problems)], &args);
}

pub fn linear_sum_assignments(cuda: &'static Cuda, column_of_row: &mut Tensor, cost: &Tensor) {
    let &[problems, n, m] = cost.shape() else { panic!("linear_sum_assignments: costs are {:?}", cost.shape()) };
    let [mut doubles, mut ints] = state(cuda, problems, n.max(m));
    let args = args![column_of_row, &mut doubles, &mut ints, cost, n, m];
    cuda.launch(&ASSIGNMENT, "linear_sum_assignment", &[], &[("problems", problems)], &args);
}
