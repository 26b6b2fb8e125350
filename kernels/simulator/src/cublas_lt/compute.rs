//! Computes a product: all blocks of D, over all cores.

use rayon::prelude::*;

use super::epilogue::{Activation, Aux, Bias, gelu, gelu_grad};
use super::problem::{Matrix, Problem};
use crate::memory::Memory;
use crate::vendor::{Dtype, Real, Rounding, Strided, StridedMut, load, product, store};

/// Rows and columns of a block of D. The split depends on the shape alone, so that results do not depend on the cores;
/// a multiple of 8 rows, so that no two blocks share a byte of a mask.
const BLOCK: [usize; 2] = [256, 128];

/// Alpha or beta.
#[derive(Clone, Copy, Debug)]
pub enum Scalar {
    /// Its value.
    Host(f64),
    /// Its address.
    Device(u64),
}

/// A call: the problem with the memory that it works on.
#[derive(Clone, Debug)]
pub struct Matmul {
    pub problem: Problem,
    /// A, B, C, D.
    pub addresses: [u64; 4],
    pub alpha: Scalar,
    pub beta: Scalar,
}

impl Matmul {
    /// Does it.
    pub fn run(&self, memory: &Memory) {
        match self.problem.scale {
            Dtype::F64 => self.run_in::<f64>(memory),
            _ => self.run_in::<f32>(memory),
        }
    }

    fn run_in<R: Real>(&self, memory: &Memory) {
        let scalar = |scalar| match scalar {
            Scalar::Host(value) => R::new(value),
            Scalar::Device(address) => {
                let mut value = [R::default()];
                load(memory, self.problem.scale, Rounding::Exact, address, &mut value);
                value[0]
            }
        };
        let [alpha, beta] = [scalar(self.alpha), scalar(self.beta)];
        (0..self.problem.batch).into_par_iter().for_each(|batch| self.one(memory, batch, alpha, beta));
    }

    /// One matrix of the batch.
    fn one<R: Real>(&self, memory: &Memory, batch: usize, alpha: R, beta: R) {
        let problem = &self.problem;
        let [m, n, k] = problem.sizes;
        let values = |index: usize| {
            let matrix = &problem.matrices[index];
            let mut values = vec![R::default(); matrix.rows * matrix.cols];
            let address = column(matrix, self.addresses[index], batch, 0);
            let pitch = matrix.ld as u64 * matrix.dtype.size();
            values.par_chunks_mut(matrix.rows).enumerate().for_each(|(j, to)| {
                load(memory, matrix.dtype, problem.rounding, address + j as u64 * pitch, to);
            });
            values
        };
        let (a, b) = (values(0), values(1));
        let a = strided(&a, problem.trans_a, problem.matrices[0].rows);
        let b = strided(&b, problem.trans_b, problem.matrices[1].rows);

        let blocks: Vec<_> = (0..n)
            .step_by(BLOCK[1])
            .flat_map(|j| (0..m).step_by(BLOCK[0]).map(move |i| Block { i, j, rows: BLOCK[0].min(m - i), batch }))
            .collect();
        let sums: Vec<_> = blocks
            .into_par_iter()
            .map(|block| {
                let cols = BLOCK[1].min(n - block.j);
                let mut values = vec![R::default(); block.rows * cols];
                let c = StridedMut { values: &mut values, row: 1, col: block.rows };
                product([block.rows, cols, k], c, at(a, block.i, 0), at(b, 0, block.j));
                (block.i, self.finish(memory, &block, &mut values, alpha, beta))
            })
            .collect();
        let grads = match problem.epilogue.bias {
            Bias::None | Bias::Add => return,
            Bias::GradD => {
                let mut grads = vec![R::default(); m];
                for (i, sums) in sums {
                    grads[i..].iter_mut().zip(sums).for_each(|(grad, sum)| *grad += sum);
                }
                grads
            }
            Bias::GradA => row_sums(a, m, k),
            Bias::GradB => row_sums(Strided { row: b.col, col: b.row, ..b }, n, k),
        };
        store(memory, problem.bias.dtype, self.bias_address(batch, 0), &grads);
    }

    /// Takes a block of op(A) op(B) through the epilogue to D; returns the sums of its rows.
    fn finish<R: Real>(&self, memory: &Memory, block: &Block, values: &mut [R], alpha: R, beta: R) -> Vec<R> {
        let [_, _, c, d] = &self.problem.matrices;
        let mut bias = vec![R::default(); block.rows];
        if self.problem.epilogue.bias == Bias::Add {
            let address = self.bias_address(block.batch, block.i);
            load(memory, self.problem.bias.dtype, Rounding::Exact, address, &mut bias);
        }
        let mut sums = vec![R::default(); block.rows];
        let mut old = vec![R::default(); block.rows];
        for (index, column_values) in values.chunks_exact_mut(block.rows).enumerate() {
            let j = block.j + index;
            let row_address = |matrix: &Matrix, address| {
                column(matrix, address, block.batch, j) + block.i as u64 * matrix.dtype.size()
            };
            if beta != R::default() {
                load(memory, c.dtype, Rounding::Exact, row_address(c, self.addresses[2]), &mut old);
            }
            for ((x, &old), &bias) in column_values.iter_mut().zip(&old).zip(&bias) {
                *x = alpha * *x + beta * old + bias;
            }
            self.activate(memory, block, j, column_values);
            sums.iter_mut().zip(&*column_values).for_each(|(sum, &x)| *sum += x);
            store(memory, d.dtype, row_address(d, self.addresses[3]), column_values);
        }
        sums
    }

    /// Maps part of column `j`; writes or reads the auxiliary buffer.
    fn activate<R: Real>(&self, memory: &Memory, block: &Block, j: usize, values: &mut [R]) {
        let aux = &self.problem.aux;
        let element = block.batch * aux.batch_stride + j * aux.ld + block.i;
        let address = match self.problem.epilogue.aux {
            Aux::Mask => aux.address + element as u64 / 8,
            _ => aux.address + element as u64 * aux.dtype.size(),
        };
        let kind = self.problem.epilogue.aux;
        match self.problem.epilogue.activation {
            Activation::None => {}
            Activation::Relu => {
                if kind == Aux::Mask {
                    write_mask(memory, address, values);
                }
                // A NaN stays one.
                values.iter_mut().filter(|x| **x < R::default()).for_each(|x| *x = R::default());
            }
            Activation::ReluGrad => {
                let mask = read_mask(memory, address, values.len());
                for (index, x) in values.iter_mut().enumerate() {
                    if mask[index / 8] >> (index % 8) & 1 == 0 {
                        *x = R::default();
                    }
                }
            }
            Activation::Gelu => {
                if kind == Aux::Input {
                    store(memory, aux.dtype, address, values);
                }
                values.iter_mut().for_each(|x| *x = R::new(gelu(x.to_f64())));
            }
            Activation::GeluGrad => {
                let mut inputs = vec![R::default(); values.len()];
                load(memory, aux.dtype, Rounding::Exact, address, &mut inputs);
                values.iter_mut().zip(inputs).for_each(|(x, at)| *x = R::new(x.to_f64() * gelu_grad(at.to_f64())));
            }
        }
    }

    fn bias_address(&self, batch: usize, row: usize) -> u64 {
        let bias = &self.problem.bias;
        bias.address + (batch * bias.batch_stride + row) as u64 * bias.dtype.size()
    }
}

/// Part of D.
struct Block {
    /// The first row.
    i: usize,
    /// The first column.
    j: usize,
    rows: usize,
    batch: usize,
}

/// The address of a column.
fn column(matrix: &Matrix, address: u64, batch: usize, j: usize) -> u64 {
    address + (batch * matrix.batch_stride + j * matrix.ld) as u64 * matrix.dtype.size()
}

/// op of packed columns of `rows` elements.
fn strided<R>(values: &[R], transposed: bool, rows: usize) -> Strided<'_, R> {
    let (row, col) = if transposed { (rows, 1) } else { (1, rows) };
    Strided { values, row, col }
}

/// The part of a matrix from element (i, j) on.
fn at<R>(matrix: Strided<'_, R>, i: usize, j: usize) -> Strided<'_, R> {
    Strided { values: &matrix.values[i * matrix.row + j * matrix.col..], ..matrix }
}

fn row_sums<R: Real>(matrix: Strided<'_, R>, rows: usize, cols: usize) -> Vec<R> {
    let mut sums = vec![R::default(); rows];
    for j in 0..cols {
        sums.iter_mut().enumerate().for_each(|(i, sum)| *sum += matrix.values[i * matrix.row + j * matrix.col]);
    }
    sums
}

/// Bits that say which values are positive.
fn write_mask<R: Real>(memory: &Memory, address: u64, values: &[R]) {
    let byte = |values: &[R]| (0..values.len()).fold(0, |byte, i| byte | u8::from(values[i] > R::default()) << i);
    let mask: Vec<u8> = values.chunks(8).map(byte).collect();
    let (allocation, offset) = memory.find(address, mask.len() as u64).expect("bounds were checked");
    allocation.write(offset, &mask);
}

fn read_mask(memory: &Memory, address: u64, len: usize) -> Vec<u8> {
    let bytes = len.div_ceil(8) as u64;
    let (allocation, offset) = memory.find(address, bytes).expect("bounds were checked");
    allocation.read(offset, bytes)
}
