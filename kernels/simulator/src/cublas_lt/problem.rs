//! A product whose descriptors have been checked.

use super::epilogue::{Aux, Bias, Epilogue};
use crate::driver::library::Region;
use crate::vendor::{Dtype, Rounding};

/// A column-major matrix, or a batch of them, in elements.
#[derive(Clone, Copy, Debug)]
pub struct Matrix {
    pub dtype: Dtype,
    pub rows: usize,
    pub cols: usize,
    pub ld: usize,
    /// From the first element to past the last.
    pub span: usize,
    pub batch_stride: usize,
}

/// The bias vector, or the auxiliary matrix; `len` 0 if there is none.
#[derive(Clone, Copy, Debug)]
pub struct Vector {
    pub dtype: Dtype,
    pub address: u64,
    pub len: usize,
    /// From a column of the auxiliary matrix to the next: elements, or bits of a mask.
    pub ld: usize,
    pub batch_stride: usize,
}

/// D = epilogue(alpha op(A) op(B) + beta C).
#[derive(Clone, Debug)]
pub struct Problem {
    /// In the support table.
    pub row: usize,
    pub scale: Dtype,
    pub rounding: Rounding,
    /// m, n, k.
    pub sizes: [usize; 3],
    pub batch: usize,
    /// A, B, C, D.
    pub matrices: [Matrix; 4],
    pub trans_a: bool,
    pub trans_b: bool,
    pub device_scalars: bool,
    pub epilogue: Epilogue,
    pub bias: Vector,
    pub aux: Vector,
}

impl Matrix {
    /// The memory of a batch of `batch` matrices at `address`.
    pub fn regions(&self, address: u64, batch: usize) -> Vec<Region> {
        let size = self.dtype.size();
        let [rows, pitch] = [self.rows as u64 * size, self.ld as u64 * size];
        columns(address, [rows, pitch, self.batch_stride as u64 * size], self.cols, batch)
    }
}

impl Problem {
    /// The memory of the bias.
    pub fn bias_regions(&self) -> Vec<Region> {
        let size = self.bias.dtype.size();
        let bytes = self.bias.len as u64 * size;
        match self.epilogue.bias {
            Bias::None => Vec::new(),
            _ => columns(self.bias.address, [bytes, bytes, self.bias.batch_stride as u64 * size], 1, self.batch),
        }
    }

    /// The memory of the auxiliary buffer.
    pub fn aux_regions(&self) -> Vec<Region> {
        let Vector { dtype, address, len, ld, batch_stride } = self.aux;
        let [len, ld, stride] = [len, ld, batch_stride].map(|elements| elements as u64);
        let bytes = match self.epilogue.aux {
            Aux::None => return Vec::new(),
            Aux::Mask => [len.div_ceil(8), ld / 8, stride / 8],
            Aux::Input => [len * dtype.size(), ld * dtype.size(), stride * dtype.size()],
        };
        columns(address, bytes, self.sizes[1], self.batch)
    }
}

/// Columns of `bytes` bytes, `pitch` apart, of matrices that are `stride` apart; as one region where they follow on.
fn columns(address: u64, [bytes, pitch, stride]: [u64; 3], cols: usize, batch: usize) -> Vec<Region> {
    let region = |address, rows| Region { address, rows, row_bytes: bytes, pitch };
    let cols = cols as u64;
    if stride == cols * pitch {
        return vec![region(address, cols * batch as u64)];
    }
    (0..batch as u64).map(|index| region(address + index * stride, cols)).collect()
}
