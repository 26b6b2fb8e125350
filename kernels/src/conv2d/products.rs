//! A convolution's products on a GPU, by cuDNN or a kernel, whichever is chosen. Where cuDNN refuses, a kernel does it: f16 and
//! bf16 on tensor cores, f32, which `implicit_gemm` does not compute, by `naive`.

use super::cuda::{CONV2D, Epilogue, IMPLICIT_GEMM, KERNELS};
use super::sizes::Sizes;
use crate::cuda::Cuda;
use crate::cudnn::{Call, Convolution};
use crate::launch::{Arg, element, vectors};
use crate::op::GradSlot;
use crate::{DType, Device, Tensor, args};

/// Blocks among which the weight's gradient is divided at least, if there are pixels for it: two a multiprocessor.
const WEIGHT_BLOCKS: usize = 264;
/// Pixels of such a part at least: fewer would be lost in writing its sums.
const PART: usize = 256;

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

    /// Elements of the filters.
    pub fn weights(&self) -> usize {
        self.o * self.depth()
    }

    /// The variant of a role that does this convolution; libraries and tensor cores take no empty operands.
    #[track_caller]
    fn variant(&self, cuda: &Cuda, role: &str) -> &'static str {
        let is_empty = self.batch * self.h * self.w * self.i * self.o == 0;
        if is_empty { "naive" } else { cuda.variant_of(KERNELS, role) }
    }
}

/// The kernel that stands in for a variant.
fn kernel(variant: &'static str, dtype: DType) -> &'static str {
    match variant {
        "cudnn" | "cudnn_separate" | "implicit_gemm" if dtype == DType::F32 => "naive",
        "cudnn" | "cudnn_separate" => "implicit_gemm",
        own => own,
    }
}

/// Launches a role's variant, in whichever file it is.
#[track_caller]
fn launch(cuda: &Cuda, role: &str, variant: &'static str, dtype: DType, sizes: &[(&str, usize)], args: &[Arg]) {
    let variant = kernel(variant, dtype);
    let declares = |d: &crate::kernel_source::Declaration| d.role == role && d.variant == variant;
    let source = KERNELS.iter().find(|source| source.declarations().iter().any(declares)).unwrap_or(&CONV2D);
    cuda.launch_variant(source, role, variant, &[element("T", dtype)], sizes, args);
}

/// y from x and the folded w; `rounded`: the bias in x's dtype.
pub fn forward(
    cuda: &'static Cuda,
    y: &mut Tensor,
    x: &Tensor,
    w: &Tensor,
    rounded: Option<&Tensor>,
    epilogue: Epilogue,
    s: &Sizes,
) {
    let variant = s.variant(cuda, "conv2d_fwd");
    match variant {
        "cudnn" if fused(cuda, y, x, w, rounded, epilogue, s) => {}
        "cudnn" | "cudnn_separate" if separate(cuda, y, x, w, epilogue, s) => {}
        _ => {
            let n = s.output_pixels();
            let sizes = [("elements", n * s.o), ("outputs", n), ("filters", s.o)];
            let Epilogue { bias, residual, relu } = epilogue;
            let args = args![y, x, w, bias, residual, relu, s.arg()];
            launch(cuda, "conv2d_fwd", variant, x.dtype(), &sizes, &args);
        }
    }
}

/// All in one of cuDNN's calls; false if it refuses, or if there is nothing to fuse.
fn fused(
    cuda: &'static Cuda,
    y: &mut Tensor,
    x: &Tensor,
    w: &Tensor,
    rounded: Option<&Tensor>,
    epilogue: Epilogue,
    s: &Sizes,
) -> bool {
    if epilogue.is_empty() {
        return false;
    }
    let no_bias = rounded.is_none().then(|| Tensor::zeros(&[s.o], x.dtype(), Device::Cuda(cuda)));
    let call = Call::Fused {
        y: y.device_address_mut(),
        x: x.device_address(),
        w: w.device_address(),
        bias: rounded.or(no_bias.as_ref()).map_or(0, Tensor::device_address),
        residual: epilogue.residual.map(Tensor::device_address),
        relu: epilogue.relu,
    };
    cuda.convolve(&s.convolution(x.dtype()), &call)
}

/// cuDNN's product and a kernel for the rest, which rounds once more; false if cuDNN refuses.
fn separate(cuda: &'static Cuda, y: &mut Tensor, x: &Tensor, w: &Tensor, epilogue: Epilogue, s: &Sizes) -> bool {
    let call = Call::Forward { y: y.device_address_mut(), x: x.device_address(), w: w.device_address() };
    if !cuda.convolve(&s.convolution(x.dtype()), &call) {
        return false;
    }
    if !epilogue.is_empty() {
        let (n, Epilogue { bias, residual, relu }) = (s.output_pixels(), epilogue);
        let args = args![y, bias, residual, relu, n, s.o];
        let defines = [element("T", x.dtype())];
        let sizes = [("vectors", vectors(n * s.o, x.dtype()))];
        cuda.launch(&CONV2D, "conv2d_epilogue", &defines, &sizes, &args);
    }
    true
}

/// dx from g, at an address, and the folded w.
pub fn data_gradient(cuda: &'static Cuda, dx: &mut GradSlot, g: u64, w: &Tensor, s: &Sizes) {
    let variant = s.variant(cuda, "conv2d_bwd_x");
    let (address, accumulate) = dx.address().unwrap_or_default();
    let call = Call::DataGradient { dx: address, accumulate, dy: g, w: w.device_address() };
    if variant == "cudnn" && cuda.convolve(&s.convolution(w.dtype()), &call) {
        return;
    }
    let n = s.batch * s.h * s.w;
    let sizes = [("elements", n * s.i), ("inputs", n), ("channels", s.i)];
    launch(cuda, "conv2d_bwd_x", variant, w.dtype(), &sizes, &args![address, accumulate, g, w, s.arg()]);
}

/// The f32 dw from x and g, at an address.
pub fn weight_gradient(
    cuda: &'static Cuda,
    dw: &mut GradSlot,
    x: &Tensor,
    g: u64,
    scale: Option<&Tensor>,
    s: &Sizes,
) {
    let variant = s.variant(cuda, "conv2d_bwd_w");
    let (address, accumulate) = dw.address().unwrap_or_default();
    if variant == "cudnn" && folded_gradient(cuda, (address, accumulate), x, g, scale, s) {
        return;
    }
    if kernel(variant, x.dtype()) == "implicit_gemm" {
        return gradient_in_parts(cuda, (address, accumulate), x, g, scale, s);
    }
    let args = args![address, accumulate, x, g, scale, s.arg()];
    launch(cuda, "conv2d_bwd_w", variant, x.dtype(), &[("weights", s.weights())], &args);
}

/// dw by cuDNN: in place where it is f32's own, else scaled from the gradient of the folded w. False if cuDNN refuses.
fn folded_gradient(
    cuda: &'static Cuda,
    (dw, accumulate): (u64, bool),
    x: &Tensor,
    g: u64,
    scale: Option<&Tensor>,
    s: &Sizes,
) -> bool {
    let convolution = s.convolution(x.dtype());
    let call = |dw, accumulate| Call::FilterGradient { dw, accumulate, x: x.device_address(), dy: g };
    if x.dtype() == DType::F32 && scale.is_none() {
        return cuda.convolve(&convolution, &call(dw, accumulate));
    }
    let mut folded = Tensor::empty(&convolution.w, x.dtype(), Device::Cuda(cuda));
    let done = cuda.convolve(&convolution, &call(folded.device_address_mut(), false));
    if done {
        let args = args![dw, accumulate, &folded, scale, s.o, s.depth()];
        let defines = [element("T", x.dtype())];
        cuda.launch(&CONV2D, "conv2d_bwd_scale", &defines, &[("elements", s.weights())], &args);
    }
    done
}

/// dw on tensor cores, in parts of the pixels, that are summed in order.
fn gradient_in_parts(
    cuda: &'static Cuda,
    (dw, accumulate): (u64, bool),
    x: &Tensor,
    g: u64,
    scale: Option<&Tensor>,
    s: &Sizes,
) {
    let (n, tiles) = (s.output_pixels(), s.o.div_ceil(128) * s.depth().div_ceil(64));
    let pixels = n.div_ceil(WEIGHT_BLOCKS.div_ceil(tiles)).max(PART).next_multiple_of(32);
    let parts = n.div_ceil(pixels);
    let mut partial = Tensor::empty(&[parts, s.o, s.depth()], DType::F32, Device::Cuda(cuda));
    let sizes = [("filters", s.o), ("depth", s.depth()), ("parts", parts)];
    let args = args![&mut partial, x, g, pixels, s.arg()];
    launch(cuda, "conv2d_bwd_w", "implicit_gemm", x.dtype(), &sizes, &args);
    let args = args![dw, accumulate, &partial, scale, parts, s.o, s.depth()];
    let defines = [element("T", x.dtype())];
    cuda.launch(&IMPLICIT_GEMM, "conv2d_bwd_w_sum", &defines, &[("weights", s.weights())], &args);
}
