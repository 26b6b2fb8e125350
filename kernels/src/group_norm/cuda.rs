//! Launches of `group_norm.cu`.

use super::Sizes;
use crate::cuda::Cuda;
use crate::kernel_source::KernelSource;
use crate::launch::element;
use crate::op::GradSlot;
use crate::{DType, Device, Tensor, args, kernel_source};

/// The op's `.cu` files.
pub const KERNELS: &[KernelSource] = &[GROUP_NORM];

const GROUP_NORM: KernelSource = kernel_source!("group_norm");

/// Elements that a block reads: they stay in the L1 cache for a second pass, and are many enough to fill memory's queue.
const BLOCK: usize = 16 * 1024;

/// How an image is divided among blocks.
struct Tiles {
    /// Whether channels are taken in vectors of 16 bytes.
    vectors: bool,
    /// Pixels of a block.
    rows: usize,
    /// Blocks that share an image's pixels.
    parts: usize,
    /// Threads that a pixel takes.
    columns: usize,
}

impl Tiles {
    fn new(s: &Sizes, dtype: DType, addresses: &[u64]) -> Self {
        let lanes = 16 / dtype.size();
        let vectors = s.c.is_multiple_of(lanes) && addresses.iter().all(|a| a.is_multiple_of(16));
        let lanes = if vectors { lanes } else { 1 };
        let columns = s.c / lanes;
        let rows = BLOCK / (columns.clamp(1, 32) * lanes);
        Tiles { vectors, rows, parts: s.pixels.div_ceil(rows), columns }
    }

    fn sizes(&self, images: usize, groups: usize) -> [(&'static str, usize); 4] {
        [("parts", self.parts), ("images", images), ("columns", self.columns), ("groups", groups)]
    }
}

#[expect(clippy::too_many_arguments, reason = "outputs, inputs, scalars, sizes, as in every kernel")]
pub fn forward(
    cuda: &'static Cuda,
    y: &mut Tensor,
    statistics: &mut Tensor,
    x: &Tensor,
    w: &Tensor,
    b: &Tensor,
    eps: f32,
    relu: bool,
    s: &Sizes,
) {
    let (images, defines) = (x.shape()[0], [element("T", x.dtype())]);
    let &Sizes { pixels, c, groups } = s;
    let tiles = Tiles::new(s, x.dtype(), &[x.device_address(), y.device_address()]);
    let sizes = tiles.sizes(images, groups);
    if cuda.variant(&GROUP_NORM, "group_norm_fwd") == "naive" {
        let args = args![y, statistics, x, w, b, eps, relu, pixels, c, groups];
        return cuda.launch(&GROUP_NORM, "group_norm_fwd", &defines, &sizes, &args);
    }
    let Tiles { vectors, rows, parts, .. } = tiles;
    let mut partial = Tensor::empty(&[images, parts, c, 2], DType::F32, Device::Cuda(cuda)); // (mean, squares)
    let args = args![&mut partial, x, vectors, rows, pixels, c];
    cuda.launch(&GROUP_NORM, "group_norm_moments", &defines, &sizes, &args);
    let args = args![&mut *statistics, &partial, eps, parts, rows, pixels, c, groups];
    cuda.launch(&GROUP_NORM, "group_norm_statistics", &defines, &sizes, &args);
    let args = args![y, &*statistics, x, w, b, relu, vectors, rows, pixels, c, groups];
    cuda.launch(&GROUP_NORM, "group_norm_fwd", &defines, &sizes, &args);
}

#[expect(clippy::too_many_arguments, reason = "outputs, inputs, scalars, sizes, as in every kernel")]
pub fn backward(
    cuda: &'static Cuda,
    dx: &mut GradSlot,
    dw: &mut GradSlot,
    db: &mut GradSlot,
    dy: &Tensor,
    x: &Tensor,
    w: &Tensor,
    b: &Tensor,
    statistics: &Tensor,
    relu: bool,
    s: &Sizes,
) {
    if !dx.is_needed() && !dw.is_needed() && !db.is_needed() {
        return;
    }
    let (images, defines, device) = (x.shape()[0], [element("T", x.dtype())], Device::Cuda(cuda));
    let &Sizes { pixels, c, groups } = s;
    let inputs = [dy.device_address(), x.device_address()];
    let tiles = Tiles::new(s, x.dtype(), &inputs);
    let sizes = tiles.sizes(images, groups);
    let Tiles { vectors, rows, parts, .. } = tiles;
    let mut partial = Tensor::empty(&[images, parts, 2, c], DType::F32, device);
    let args = args![&mut partial, dy, x, statistics, w, b, relu, vectors, rows, pixels, c, groups];
    cuda.launch(&GROUP_NORM, "group_norm_bwd_columns", &defines, &sizes, &args);
    let mut sums = Tensor::empty(&[images, 2, c], DType::F32, device);
    let mut means = Tensor::empty(&[images, groups, 2], DType::F32, device);
    let args = args![&mut sums, &mut means, &partial, w, parts, pixels, c, groups];
    cuda.launch(&GROUP_NORM, "group_norm_bwd_totals", &defines, &sizes, &args);
    if let GradSlot::Write(t) | GradSlot::Accumulate(t) = dx {
        let tiles = Tiles::new(s, x.dtype(), &[inputs[0], inputs[1], t.device_address_mut()]);
        let (sizes, Tiles { vectors, rows, .. }) = (tiles.sizes(images, groups), tiles);
        let [dx, accumulate] = dx.args();
        let args = args![dx, accumulate, dy, x, statistics, &means, w, b, relu, vectors, rows, pixels, c, groups];
        cuda.launch(&GROUP_NORM, "group_norm_bwd_x", &defines, &sizes, &args);
    }
    if dw.is_needed() || db.is_needed() {
        let ([dw, accumulate_dw], [db, accumulate_db]) = (dw.args(), db.args());
        let args = args![dw, accumulate_dw, db, accumulate_db, &sums, images, c];
        cuda.launch(&GROUP_NORM, "group_norm_bwd_w", &defines, &[("channels", c)], &args);
    }
}
