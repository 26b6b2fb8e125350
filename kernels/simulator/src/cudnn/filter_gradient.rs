//! The gradient of the filter: for each tap, dy transposed times the x that the tap reads, summed over pixels.

use rayon::prelude::*;

use super::compute::{load_image, swap_axes};
use super::problem::{Layout, Problem};
use crate::memory::Memory;
use crate::vendor::{Rounding, Strided, StridedMut, load, product, store};

/// Pixels whose x is gathered at a time.
const TILE: usize = 512;
/// Channels of y in a block. The split depends on the shape alone, so that results do not depend on the cores.
const BLOCK: usize = 128;

/// dw = alpha sum(dy x) + beta dw.
#[derive(Clone, Copy, Debug)]
pub struct FilterGradient {
    pub problem: Problem,
    pub x: u64,
    pub dy: u64,
    pub dw: u64,
    pub alpha: f32,
    pub beta: f32,
}

/// Part of the gradient.
struct Block {
    group: usize,
    tap: [usize; 2],
    /// The first of its channels of y, within the group.
    start: usize,
    /// (channel of y, channel of x).
    sums: Vec<f32>,
}

impl FilterGradient {
    /// Does it.
    pub fn run(&self, memory: &Memory) {
        let problem = &self.problem;
        let mut blocks = self.blocks();
        for index in 0..problem.batch {
            let x = load_image(memory, problem, problem.x, problem.x_layout, self.x, index);
            let dy = load_image(memory, problem, problem.y, problem.y_layout, self.dy, index);
            blocks.par_iter_mut().for_each(|block| self.accumulate(block, &x, &dy));
        }
        self.finish(memory, &blocks);
    }

    /// Channels of a group: of x, of y.
    fn channels(&self) -> [usize; 2] {
        [self.problem.x.channels / self.problem.groups, self.problem.y.channels / self.problem.groups]
    }

    fn blocks(&self) -> Vec<Block> {
        let ([c, k], [r, s]) = (self.channels(), self.problem.taps);
        let taps = move || (0..r).flat_map(move |r| (0..s).map(move |s| [r, s]));
        let of_group = |group| {
            taps().flat_map(move |tap| {
                let starts = (0..k).step_by(BLOCK);
                starts.map(move |start| Block { group, tap, start, sums: vec![0.0; BLOCK.min(k - start) * c] })
            })
        };
        (0..self.problem.groups).flat_map(of_group).collect()
    }

    /// Adds one image's part.
    fn accumulate(&self, block: &mut Block, x: &[f32], dy: &[f32]) {
        let problem = &self.problem;
        let [c, k] = self.channels();
        let rows = block.sums.len() / c;
        let mut gathered = vec![0.0; TILE * c];
        for start in (0..problem.y.pixels()).step_by(TILE) {
            let count = TILE.min(problem.y.pixels() - start);
            for (pixel, to) in gathered.chunks_mut(c).take(count).enumerate() {
                let (row, col) = ((start + pixel) / problem.y.width, (start + pixel) % problem.y.width);
                let h = problem.axes[0].source(row, block.tap[0], problem.x.height);
                let w = problem.axes[1].source(col, block.tap[1], problem.x.width);
                match h.zip(w) {
                    Some((h, w)) => {
                        let at = (h * problem.x.width + w) * problem.x.channels + block.group * c;
                        to.copy_from_slice(&x[at..at + c]);
                    }
                    None => to.fill(0.0),
                }
            }
            let channel = block.group * k + block.start;
            product(
                [rows, c, count],
                StridedMut { values: &mut block.sums, row: c, col: 1 },
                Strided { values: &dy[start * problem.y.channels + channel..], row: 1, col: problem.y.channels },
                Strided { values: &gathered, row: c, col: 1 },
            );
        }
    }

    fn finish(&self, memory: &Memory, blocks: &[Block]) {
        let problem = &self.problem;
        let ([c, k], [r, s]) = (self.channels(), problem.taps);
        let mut gradient = vec![0.0; problem.filter_len()];
        for block in blocks {
            for (i, row) in block.sums.chunks(c).enumerate() {
                let filter = block.group * k + block.start + i;
                let at = ((filter * r + block.tap[0]) * s + block.tap[1]) * c;
                gradient[at..at + c].copy_from_slice(row);
            }
        }
        if problem.w_layout == Layout::Nchw {
            gradient = gradient.chunks(r * s * c).flat_map(|filter| swap_axes(filter, r * s, c)).collect();
        }
        let mut old = vec![0.0; gradient.len()];
        if self.beta != 0.0 {
            load(memory, problem.dtype, Rounding::Exact, self.dw, &mut old);
        }
        gradient.iter_mut().zip(old).for_each(|(new, old)| *new = self.alpha * *new + self.beta * old);
        store(memory, problem.dtype, self.dw, &gradient);
    }
}
