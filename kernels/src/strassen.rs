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
//! factors instead of by those of an output's own row and column; on normal data they are 2.3 times as large. Rows are in pairs,
//! so that one, which may be another image's, changes the other's rounding, and a value that is not finite reaches both. So it
//! is for factors that last, in inference.

use pulp::Simd;
use rayon::prelude::*;

use crate::gemm_packed::{Epilogue, Product, Start, rows_of};
use crate::panels::{GROUP, PANEL};
use crate::register_tile::{Factors, Fetch, add_tile, load_tile, store_tile};
use crate::simd::LANES;
use crate::{DType, Device, Tensor};

/// Bytes of the left factor that a task reads at most, as long as these are [`FEWEST_ROWS`].
const TASK_BYTES: usize = 512 * 1024;
/// Rows for which the sums of panels are worth reading.
const FEWEST_ROWS: usize = 48;

/// Whether products of many rows take less time by halves (a sum of rows has to be used for several panels of outputs, and a
/// tile's products to outweigh its sums), and err little: at a depth of 2048 some of ResNet-101's features err by more than four
/// times what f32 and f64 differ by in the published program.
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

/// One of the seven products with a panel, half of its depth.
struct Step<'a> {
    left: Left<'a>,
    /// (depth / 2, 64)
    right: &'a [f32],
    /// Whether sums go on from U, V or W; else they start from zero.
    goes_on: bool,
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

/// A panel of a quarter of y.
#[derive(Clone, Copy)]
struct Output<'a> {
    places: &'a [(usize, usize)],
    first: usize,
    /// Of these 64 outputs.
    bias: &'a [f32; PANEL],
    adds_r: bool,
}

/// The products in an order in which few sums are kept. `a` is A11, A12, A22; `s` and `t` as above; `b` B11, B21, B22; `y` Y11,
/// Y12, Y21, Y22.
fn schedule<'a>(
    a: [Left<'a>; 3],
    s: [Left<'a>; 4],
    b: [&'a [f32]; 3],
    t: [&'a [f32]; 4],
    y: [Output<'a>; 4],
) -> [Step<'a>; 7] {
    let ([a11, a12, a22], [s1, s2, s3, s4]) = (a, s);
    let ([b11, b21, b22], [t1, t2, t3, t4]) = (b, t);
    let [y11, y12, y21, y22] = y.map(Some);
    let uvw = Some(Kept::Uvw);
    [
        Step { left: a11, right: b11, goes_on: false, keep: uvw, output: None },
        Step { left: a12, right: b21, goes_on: true, keep: None, output: y11 },
        Step { left: s2, right: t2, goes_on: true, keep: uvw, output: None },
        Step { left: s1, right: t1, goes_on: false, keep: Some(Kept::R), output: None },
        Step { left: s4, right: b22, goes_on: true, keep: None, output: y12 },
        Step { left: s3, right: t3, goes_on: true, keep: uvw, output: y22 },
        Step { left: a22, right: t4, goes_on: true, keep: None, output: y21 },
    ]
}

impl Product<'_> {
    /// y at some places, as many as [`rows`] says.
    #[inline(always)]
    pub fn by_halves<S: Simd, const V: usize>(&mut self, simd: S, places: &[(usize, usize)], panel_sums: &[f32]) {
        debug_assert_eq!(self.taps.len(), 1, "rows of several taps are not halved");
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
        let s = s.each_ref().map(|corners| Left { x: row_sums.as_slice(), corners });
        let mut kept = Tensor::empty(&[2, rows, PANEL], DType::F32, Device::Cpu);
        for (pair, t) in panel_sums.chunks_exact(4 * half * PANEL).enumerate() {
            let firsts = [pair * PANEL, self.outputs / 2 + pair * PANEL];
            let [(b11, b21), (_, b22)] =
                firsts.map(|first| self.panels[first * depth..][..depth * PANEL].split_at(half * PANEL));
            let t = std::array::from_fn(|i| &t[i * half * PANEL..][..half * PANEL]);
            let y = |places, column: usize| {
                let first = firsts[column];
                let bias = match self.epilogue.start {
                    Start::Zero => &[0.0; PANEL],
                    Start::Bias(bias) => bias[first..].first_chunk().expect("whole panels"),
                    Start::Accumulate => unreachable!("gradients are not summed by halves"),
                };
                Output { places, first, bias, adds_r: column == 1 }
            };
            let y = [y(top, 0), y(top, 1), y(bottom, 0), y(bottom, 1)];
            let steps = schedule([a11, a12, a22], s, [b11, b21, b22], t, y);
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
        let start = match self.goes_on {
            true => load_tile::<S, V>(simd, uvw, &kept_at),
            false => [[simd.splat_f32s(0.0); V]; GROUP],
        };
        let output = self.output.map(|output| {
            let places = output.places[row..].first_chunk().expect("whole tiles");
            (output, rows_of(places, output.first + lane))
        });
        let fetch = match &output {
            Some((_, at)) => Fetch { y, residual: epilogue.residual, at, next: None },
            None => Fetch { y: uvw, residual: None, at: &kept_at, next: None },
        };
        let mut sums = factors.add_products::<S, V>(simd, start, corners, fetch);
        match self.keep {
            Some(Kept::Uvw) => store_tile::<S, V>(uvw, &kept_at, &sums),
            Some(Kept::R) => store_tile::<S, V>(r, &kept_at, &sums),
            None => {}
        }
        if let Some((output, at)) = output {
            if output.adds_r {
                sums = add_tile::<S, V>(simd, sums, r, &kept_at);
            }
            // The bias is the same for all rows.
            sums = add_tile::<S, V>(simd, sums, output.bias, &[lane; GROUP]);
            epilogue.finish::<S, V>(simd, y, &at, sums);
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

#[cfg(test)]
mod tests {
    use crate::activation::Activation;
    use crate::case::{Input, Values};
    use crate::linear::Linear;
    use crate::op::{Cx, Op};
    use crate::{DType, Device, Tensor};

    const ROWS: usize = 192;
    const SIZE: usize = 256;

    /// x w^T + b, where no backward comes and where one does.
    fn both_ways(x: &Tensor, b: &[f32]) -> [Vec<f32>; 2] {
        let op = Linear { activation: Activation::None };
        let w = Input::new("w", &[SIZE, SIZE], Values::Normal(1.0 / 16.0)).tensor(DType::F32, 1);
        let b = Tensor::from_slice(b, &[SIZE], Device::Cpu);
        [false, true].map(|saving| {
            let cx = &mut Cx::new(Device::Cpu, false, saving, 0, 0);
            op.forward(cx, &[x, &w, &b]).tensors[0].as_slice().to_vec()
        })
    }

    fn normal() -> Tensor {
        Input::new("x", &[ROWS, SIZE], Values::Normal(1.0)).tensor(DType::F32, 2)
    }

    /// The largest difference of the outputs from `first` on.
    fn far([a, b]: &[Vec<f32>; 2], first: usize) -> f32 {
        let outputs = |y: &[f32]| y.chunks(SIZE).flat_map(|row| row[first..].to_vec()).collect::<Vec<_>>();
        outputs(a).iter().zip(outputs(b)).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
    }

    #[test]
    fn another_way_and_as_near() {
        let ways = both_ways(&normal(), &[0.0; SIZE]);
        assert_ne!(ways[0], ways[1], "the products do not go by halves");
        assert!(far(&ways, 0) < 1e-5, "{}", far(&ways, 0));
    }

    /// An output's rounding knows no other output's bias.
    #[test]
    fn a_large_bias_is_of_its_output_alone() {
        let mut b = [0.0; SIZE];
        b[..SIZE / 2].fill(1e6);
        let ways = both_ways(&normal(), &b);
        assert!(far(&ways, SIZE / 2) < 1e-5, "{}", far(&ways, SIZE / 2));
    }

    #[test]
    fn what_is_not_finite_reaches_two_rows() {
        let mut x = normal();
        x.as_mut_slice::<f32>()[5 * SIZE + 20] = f32::NAN;
        let [halves, _] = both_ways(&x, &[0.0; SIZE]);
        let is_nan: Vec<bool> = halves.chunks(SIZE).map(|row| row.iter().any(|v| v.is_nan())).collect();
        assert!(is_nan[5] && halves[5 * SIZE..6 * SIZE].iter().all(|v| v.is_nan()));
        assert_eq!(is_nan.iter().filter(|&&is_nan| is_nan).count(), 2);
    }
}
