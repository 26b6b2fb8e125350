//! Launches of `linear.cu`, and the products between them.

use super::gemm::{self, GEMM, KernelEpilogue};
use crate::activation::Activation;
use crate::cublas_lt::{Epilogue, Operands, Product};
use crate::cuda::Cuda;
use crate::kernel_source::KernelSource;
use crate::launch::element;
use crate::op::GradSlot;
use crate::{DType, Device, Tensor, args, kernel_source};

/// The op's `.cu` files.
pub const KERNELS: &[KernelSource] = &[LINEAR, GEMM];

const LINEAR: KernelSource = kernel_source!("linear");

/// Rows that a block sums down the columns.
const BLOCK_ROWS: usize = 32;

#[track_caller]
pub fn forward(
    cuda: &'static Cuda,
    y: &mut Tensor,
    mut z: Option<&mut Tensor>,
    x: &Tensor,
    w: &Tensor,
    b: &Tensor,
    activation: Activation,
) {
    assert_eq!(w.dtype(), x.dtype(), "linear: w is {:?}, x is {:?}", w.dtype(), x.dtype());
    assert_eq!(b.dtype(), DType::F32, "linear: b is {:?}, on a GPU it is in f32", b.dtype());
    if gemm::prefers_library(cuda) && forward_by_library(cuda, y, z.as_deref_mut(), x, w, b, activation) {
        return;
    }
    let d = y.device_address_mut();
    let operands = Operands { d, accumulate: false, a: x.device_address(), b: w.device_address(), bias: 0 };
    let z = z.map_or(0, Tensor::device_address_mut);
    gemm::by_kernel(cuda, product(x, w), operands, &KernelEpilogue { bias: b.device_address(), z, activation });
}

/// x W^T.
fn product(x: &Tensor, w: &Tensor) -> Product {
    Product {
        dtype: x.dtype(),
        rows: x.rows(),
        columns: w.shape()[0],
        inner: w.shape()[1],
        transpose_a: false,
        transpose_b: true,
        epilogue: Epilogue::None,
    }
}

/// The library adds the bias and applies ReLU; its GELU is the tanh form, so that the others have a kernel. Returns whether
/// it took the product.
fn forward_by_library(
    cuda: &'static Cuda,
    y: &mut Tensor,
    z: Option<&mut Tensor>,
    x: &Tensor,
    w: &Tensor,
    b: &Tensor,
    activation: Activation,
) -> bool {
    let is_relu = activation == Activation::Relu;
    let epilogue = if is_relu { Epilogue::BiasRelu } else { Epilogue::Bias };
    let product = Product { epilogue, ..product(x, w) };
    if product.is_empty() {
        return false;
    }
    let defines = [element("T", x.dtype())];
    let y_address = y.device_address_mut();
    let d = z.map_or(y_address, Tensor::device_address_mut);
    let rounded = (x.dtype() != DType::F32).then(|| {
        let mut rounded = Tensor::empty(b.shape(), x.dtype(), Device::Cuda(cuda));
        let sizes = [("columns", product.columns)];
        cuda.launch(&LINEAR, "linear_bias", &defines, &sizes, &args![&mut rounded, b, product.columns]);
        rounded
    });
    let bias = rounded.as_ref().unwrap_or(b).device_address();
    let operands = Operands { d, accumulate: false, a: x.device_address(), b: w.device_address(), bias };
    if !cuda.multiply(product, operands) {
        return false;
    }
    if !is_relu && activation != Activation::None {
        let args = args![y_address, d, activation as i32, y.len() as u64];
        cuda.launch(&LINEAR, "linear_act", &defines, &[("elements", y.len())], &args);
    }
    true
}

/// `z` is what the activation's derivative is told from; `None` without one.
pub fn backward(
    cuda: &'static Cuda,
    [dx, dw, db]: [&mut GradSlot; 3],
    dy: &Tensor,
    x: &Tensor,
    w: &Tensor,
    z: Option<&Tensor>,
    activation: Activation,
) {
    let is_product_needed = dx.is_needed() || dw.is_needed();
    let mut dz =
        (z.is_some() && is_product_needed).then(|| Tensor::empty(dy.shape(), dy.dtype(), Device::Cuda(cuda)));
    if dz.is_some() || db.is_needed() {
        through_activation(cuda, dz.as_mut(), db, dy, z, activation);
    }
    let dz = dz.as_ref().unwrap_or(dy);
    let forward = product(x, w);
    let dx_product = Product { columns: forward.inner, inner: forward.columns, transpose_b: false, ..forward };
    gemm::gradient(cuda, dx, dx_product, dz, w);
    let dw_product = Product { rows: forward.columns, inner: forward.rows, transpose_a: true, ..dx_product };
    gemm::gradient(cuda, dw, dw_product, dz, x);
}

/// dz = dy act'(z) where it is wanted, and db, its sums down the columns.
fn through_activation(
    cuda: &'static Cuda,
    dz: Option<&mut Tensor>,
    db: &mut GradSlot,
    dy: &Tensor,
    z: Option<&Tensor>,
    activation: Activation,
) {
    let (n, o) = (dy.rows(), dy.last_axis());
    let (defines, parts) = ([element("T", dy.dtype())], n.div_ceil(BLOCK_ROWS));
    let sizes = [("rows", n), ("columns", o)];
    let mut partial = db.is_needed().then(|| Tensor::empty(&[parts, o], DType::F32, Device::Cuda(cuda)));
    let args = args![dz, partial.as_mut(), dy, z, activation as i32, n, o];
    cuda.launch(&LINEAR, "linear_bwd_z", &defines, &sizes, &args);
    if let Some(partial) = &partial {
        let [db, accumulate] = db.args();
        cuda.launch(&LINEAR, "linear_bwd_b", &defines, &sizes, &args![db, accumulate, partial, parts, o]);
    }
}
