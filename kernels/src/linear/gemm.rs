//! Products on a GPU: by cuBLASLt, or by the kernels of `gemm.cu`.

use crate::activation::Activation;
use crate::cublas_lt::{Epilogue, Operands, Product};
use crate::cuda::Cuda;
use crate::kernel_source::KernelSource;
use crate::launch::element;
use crate::op::GradSlot;
use crate::{DType, Tensor, args, kernel_source};

/// Both factors as stored for forward, dx and dw.
pub const GEMM: KernelSource = kernel_source!(
    "gemm",
    &[
        &["-DTRANSPOSE_A=0", "-DTRANSPOSE_B=1"],
        &["-DTRANSPOSE_A=0", "-DTRANSPOSE_B=0"],
        &["-DTRANSPOSE_A=1", "-DTRANSPOSE_B=0"],
    ]
);

/// What a kernel's epilogue does, in this order.
pub struct KernelEpilogue {
    /// (columns) in f32; 0 without one.
    pub bias: u64,
    /// Where the activation's argument is kept; 0 for nowhere.
    pub z: u64,
    /// Applied to the sum.
    pub activation: Activation,
}

/// Whether products go to the library first.
pub fn prefers_library(cuda: &Cuda) -> bool {
    cuda.variant(&GEMM, "gemm") == "cublaslt"
}

/// A gradient's product, op(a) op(b), into its slot.
pub fn gradient(cuda: &'static Cuda, slot: &mut GradSlot, product: Product, a: &Tensor, b: &Tensor) {
    let Some((d, accumulate)) = slot.address() else { return };
    let operands = Operands { d, accumulate, a: a.device_address(), b: b.device_address(), bias: 0 };
    // An empty sum is a zero that has to be written: for a kernel that is nothing special.
    if prefers_library(cuda) && !product.is_empty() && cuda.multiply(product, operands) {
        return;
    }
    by_kernel(cuda, product, operands, &KernelEpilogue { bias: 0, z: 0, activation: Activation::None });
}

/// The chosen kernel; where the library is chosen but refuses, the fastest of ours.
pub fn by_kernel(cuda: &Cuda, product: Product, operands: Operands, epilogue: &KernelEpilogue) {
    debug_assert!(operands.bias == 0 && product.epilogue == Epilogue::None, "the kernel has an epilogue of its own");
    let variant = match cuda.variant(&GEMM, "gemm") {
        "cublaslt" | "mma" if product.dtype == DType::F32 => "naive", // tensor cores would round the factors
        "cublaslt" => "mma",
        chosen => chosen,
    };
    let Product { dtype, rows, columns, inner, transpose_a, transpose_b, .. } = product;
    let transpose = |name: &str, transposed: bool| format!("-DTRANSPOSE_{name}={}", u8::from(transposed));
    let defines = [element("T", dtype), transpose("A", transpose_a), transpose("B", transpose_b)];
    let Operands { d, accumulate, a, b, .. } = operands;
    let KernelEpilogue { bias, z, activation } = *epilogue;
    let args = args![d, z, accumulate, a, b, bias, activation as i32, rows, columns, inner];
    cuda.launch_variant(&GEMM, "gemm", variant, &defines, &[("rows", rows), ("columns", columns)], &args);
}
