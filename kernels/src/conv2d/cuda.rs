//! Launches of `conv2d.cu`, and cuDNN's products between them.

use super::sizes::Sizes;
use crate::cuda::Cuda;
use crate::cudnn::{Call, Convolution};
use crate::kernel_source::KernelSource;
use crate::launch::{Arg, element};
use crate::op::GradSlot;
use crate::{DType, Device, Tensor, args, kernel_source};

/// The op's `.cu` files.
pub const KERNELS: &[KernelSource] = &[CONV2D];

const CONV2D: KernelSource = kernel_source!("conv2d");

/// Into how many parts pixels are divided at most for the bias's gradient: enough blocks to fill a GPU.
const MOST_PARTS: usize = 512;

impl Sizes {
    fn arg(&self) -> Arg {
        let s = self;
        Arg::ints([s.batch, s.h, s.w, s.i, s.o, s.kh, s.kw, s.oh, s.ow, s.stride, s.padding, s.dilation])
    }

    fn convolution(&self, dtype: DType) -> Convolution {
        let s = self;
        Convolution {
            dtype,
            x: [s.batch, s.h, s.w, s.i],
            w: [s.o, s.kh, s.kw, s.i],
            y: [s.batch, s.oh, s.ow, s.o],
            stride: s.stride,
            padding: s.padding,
            dilation: s.dilation,
        }
    }

    fn weights(&self) -> usize {
        self.o * self.depth()
    }

    /// The variant of a role that does this convolution; libraries take no empty operands.
    #[track_caller]
    fn variant(&self, cuda: &Cuda, role: &str) -> &'static str {
        let is_empty = self.batch * self.h * self.w * self.i * self.o == 0;
        if is_empty { "naive" } else { cuda.variant_of(KERNELS, role) }
    }
}

/// What is added to the products.
#[derive(Clone, Copy)]
pub struct Epilogue<'a> {
    /// f32.
    pub bias: Option<&'a Tensor>,
    pub residual: Option<&'a Tensor>,
    pub relu: bool,
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
    let Epilogue { residual, relu, .. } = epilogue;
    let defines = [element("T", x.dtype())];
    let (n, convolution) = (s.output_pixels(), s.convolution(x.dtype()));
    let is_plain = epilogue.bias.is_none() && residual.is_none() && !relu;
    let [y_address, x_address, w_address] = [y.device_address_mut(), x.device_address(), w.device_address()];
    let product = Call::Forward { y: y_address, x: x_address, w: w_address };
    let fused = |bias: &Tensor| {
        let (bias, residual) = (bias.device_address(), residual.map(Tensor::device_address));
        cuda.convolve(&convolution, &Call::Fused { y: y_address, x: x_address, w: w_address, bias, residual, relu })
    };
    let variant = s.variant(cuda, "conv2d_fwd");
    let is_done = match variant {
        "cudnn" if !is_plain => {
            let zeros = || Tensor::zeros(&[s.o], x.dtype(), Device::Cuda(cuda));
            fused(&bias.unwrap_or_else(zeros))
        }
        _ => false,
    };
    if is_done {
        return w;
    }
    if variant.starts_with("cudnn") && cuda.convolve(&convolution, &product) {
        if !is_plain {
            let args = args![y, epilogue.bias, residual, relu, n, s.o];
            cuda.launch(&CONV2D, "conv2d_epilogue", &defines, &[("elements", n * s.o)], &args);
        }
        return w;
    }
    let args = args![y, x, &w, epilogue.bias, residual, relu, s.arg()];
    cuda.launch_variant(&CONV2D, "conv2d_fwd", "naive", &defines, &[("elements", n * s.o)], &args);
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
        data_gradient(cuda, dx, g, w, s);
    }
    if dw.is_needed() {
        weight_gradient(cuda, dw, x, g, scale, s);
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
    let addresses = [dy.device_address(), y.map_or(0, Tensor::device_address), destination(dresidual).0];
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

fn data_gradient(cuda: &'static Cuda, dx: &mut GradSlot, g: u64, w: &Tensor, s: &Sizes) {
    let [address, accumulate] = dx.args();
    let variant = s.variant(cuda, "conv2d_bwd_x");
    if variant == "cudnn" {
        let (dx, accumulate) = destination(dx);
        let call = Call::DataGradient { dx, accumulate, dy: g, w: w.device_address() };
        if cuda.convolve(&s.convolution(w.dtype()), &call) {
            return;
        }
    }
    let args = args![address, accumulate, g, w, s.arg()];
    let sizes = [("elements", s.batch * s.h * s.w * s.i)];
    cuda.launch_variant(&CONV2D, "conv2d_bwd_x", "naive", &[element("T", w.dtype())], &sizes, &args);
}

fn weight_gradient(cuda: &'static Cuda, dw: &mut GradSlot, x: &Tensor, g: u64, scale: Option<&Tensor>, s: &Sizes) {
    let defines = [element("T", x.dtype())];
    let convolution = s.convolution(x.dtype());
    if s.variant(cuda, "conv2d_bwd_w") == "cudnn" {
        let call = |(dw, accumulate)| Call::FilterGradient { dw, accumulate, x: x.device_address(), dy: g };
        if x.dtype() == DType::F32 && scale.is_none() {
            if cuda.convolve(&convolution, &call(destination(dw))) {
                return;
            }
        } else {
            let mut folded = Tensor::empty(&convolution.w, x.dtype(), Device::Cuda(cuda));
            if cuda.convolve(&convolution, &call((folded.device_address_mut(), false))) {
                let [dw, accumulate] = dw.args();
                let args = args![dw, accumulate, &folded, scale, s.o, s.depth()];
                cuda.launch(&CONV2D, "conv2d_bwd_scale", &defines, &[("elements", s.weights())], &args);
                return;
            }
        }
    }
    let [dw, accumulate] = dw.args();
    let args = args![dw, accumulate, x, g, scale, s.arg()];
    cuda.launch_variant(&CONV2D, "conv2d_bwd_w", "naive", &defines, &[("weights", s.weights())], &args);
}

/// A slot's address, and whether to add to what lies there; 0 for `Skip`.
fn destination(slot: &mut GradSlot) -> (u64, bool) {
    match slot {
        GradSlot::Skip => (0, false),
        GradSlot::Write(t) => (t.device_address_mut(), false),
        GradSlot::Accumulate(t) => (t.device_address_mut(), true),
    }
}
