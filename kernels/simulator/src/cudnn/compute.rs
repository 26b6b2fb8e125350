//! The forward pass and the gradient of x: tiles of pixels, gathered and multiplied by the filter.

use rayon::prelude::*;

use super::problem::{Axis, Image, Layout, Pass, Problem};
use crate::memory::Memory;
use crate::vendor::{Rounding, Strided, StridedMut, load, product, store};

/// Pixels of a tile. The split depends on the shape alone, so that results do not depend on the cores.
const TILE: usize = 128;

/// What happens to sums on their way to memory.
#[derive(Clone, Copy, Debug)]
pub struct Output {
    pub address: u64,
    pub alpha: f32,
    /// A factor, and the address of what is added.
    pub residual: Option<(f32, u64)>,
    /// The address of one number for each channel.
    pub bias: Option<u64>,
    pub relu: bool,
}

/// A forward pass, or the gradient of x.
#[derive(Clone, Copy, Debug)]
pub struct Convolution {
    pub problem: Problem,
    /// Of x, or dy.
    pub input: u64,
    pub filter: u64,
    pub output: Output,
}

impl Convolution {
    /// Does it.
    pub fn run(&self, memory: &Memory) {
        let problem = &self.problem;
        let filter = self.filter_panels(memory);
        let mut bias = vec![0.0; self.to().0.channels];
        if let Some(address) = self.output.bias {
            load(memory, problem.dtype, Rounding::Exact, address, &mut bias);
        }
        (0..problem.batch).into_par_iter().for_each(|index| {
            let (from, layout) = self.from();
            let image = load_image(memory, problem, from, layout, self.input, index);
            let pixels = self.to().0.pixels();
            (0..pixels).into_par_iter().step_by(TILE).for_each(|start| {
                let count = TILE.min(pixels - start);
                let sums = self.tile(&image, &filter, start, count);
                self.finish(memory, index, start, sums, &bias);
            });
        });
    }

    /// What is gathered from.
    fn from(&self) -> (Image, Layout) {
        let problem = &self.problem;
        match problem.pass {
            Pass::BackwardData => (problem.y, problem.y_layout),
            Pass::Forward | Pass::BackwardFilter => (problem.x, problem.x_layout),
        }
    }

    /// What is computed.
    fn to(&self) -> (Image, Layout) {
        let problem = &self.problem;
        match problem.pass {
            Pass::BackwardData => (problem.x, problem.x_layout),
            Pass::Forward | Pass::BackwardFilter => (problem.y, problem.y_layout),
        }
    }

    /// Channels of one group: gathered, computed.
    fn group_channels(&self) -> [usize; 2] {
        [self.from().0.channels / self.problem.groups, self.to().0.channels / self.problem.groups]
    }

    /// The filter as (group, R, S, gathered channel, computed channel).
    fn filter_panels(&self, memory: &Memory) -> Vec<f32> {
        let problem = &self.problem;
        let filter = load_filter(memory, problem, self.filter);
        let [inner, outer] = self.group_channels();
        let [r, s] = problem.taps;
        let channels = problem.x.channels / problem.groups;
        let mut panels = vec![0.0; filter.len()];
        panels.par_chunks_mut(inner * outer).enumerate().for_each(|(panel, to)| {
            let (group, tap) = (panel / (r * s), panel % (r * s));
            for (i, row) in to.chunks_mut(outer).enumerate() {
                for (o, value) in row.iter_mut().enumerate() {
                    let (k, c) = match problem.pass {
                        Pass::BackwardData => (group * inner + i, o),
                        Pass::Forward | Pass::BackwardFilter => (group * outer + o, i),
                    };
                    *value = filter[(k * r * s + tap) * channels + c];
                }
            }
        });
        panels
    }

    /// Sums of `count` pixels from `start` on: (pixel, channel).
    fn tile(&self, image: &[f32], filter: &[f32], start: usize, count: usize) -> Vec<f32> {
        let [inner, outer] = self.group_channels();
        let (groups, taps) = (self.problem.groups, self.problem.taps[0] * self.problem.taps[1]);
        let depth = taps * inner;
        let mut sums = vec![0.0; count * groups * outer];
        let mut gathered = vec![0.0; count * depth];
        for group in 0..groups {
            self.gather(image, group, start, &mut gathered);
            product(
                [count, outer, depth],
                StridedMut { values: &mut sums[group * outer..], row: groups * outer, col: 1 },
                Strided { values: &gathered, row: depth, col: 1 },
                Strided { values: &filter[group * depth * outer..], row: outer, col: 1 },
            );
        }
        sums
    }

    /// Collects what each pixel from `start` on is a sum of: (pixel, R, S, channel).
    fn gather(&self, image: &[f32], group: usize, start: usize, to: &mut [f32]) {
        let problem = &self.problem;
        let (from, width) = (self.from().0, self.to().0.width);
        let [inner, _] = self.group_channels();
        let [r, s] = problem.taps;
        let reach = |axis: Axis, at, tap, len| match problem.pass {
            Pass::BackwardData => axis.target(at, tap, len),
            Pass::Forward | Pass::BackwardFilter => axis.source(at, tap, len),
        };
        for (index, pixel) in to.chunks_mut(r * s * inner).enumerate() {
            let (row, col) = ((start + index) / width, (start + index) % width);
            for (tap, part) in pixel.chunks_mut(inner).enumerate() {
                let h = reach(problem.axes[0], row, tap / s, from.height);
                let w = reach(problem.axes[1], col, tap % s, from.width);
                match h.zip(w) {
                    Some((h, w)) => {
                        let at = (h * from.width + w) * from.channels + group * inner;
                        part.copy_from_slice(&image[at..at + inner]);
                    }
                    None => part.fill(0.0),
                }
            }
        }
    }

    /// Takes sums of pixels from `start` on to memory.
    fn finish(&self, memory: &Memory, index: usize, start: usize, mut sums: Vec<f32>, bias: &[f32]) {
        let (to, layout) = self.to();
        let dtype = self.problem.dtype;
        let run = |sums: &mut [f32], at: usize, bias: &mut dyn Iterator<Item = f32>| {
            let offset = (index * to.len() + at) as u64 * dtype.size();
            let mut old = vec![0.0; sums.len()];
            let mut factor = 0.0;
            if let Some((beta, address)) = self.output.residual {
                load(memory, dtype, Rounding::Exact, address + offset, &mut old);
                factor = beta;
            }
            for ((sum, old), bias) in sums.iter_mut().zip(old).zip(bias) {
                *sum = self.output.alpha * *sum + factor * old + bias;
                // A NaN becomes 0: the activation does not propagate it.
                if self.output.relu {
                    *sum = sum.max(0.0);
                }
            }
            store(memory, dtype, self.output.address + offset, sums);
        };
        match layout {
            Layout::Nhwc => run(&mut sums, start * to.channels, &mut bias.iter().copied().cycle()),
            Layout::Nchw => (0..to.channels).for_each(|channel| {
                let mut plane: Vec<f32> = sums[channel..].iter().step_by(to.channels).copied().collect();
                run(&mut plane, channel * to.pixels() + start, &mut std::iter::repeat(bias[channel]));
            }),
        }
    }
}

/// One image of a batch, channels last.
pub fn load_image(
    memory: &Memory,
    problem: &Problem,
    image: Image,
    layout: Layout,
    address: u64,
    index: usize,
) -> Vec<f32> {
    let mut values = vec![0.0; image.len()];
    let start = address + (index * image.len()) as u64 * problem.dtype.size();
    let row = match layout {
        Layout::Nhwc => image.width * image.channels,
        Layout::Nchw => image.pixels(),
    };
    values.par_chunks_mut(row).enumerate().for_each(|(i, to)| {
        let address = start + (i * row) as u64 * problem.dtype.size();
        load(memory, problem.dtype, problem.rounding, address, to);
    });
    match layout {
        Layout::Nhwc => values,
        Layout::Nchw => swap_axes(&values, image.channels, image.pixels()),
    }
}

/// The filter as (K, R, S, C).
fn load_filter(memory: &Memory, problem: &Problem, address: u64) -> Vec<f32> {
    let mut values = vec![0.0; problem.filter_len()];
    load(memory, problem.dtype, problem.rounding, address, &mut values);
    match problem.w_layout {
        Layout::Nhwc => values,
        Layout::Nchw => {
            let (channels, taps) = (problem.x.channels / problem.groups, problem.taps[0] * problem.taps[1]);
            values.chunks(channels * taps).flat_map(|filter| swap_axes(filter, channels, taps)).collect()
        }
    }
}

/// (rows, cols) to (cols, rows).
pub fn swap_axes(values: &[f32], rows: usize, cols: usize) -> Vec<f32> {
    (0..cols).flat_map(|j| (0..rows).map(move |i| values[i * cols + j])).collect()
}
