//! One level of Strassen's algorithm (1969) in Winograd's form (Higham, Accuracy and Stability of Numerical Algorithms, 2nd
//! ed., 23.1): seven products of halves where the definition has eight.
//!
//! ```text
//! y = | Y11 Y12 | = | A11 A12 | | B11 B12 |    S1 = A21 + A22   S3 = A11 - A21    T1 = B12 - B11   T3 = B22 - B12
//!     | Y21 Y22 |   | A21 A22 | | B21 B22 |    S2 = S1 - A11    S4 = A12 - S2     T2 = B22 - T1    T4 = B21 - T2
//!
//! U = A11 B11       V = U + S2 T2      Y11 = U + A12 B21      Y12 = V + R + S4 B22
//! R = S1 T1         W = V + S3 T3      Y21 = W + A22 T4       Y22 = W + R
//! ```
//!
//! An eighth of the products is saved, and some of it lost in the sums. Errors are bounded by the largest elements of the
//! factors instead of by those of an output's own row and column, and half as large again; a value that is not finite
//! reaches a second row, and all its outputs. So it is for factors that last, in inference.

use pulp::Simd;
use rayon::prelude::*;

use crate::gemm_packed::{Epilogue, Product, Start, rows_of};
use crate::panels::{GROUP, PANEL};
use crate::register_tile::{Factors, Fetch, add, load, store, vectors};
use crate::simd::LANES;
use crate::{DType, Device, Tensor};

/// Bytes of the left factor that a task reads at most, as long as these are [`FEWEST_ROWS`].
const TASK_BYTES: usize = 512 * 1024;
/// Rows for which the sums of panels are worth reading.
const FEWEST_ROWS: usize = 48;

/// Whether products of many rows take less time by halves (a sum of rows has to be used for several panels of outputs, and a
/// tile's products to outweigh its sums), and err little: at a depth of 2048 ResNet-101's features lose as many digits as
/// there are between f32 and f64.
pub fn pays(depth: usize, outputs: usize) -> bool {
    depth.is_multiple_of(2 * LANES)
        && (256..=1024).contains(&depth)
        && outputs.is_multiple_of(2 * PANEL)
        && outputs >= 4 * PANEL
}

/// Rows of the left factor that one task takes of `rows`, each of which reads about `bytes` that the others do not: whole
/// tiles of both halves, and enough tasks for many cores.
pub fn task_rows(rows: usize, bytes: usize) -> usize {
    let most = (TASK_BYTES / bytes.max(1)).max(FEWEST_ROWS);
    (rows / 32).clamp(FEWEST_ROWS, most).next_multiple_of(2 * GROUP)
}

/// How many of a task's rows go by halves: the others are too few, or too few for whole tiles.
pub fn rows(rows: usize) -> usize {
    if rows < FEWEST_ROWS { 0 } else { rows / (2 * GROUP) * (2 * GROUP) }
}

/// T1 to T4, (panels / 2, 4, depth / 2, 64), of w in panels (panels, depth, 64).
pub fn panel_sums(panels: &Tensor) -> Tensor {
    let (count, half) = (panels.shape()[0], panels.shape()[1] / 2);
    let quarter = half * PANEL;
    let mut sums = Tensor::empty(&[count / 2, 4, half, PANEL], DType::F32, Device::Cpu);
    let (left, right) = panels.as_slice::<f32>().split_at(count * quarter);
    let sums_of = sums.as_mut_slice::<f32>().par_chunks_mut(4 * quarter);
    sums_of.zip(left.par_chunks(2 * quarter)).zip(right.par_chunks(2 * quarter)).for_each(|((sums, left), right)| {
        let ((b11, b21), (b12, b22)) = (left.split_at(quarter), right.split_at(quarter));
        for i in 0..quarter {
            let t1 = b12[i] - b11[i];
            let t2 = b22[i] - t1;
            sums[i] = t1;
            sums[quarter + i] = t2;
            sums[2 * quarter + i] = b22[i] - b12[i];
            sums[3 * quarter + i] = b21[i] - t2;
        }
    });
    sums
}

/// Half of the columns of half of A's rows, or a sum of such.
#[derive(Clone, Copy)]
struct Left<'a> {
    x: &'a [f32],
    /// The first element of each row.
    corners: &'a [usize],
}

/// One of the seven products with a panel.
struct Step<'a> {
    left: Left<'a>,
    /// (depth / 2, 64)
    right: &'a [f32],
    /// An addend an output; where there is none, sums start from U, V or W.
    start: Option<&'a [f32]>,
    keep: Option<Kept>,
    output: Option<Output<'a>>,
}

/// What is kept of a panel for later steps.
#[derive(Clone, Copy)]
enum Kept {
    /// U, then V, then W.
    Uvw,
    R,
}

/// A quarter of y.
struct Output<'a> {
    places: &'a [(usize, usize)],
    first: usize,
    adds_r: bool,
}

impl Product<'_> {
    /// y at some places, as many as [`rows`] says.
    #[inline(always)]
    pub fn by_halves<S: Simd, const V: usize>(&mut self, simd: S, places: &[(usize, usize)], panel_sums: &[f32]) {
        let (rows, depth, half) = (places.len() / 2, self.run, self.run / 2);
        let (top, bottom) = places.split_at(rows);
        let corners = |places: &[(usize, usize)], column: usize| -> Vec<usize> {
            places.iter().map(|place| place.0 + self.taps[0] + column).collect()
        };
        let a = [corners(top, 0), corners(top, half), corners(bottom, 0), corners(bottom, half)];
        let row_sums = row_sums(simd, self.x, &a, half);
        let sums_at = |i: usize| -> Vec<usize> { (0..rows).map(|row| (i * rows + row) * stride(half)).collect() };
        let s = [sums_at(0), sums_at(1), sums_at(2), sums_at(3)];
        let [a11, a12, _, a22] = a.each_ref().map(|corners| Left { x: self.x, corners });
        let [s1, s2, s3, s4] = s.each_ref().map(|corners| Left { x: row_sums.as_slice(), corners });
        let mut kept = Tensor::empty(&[2, rows, PANEL], DType::F32, Device::Cpu);
        for (pair, t) in panel_sums.chunks_exact(4 * half * PANEL).enumerate() {
            let [left, right] = [pair * PANEL, self.outputs / 2 + pair * PANEL];
            let panel = |first: usize| self.panels[first * depth..][..depth * PANEL].split_at(half * PANEL);
            let ((b11, b21), (_, b22)) = (panel(left), panel(right));
            let [t1, t2, t3, t4] = std::array::from_fn(|i| &t[i * half * PANEL..][..half * PANEL]);
            let bias = |first: usize| match self.epilogue.start {
                Start::Zero => &[0.0; PANEL],
                Start::Bias(bias) => bias[first..].first_chunk::<PANEL>().expect("whole panels"),
                Start::Accumulate => unreachable!("gradients are not summed by halves"),
            };
            // U gives all outputs the left ones' bias, and R the right ones what theirs has more.
            let more: [f32; PANEL] = std::array::from_fn(|j| bias(right)[j] - bias(left)[j]);
            let output = |places, first| Some(Output { places, first, adds_r: first == right });
            let uvw = Some(Kept::Uvw);
            let steps = [
                Step { left: a11, right: b11, start: Some(bias(left)), keep: uvw, output: None },
                Step { left: a12, right: b21, start: None, keep: None, output: output(top, left) },
                Step { left: s2, right: t2, start: None, keep: uvw, output: None },
                Step { left: s1, right: t1, start: Some(&more), keep: Some(Kept::R), output: None },
                Step { left: s4, right: b22, start: None, keep: None, output: output(top, right) },
                Step { left: s3, right: t3, start: None, keep: uvw, output: output(bottom, right) },
                Step { left: a22, right: t4, start: None, keep: None, output: output(bottom, left) },
            ];
            for lane in (0..PANEL).step_by(V * S::F32_LANES) {
                for step in &steps {
                    for row in (0..rows).step_by(GROUP) {
                        step.tile::<S, V>(simd, self.y, kept.as_mut_slice(), row, lane, &self.epilogue);
                    }
                }
            }
        }
    }
}

impl Step<'_> {
    /// 6 rows from `row` on, V vectors of outputs from `lane` on.
    #[inline(always)]
    fn tile<S: Simd, const V: usize>(
        &self,
        simd: S,
        y: &mut [f32],
        kept: &mut [f32],
        row: usize,
        lane: usize,
        epilogue: &Epilogue,
    ) {
        let (uvw, r) = kept.split_at_mut(kept.len() / 2);
        let mut kept_at = [0; GROUP];
        for (p, at) in kept_at.iter_mut().enumerate() {
            *at = (row + p) * PANEL + lane;
        }
        let corners = self.left.corners[row..].first_chunk().expect("whole tiles");
        let (panel, _) = S::as_simd_f32s(self.right);
        let lanes = lane / S::F32_LANES;
        let factors = Factors { x: self.left.x, taps: &[0], run: self.right.len() / PANEL, panel, lane: lanes };
        let start = match self.start {
            Some(start) => [*vectors::<S, V>(&start[lane..]); GROUP],
            None => load::<S, V>(simd, uvw, &kept_at),
        };
        let at = self
            .output
            .as_ref()
            .map(|output| rows_of(output.places[row..].first_chunk().expect("whole tiles"), output.first + lane));
        let fetch = match &at {
            Some(at) => Fetch { y, residual: epilogue.residual, at, next: None },
            None => Fetch { y: uvw, residual: None, at: &kept_at, next: None },
        };
        let mut sums = factors.add_products::<S, V>(simd, start, corners, fetch);
        match self.keep {
            Some(Kept::Uvw) => store::<S, V>(uvw, &kept_at, &sums),
            Some(Kept::R) => store::<S, V>(r, &kept_at, &sums),
            None => {}
        }
        if let (Some(output), Some(at)) = (&self.output, &at) {
            if output.adds_r {
                sums = add::<S, V>(simd, sums, r, &kept_at);
            }
            epilogue.finish::<S, V>(simd, y, at, sums);
        }
    }
}

/// Elements from one sum of rows to the next: lines of a tile's rows do not meet in few sets of a cache.
fn stride(half: usize) -> usize {
    half + LANES
}

/// S1 to S4 (4, rows, [`stride`]) of the rows of A11, A12, A21 and A22 that begin in x at `a`.
#[inline(always)]
fn row_sums<S: Simd>(simd: S, x: &[f32], a: &[Vec<usize>; 4], half: usize) -> Tensor {
    let (rows, stride) = (a[0].len(), stride(half));
    let mut sums = Tensor::empty(&[4, rows, stride], DType::F32, Device::Cpu);
    let (s12, s34) = sums.as_mut_slice::<f32>().split_at_mut(2 * rows * stride);
    let ((s1, s2), (s3, s4)) = (s12.split_at_mut(rows * stride), s34.split_at_mut(rows * stride));
    for row in 0..rows {
        let mut quarters: [&[S::f32s]; 4] = [&[]; 4];
        for i in 0..4 {
            quarters[i] = S::as_simd_f32s(&x[a[i][row]..][..half]).0;
        }
        let [a11, a12, a21, a22] = quarters;
        let to = row * stride..row * stride + half;
        let (s1, s2) = (S::as_mut_simd_f32s(&mut s1[to.clone()]).0, S::as_mut_simd_f32s(&mut s2[to.clone()]).0);
        let (s3, s4) = (S::as_mut_simd_f32s(&mut s3[to.clone()]).0, S::as_mut_simd_f32s(&mut s4[to]).0);
        for k in 0..half / S::F32_LANES {
            s1[k] = simd.add_f32s(a21[k], a22[k]);
            s2[k] = simd.sub_f32s(s1[k], a11[k]);
            s3[k] = simd.sub_f32s(a11[k], a21[k]);
            s4[k] = simd.sub_f32s(a12[k], s2[k]);
        }
    }
    sums
}
