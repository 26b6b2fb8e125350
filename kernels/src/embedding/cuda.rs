//! Launches of `embedding.cu`.

use crate::cuda::Cuda;
use crate::kernel_source::{KernelSource, ONLY_F32};
use crate::launch::{element, row_chunks};
use crate::op::GradSlot;
use crate::{DType, Device, Tensor, args, kernel_source};

/// The op's `.cu` files.
pub const KERNELS: &[KernelSource] = &[EMBEDDING];

const EMBEDDING: KernelSource = kernel_source!("embedding", ONLY_F32);

pub fn forward(cuda: &Cuda, y: &mut Tensor, table: &Tensor, ids: &Tensor) {
    let (n, c, dtype) = (ids.len(), table.last_axis(), table.dtype());
    let sizes = [("ids", n), ("outputs", n * c), ("chunks", row_chunks(c, dtype))];
    cuda.launch(&EMBEDDING, "embedding_fwd", &[element("T", dtype)], &sizes, &args![y, table, ids, n, c]);
}

pub fn backward(cuda: &'static Cuda, dtable: &mut GradSlot, dy: &Tensor, ids: &Tensor, padding_idx: Option<usize>) {
    let (GradSlot::Write(table) | GradSlot::Accumulate(table)) = dtable else { return };
    let (rows, n, c, defines) = (table.shape()[0], ids.len(), dy.last_axis(), [element("T", dy.dtype())]);
    let mut uses = Tensor::zeros(&[rows, 2], DType::I32, Device::Cuda(cuda));
    let padding = padding_idx.map_or(-1, |id| id as i32);
    cuda.launch(&EMBEDDING, "embedding_bwd_uses", &defines, &[("ids", n)], &args![&mut uses, ids, padding, n]);
    let [dtable, accumulate] = dtable.args();
    let sizes = [("rows", rows), ("elements", rows * c), ("chunks", row_chunks(c, dy.dtype()))];
    let args = args![dtable, accumulate, dy, ids, &uses, rows, n, c];
    cuda.launch(&EMBEDDING, "embedding_bwd", &defines, &sizes, &args);
}
