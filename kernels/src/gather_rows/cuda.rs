//! Launches of `gather_rows.cu`.

use crate::cuda::Cuda;
use crate::kernel_source::KernelSource;
use crate::launch::{Arg, element, row_chunks};
use crate::op::GradSlot;
use crate::{DType, Device, Tensor, args, kernel_source};

/// The op's `.cu` files.
pub const KERNELS: &[KernelSource] = &[GATHER_ROWS];

const GATHER_ROWS: KernelSource = kernel_source!("gather_rows");

/// Sources of a launch.
const SOURCES: usize = 4;

pub fn forward(cuda: &Cuda, y: &mut Tensor, index: &Tensor, sources: &[&Tensor], starts: &[i32]) {
    let (m, c, dtype) = (y.rows(), y.last_axis(), y.dtype());
    let sizes = [("rows", m), ("elements", m * c), ("chunks", row_chunks(c, dtype))];
    for first in (0..sources.len()).step_by(SOURCES) {
        let [s0, s1, s2, s3] = std::array::from_fn(|i| Arg::from(sources.get(first + i).copied()));
        let [end0, end1, end2, end3]: [i32; SOURCES] =
            std::array::from_fn(|i| starts[(first + i + 1).min(sources.len())]);
        let args = args![&mut *y, index, s0, s1, s2, s3, end0, end1, end2, end3, starts[first], m, c];
        cuda.launch(&GATHER_ROWS, "gather_rows_fwd", &[element("T", dtype)], &sizes, &args);
    }
}

pub fn backward(cuda: &'static Cuda, dsources: &mut [GradSlot], dy: &Tensor, index: &Tensor, starts: &[i32]) {
    if !dsources.iter().any(GradSlot::is_needed) {
        return;
    }
    let (m, c, defines) = (dy.rows(), dy.last_axis(), [element("T", dy.dtype())]);
    let mut uses = Tensor::zeros(&[starts[dsources.len()] as usize, 2], DType::I32, Device::Cuda(cuda));
    cuda.launch(&GATHER_ROWS, "gather_rows_bwd_uses", &defines, &[("rows", m)], &args![&mut uses, index, m]);
    for (dsource, range) in dsources.iter_mut().zip(starts.windows(2)).filter(|(d, _)| d.is_needed()) {
        let rows = range[0] as usize..range[1] as usize;
        let (n, uses) = (rows.len(), uses.slice(rows));
        let [dsource, accumulate] = dsource.args();
        let sizes = [("rows", n), ("elements", n * c), ("chunks", row_chunks(c, dy.dtype()))];
        let args = args![dsource, accumulate, dy, index, &uses, range[0], n, m, c];
        cuda.launch(&GATHER_ROWS, "gather_rows_bwd", &defines, &sizes, &args);
    }
}
