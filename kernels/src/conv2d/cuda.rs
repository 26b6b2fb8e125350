//! What surrounds the products on a GPU: launches of `conv2d.cu`.

use super::products;
use super::sizes::Sizes;
use crate::cuda::Cuda;
use crate::kernel_source::KernelSource;
use crate::launch::{Arg, element};
use crate::op::GradSlot;
use crate::{DType, Device, Tensor, args, kernel_source};

/// The op's `.cu` files.
pub const KERNELS: &[KernelSource] = &[CONV2D, IMPLICIT_GEMM];

pub const CONV2D: KernelSource = kernel_source!("conv2d");
pub const IMPLICIT_GEMM: KernelSource = kernel_source!("implicit_gemm");

/// Into how many parts pixels are divided at most for the bias's gradient: enough blocks to fill a GPU.
const MOST_PARTS: usize = 512;

/// What is added to the products.
#[derive(Clone, Copy)]
pub struct Epilogue<'a> {
    /// f32.
    pub bias: Option<&'a Tensor>,
    pub residual: Option<&'a Tensor>,
    pub relu: bool,
}

impl Epilogue<'_> {
    pub fn is_empty(&self) -> bool {
        self.bias.is_none() && self.residual.is_none() && !self.relu
    }
}

/// y from x and the f32 w. Returns the folded w, in x's dtype.
pub fn forward(
    cuda: &'static Cuda,
    y: &mut Tensor,
    x: &Tensor,
    w: &Tensor,
    scale: Option<&Tensor>,
    epilogue: Epilogue,
    s: &Sizes,
) -> Tensor {
    let (w, bias) = folded(cuda, w, scale, epilogue.bias, x.dtype(), s);
    products::forward(cuda, y, x, &w, bias.as_ref(), epilogue, s);
    w
}

/// The scaled w and the bias in `dtype`.
fn folded(
    cuda: &'static Cuda,
    w: &Tensor,
    scale: Option<&Tensor>,
    bias: Option<&Tensor>,
    dtype: DType,
    s: &Sizes,
) -> (Tensor, Option<Tensor>) {
    if dtype == DType::F32 && scale.is_none() {
        return (w.clone(), bias.cloned());
    }
    let device = Device::Cuda(cuda);
    let mut folded = Tensor::empty(w.shape(), dtype, device);
    let mut rounded = bias.filter(|_| dtype != DType::F32).map(|b| Tensor::empty(b.shape(), dtype, device));
    let args = args![&mut folded, rounded.as_mut(), w, scale, bias, s.o, s.depth()];
    let elements = s.weights().max(s.o);
    cuda.launch(&CONV2D, "conv2d_fold", &[element("T", dtype)], &[("elements", elements)], &args);
    (folded, rounded.or_else(|| bias.cloned()))
}

/// Gradients from dy; y where ReLU is told from it, the folded w. dw is f32.
#[expect(clippy::too_many_arguments, reason = "outputs, inputs, scalars, sizes, as in every kernel")]
pub fn backward(
    cuda: &'static Cuda,
    dx: &mut GradSlot,
    dw: &mut GradSlot,
    dbias: &mut GradSlot,
    dresidual: &mut GradSlot,
    dy: &Tensor,
    y: Option<&Tensor>,
    x: &Tensor,
    w: &Tensor,
    scale: Option<&Tensor>,
    s: &Sizes,
) {
    let is_product_needed = dx.is_needed() || dw.is_needed();
    // Where g lies: in a fresh residual's gradient, which is equal; in dy, if nothing is cut off.
    let mut scratch = None;
    let g = match (y, &mut *dresidual) {
        (None, _) => dy.device_address(),
        (_, GradSlot::Write(t)) => t.device_address_mut(),
        _ if is_product_needed => {
            scratch.insert(Tensor::empty(dy.shape(), dy.dtype(), Device::Cuda(cuda))).device_address()
        }
        _ => 0,
    };
    if scratch.is_some() || dbias.is_needed() || dresidual.is_needed() {
        before_activation(cuda, scratch.as_mut(), dbias, dresidual, dy, y, s);
    }
    if dx.is_needed() {
        products::data_gradient(cuda, dx, g, w, s);
    }
    if dw.is_needed() {
        products::weight_gradient(cuda, dw, x, g, scale, s);
    }
}

/// g, its copy for the residual, and its sums for the bias.
fn before_activation(
    cuda: &'static Cuda,
    g: Option<&mut Tensor>,
    dbias: &mut GradSlot,
    dresidual: &mut GradSlot,
    dy: &Tensor,
    y: Option<&Tensor>,
    s: &Sizes,
) {
    let (n, c, dtype) = (s.output_pixels(), s.o, dy.dtype());
    let lanes = 16 / dtype.size();
    let addresses = [
        dy.device_address(),
        y.map_or(0, Tensor::device_address),
        dresidual.address().map_or(0, |(address, _)| address),
    ];
    let vectors = c.is_multiple_of(lanes) && addresses.iter().all(|a| a.is_multiple_of(16));
    let g = g.map_or(Arg::NULL, Arg::from);
    let [dresidual, accumulate] = dresidual.args();
    let rows = n.div_ceil(MOST_PARTS).max(64);
    let parts = n.div_ceil(rows);
    let mut partial = dbias.is_needed().then(|| Tensor::empty(&[parts, c], DType::F32, Device::Cuda(cuda)));
    let columns = if vectors { c / lanes } else { c };
    let args = args![g, dresidual, accumulate, partial.as_mut(), dy, y, vectors, rows, n, c];
    let sizes = [("parts", parts), ("columns", columns)];
    cuda.launch(&CONV2D, "conv2d_bwd_g", &[element("T", dtype)], &sizes, &args);
    if let Some(partial) = partial {
        let [dbias, accumulate] = dbias.args();
        let args = args![dbias, accumulate, &partial, parts, c];
        cuda.launch(&CONV2D, "conv2d_bwd_bias", &[element("T", dtype)], &[("columns", c)], &args);
    }
}
