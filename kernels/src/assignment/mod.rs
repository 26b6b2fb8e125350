//! The Hungarian matcher of DETR (Carion et al., 2020, arXiv 2005.12872) with MDETR's soft-token class cost: which query
//! stands for which target, in every image and every decoder layer. Of query q and target t
//!
//! ```text
//! cost = -class (softmax(logits_q) . positive_map_t) + bbox |box_q - box_t|_1 - giou GIoU(box_q, box_t)
//! ```
//!
//! with NaN and infinities counted as 0, and the assignment of least total cost, at SciPy's choice among equals.

mod cost;
mod cuda;
mod linear_sum;

use cost::{Target, cost_matrix};
use rayon::prelude::*;

pub use cuda::KERNELS;
pub use linear_sum::linear_sum_assignment;

use crate::matching::assert_kernel_dtypes;
use crate::{DType, Device, Real, Tensor, dispatch_real};

/// The weights of the three costs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MatchCost {
    /// Of the probability on the target's tokens.
    pub class: f64,
    /// Of the L1 distance of normalized (cx, cy, w, h).
    pub bbox: f64,
    /// Of the generalized IoU.
    pub giou: f64,
}

/// The query of each target in its image, (L, T) i32; -1 where an image has more targets than queries, and for what pads the
/// targets: those of image B, behind all others.
///
/// `logits` (L, B, Q, K) and `boxes` (L, B, Q, 4) cxcywh of L decoder layers and B images; `positive_map` (T, K),
/// `targets` (T, 4) and `image_of_target` (T) i32, image after image, of all targets of the batch. f32 or f64, as the logits
/// are; f32 on a GPU.
#[track_caller]
pub fn assign(
    logits: &Tensor,
    boxes: &Tensor,
    positive_map: &Tensor,
    targets: &Tensor,
    image_of_target: &Tensor,
    weights: MatchCost,
) -> Tensor {
    let &[layers, images, queries, k] = logits.shape() else {
        panic!("assignment: logits are {:?}, not (L, B, Q, K)", logits.shape())
    };
    let total = image_of_target.len();
    for (name, t, shape) in [
        ("boxes", boxes, &[layers, images, queries, 4][..]),
        ("positive_map", positive_map, &[total, k]),
        ("targets", targets, &[total, 4]),
        ("image_of_target", image_of_target, &[total]),
    ] {
        assert_eq!(t.shape(), shape, "assignment: {name} is {:?}, logits are {:?}", t.shape(), logits.shape());
    }
    let mut matches = Tensor::empty(&[layers, total], DType::I32, logits.device());
    if let Device::Cuda(cuda) = logits.device() {
        assert_kernel_dtypes("assignment", &[logits, boxes, positive_map, targets], &[image_of_target]);
        let inputs = [logits, boxes, positive_map, targets, image_of_target];
        cuda::assign(cuda, &mut matches, inputs, weights);
        return matches;
    }
    let images_of_targets = image_of_target.as_slice::<i32>();
    assert!(images_of_targets.is_sorted(), "assignment: targets are not image after image: {images_of_targets:?}");
    let mut targets_of_image = vec![Vec::new(); images + 1];
    for (target, &image) in images_of_targets.iter().enumerate() {
        let image = usize::try_from(image).ok().filter(|&image| image <= images);
        let image = image.unwrap_or_else(|| panic!("assignment: target {target} is of no image of {images}"));
        targets_of_image[image].push(target);
    }
    let out: &mut [i32] = matches.as_mut_slice();
    out.fill(-1);
    dispatch_real!("assignment", logits.dtype(), T => {
        let problem = Problem::<T> {
            logits: logits.as_slice(),
            boxes: boxes.as_slice(),
            positive_map: positive_map.as_slice(),
            targets: targets.as_slice::<T>().as_chunks().0,
            queries,
            k,
            weights,
        };
        let pairs: Vec<Vec<(usize, usize)>> = (0..layers * images)
            .into_par_iter()
            .map(|at| problem.solve(at, &targets_of_image[at % images]))
            .collect();
        for (at, (query, target)) in pairs.iter().enumerate().flat_map(|(at, p)| p.iter().map(move |&p| (at, p))) {
            out[at / images * total + target] = i32::try_from(query).expect("queries fit i32");
        }
    });
    matches
}

/// The column of every row in minimum-cost assignments of P problems, (P, N) i32; -1 where there are more rows than columns.
/// `cost` (P, N, M) f64, finite.
#[track_caller]
pub fn linear_sum_assignments(cost: &Tensor) -> Tensor {
    let &[problems, rows, columns] = cost.shape() else {
        panic!("linear_sum_assignments: costs are {:?}, not (P, N, M)", cost.shape())
    };
    assert_eq!(cost.dtype(), DType::F64, "linear_sum_assignments: costs {cost:?}");
    let mut column_of_row = Tensor::empty(&[problems, rows], DType::I32, cost.device());
    if let Device::Cuda(cuda) = cost.device() {
        cuda::linear_sum_assignments(cuda, &mut column_of_row, cost);
        return column_of_row;
    }
    let (cost, out): (&[f64], &mut [i32]) = (cost.as_slice(), column_of_row.as_mut_slice());
    out.fill(-1);
    for problem in 0..problems {
        let size = rows * columns;
        for (row, column) in linear_sum_assignment(&cost[problem * size..(problem + 1) * size], rows, columns) {
            out[problem * rows + row] = i32::try_from(column).expect("columns fit i32");
        }
    }
    column_of_row
}

/// What all images and layers share.
struct Problem<'a, T> {
    logits: &'a [T],
    boxes: &'a [T],
    positive_map: &'a [T],
    targets: &'a [[T; 4]],
    queries: usize,
    k: usize,
    weights: MatchCost,
}

impl<T: Real> Problem<'_, T> {
    /// (query, target) pairs of image and layer number `at`.
    fn solve(&self, at: usize, targets: &[usize]) -> Vec<(usize, usize)> {
        let rows = at * self.queries..(at + 1) * self.queries;
        let described: Vec<Target<T>> = targets
            .iter()
            .map(|&t| Target::new(&self.positive_map[t * self.k..(t + 1) * self.k], self.targets[t]))
            .collect();
        let cost = cost_matrix(
            &self.logits[rows.start * self.k..rows.end * self.k],
            &self.boxes[rows.start * 4..rows.end * 4],
            &described,
            self.weights,
        );
        let pairs = linear_sum_assignment(&cost, self.queries, targets.len());
        pairs.into_iter().map(|(query, target)| (query, targets[target])).collect()
    }
}
