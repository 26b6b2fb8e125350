//! Launches of `add.cu`.

use crate::cuda::Cuda;
use crate::kernel_source::KernelSource;
use crate::launch::{Arg, element, vectors};
use crate::op::GradSlot;
use crate::{DType, Device, Tensor, args, kernel_source};

/// The op's `.cu` files.
pub const KERNELS: &[KernelSource] = &[ADD];

const ADD: KernelSource = kernel_source!("add");

/// Repetitions that a block sums.
const BLOCK_ROWS: usize = 64;

pub fn forward(cuda: &Cuda, y: &mut Tensor, a: &Tensor, b: &Tensor) {
    let (n, period) = (a.len(), b.len());
    let sizes = [("elements", n), ("vectors", vectors(n, a.dtype()))];
    cuda.launch(&ADD, "add_fwd", &[element("T", a.dtype())], &sizes, &args![y, a, b, n, period]);
}

pub fn backward(cuda: &'static Cuda, da: &mut GradSlot, db: &mut GradSlot, dy: &Tensor) {
    let (n, defines) = (dy.len(), [element("T", dy.dtype())]);
    let period = match db {
        GradSlot::Write(db) | GradSlot::Accumulate(db) => db.shape().iter().product(),
        GradSlot::Skip => n,
    };
    let [db, accumulate_db] = db.args();
    let [copied, accumulate_copied] = if period == n { [db, accumulate_db] } else { [Arg::NULL; 2] };
    if da.is_needed() || period == n {
        let [da, accumulate_da] = da.args();
        let sizes = [("elements", n), ("vectors", vectors(n, dy.dtype()))];
        let args = args![da, accumulate_da, copied, accumulate_copied, dy, n];
        cuda.launch(&ADD, "add_bwd", &defines, &sizes, &args);
    }
    if period != n {
        let rows = n / period;
        let parts = rows.div_ceil(BLOCK_ROWS);
        let mut partial = Tensor::empty(&[parts, period], DType::F32, Device::Cuda(cuda));
        let sizes = [("rows", rows), ("columns", period)];
        let args = args![&mut partial, dy, rows, period];
        cuda.launch(&ADD, "add_bwd_columns", &defines, &sizes, &args);
        let args = args![db, accumulate_db, &partial, parts, period];
        cuda.launch(&ADD, "add_bwd_sum", &defines, &sizes, &args);
    }
}
