//! What cuBLASLt takes. No GPU has confirmed the table.

use cudarc::cublaslt::sys::{cublasComputeType_t as Compute, cublasLtPointerMode_t, cudaDataType_t};

use super::descriptor::{DEFAULT_TYPE, Layout, MatmulDesc};
use super::epilogue::{Aux, Bias, Epilogue};
use super::problem::{Matrix, Problem, Vector};
use crate::vendor::{Dtype, Refusal, Rounding, supported, valid};

/// One combination of types.
#[derive(Debug)]
pub struct Row {
    /// How sums are computed.
    pub compute: &'static [Compute],
    /// Of alpha and beta.
    pub scale: Dtype,
    /// Of A and B.
    pub factors: Dtype,
    /// Of C, D, the bias and GELU's auxiliary buffer.
    pub result: Dtype,
    /// Whether there are auxiliary and gradient epilogues.
    pub training: bool,
}

const F32: &[Compute] = &[Compute::CUBLAS_COMPUTE_32F, Compute::CUBLAS_COMPUTE_32F_PEDANTIC];
const F32_OR_TF32: &[Compute] =
    &[Compute::CUBLAS_COMPUTE_32F, Compute::CUBLAS_COMPUTE_32F_PEDANTIC, Compute::CUBLAS_COMPUTE_32F_FAST_TF32];
const F64: &[Compute] = &[Compute::CUBLAS_COMPUTE_64F, Compute::CUBLAS_COMPUTE_64F_PEDANTIC];

/// The combinations that there are.
#[rustfmt::skip]
pub static TABLE: [Row; 6] = [
    Row { compute: F32, scale: Dtype::F32, factors: Dtype::Bf16, result: Dtype::Bf16, training: true },
    Row { compute: F32, scale: Dtype::F32, factors: Dtype::F16, result: Dtype::F16, training: true },
    Row { compute: F32, scale: Dtype::F32, factors: Dtype::Bf16, result: Dtype::F32, training: true },
    Row { compute: F32, scale: Dtype::F32, factors: Dtype::F16, result: Dtype::F32, training: true },
    Row { compute: F32_OR_TF32, scale: Dtype::F32, factors: Dtype::F32, result: Dtype::F32, training: true },
    Row { compute: F64, scale: Dtype::F64, factors: Dtype::F64, result: Dtype::F64, training: false },
];

/// What the workspace's address is a multiple of.
pub const WORKSPACE_ALIGNMENT: u64 = 256;
/// What no algorithm needs more of, in bytes: the width of a vector load.
pub const MAX_ALIGNMENT: u64 = 16;
/// What the auxiliary leading dimension and batch stride are multiples of: bits of a mask, elements of GELU's input.
const AUX_MULTIPLE: [(Aux, i64); 2] = [(Aux::Mask, 128), (Aux::Input, 8)];
/// Rows and columns of the largest matrix.
const MAX_SIZE: u64 = i32::MAX as u64;
/// Elements between the first and the last of the largest batch.
const MAX_SPAN: u128 = 1 << 34;

/// Checks a product's descriptors: A, B, C and D.
///
/// # Errors
/// What the documentation does not allow, or the stand-in does not model.
pub fn check(desc: &MatmulDesc, layouts: [&Layout; 4]) -> Result<Problem, Refusal> {
    let [a, b, c, d] = layouts;
    let row = row(desc, layouts)?;
    let types = &TABLE[row];
    let matrices = [matrix("A", a)?, matrix("B", b)?, matrix("C", c)?, matrix("D", d)?];
    let (trans_a, trans_b) = (transposed("A", desc.trans_a)?, transposed("B", desc.trans_b)?);
    supported(desc.trans_c == 0, || "C must not be transposed".to_owned())?;

    let [m, n] = [d.rows, d.cols];
    let op =
        |layout: &Layout, trans: bool| if trans { [layout.cols, layout.rows] } else { [layout.rows, layout.cols] };
    let ([a_rows, k], [b_rows, b_cols]) = (op(a, trans_a), op(b, trans_b));
    valid(a_rows == m && b_rows == k && b_cols == n, || {
        format!("op(A) is ({a_rows}, {k}) and op(B) is ({b_rows}, {b_cols}), D is ({m}, {n})")
    })?;
    valid([c.rows, c.cols] == [m, n], || format!("C is ({}, {}), D is ({m}, {n})", c.rows, c.cols))?;
    for (name, layout) in [("A", a), ("B", b), ("C", c)] {
        valid(layout.batch == d.batch, || format!("{name} is a batch of {}, D of {}", layout.batch, d.batch))?;
    }
    let apart = matrices[3].span;
    valid(d.batch == 1 || matrices[3].batch_stride >= apart, || {
        format!("D's batch stride is {}, a matrix takes {apart}: the results overlap", d.batch_stride)
    })?;

    let pointer_mode = desc.pointer_mode;
    let device_scalars = pointer_mode == cublasLtPointerMode_t::CUBLASLT_POINTER_MODE_DEVICE as u32;
    supported(device_scalars || pointer_mode == cublasLtPointerMode_t::CUBLASLT_POINTER_MODE_HOST as u32, || {
        format!("pointer mode {pointer_mode}: vectors of scalars are not modelled")
    })?;
    let epilogue = epilogue(desc.epilogue, types)?;
    let sizes = [m, n, k].map(|size| size as usize);
    let tf32 = desc.compute == Compute::CUBLAS_COMPUTE_32F_FAST_TF32 as u32;
    Ok(Problem {
        row,
        scale: types.scale,
        rounding: if tf32 { Rounding::Tf32 } else { Rounding::Exact },
        sizes,
        batch: d.batch as usize,
        matrices,
        trans_a,
        trans_b,
        device_scalars,
        epilogue,
        bias: bias(desc, epilogue, types, sizes, d.batch)?,
        aux: aux(desc, epilogue, types, sizes, d.batch)?,
    })
}

/// Checks the addresses of A, B, C and D against the alignments that the algorithm was promised.
///
/// # Errors
/// Which is null or not aligned.
pub fn check_addresses(problem: &Problem, addresses: [u64; 4], promised: [u64; 4]) -> Result<(), Refusal> {
    for (index, name) in ["A", "B", "C", "D"].into_iter().enumerate() {
        let address = addresses[index];
        valid(address != 0, || format!("{name} is null"))?;
        let alignment = promised[index].min(MAX_ALIGNMENT).max(problem.matrices[index].dtype.size());
        valid(address.is_multiple_of(alignment), || {
            format!("{name} is not aligned to {alignment} bytes, which the algorithm was promised")
        })?;
    }
    let [_, _, c, d] = &problem.matrices;
    valid(addresses[2] != addresses[3] || (c.ld, c.batch_stride) == (d.ld, d.batch_stride), || {
        "C and D are the same memory, so their layouts must be the same".to_owned()
    })
}

fn row(desc: &MatmulDesc, layouts: [&Layout; 4]) -> Result<usize, Refusal> {
    let (a, b, c, d) = (layouts[0].dtype, layouts[1].dtype, layouts[2].dtype, layouts[3].dtype);
    let fits = |row: &Row| {
        row.compute.iter().any(|&compute| compute as u32 == desc.compute)
            && number(row.scale) == desc.scale
            && [row.factors, row.factors, row.result, row.result].map(number) == [a, b, c, d]
    };
    TABLE.iter().position(fits).ok_or_else(|| {
        Refusal::Unsupported(format!(
            "no product of A {}, B {} to C {}, D {} with scale {} and compute type {}",
            name(a),
            name(b),
            name(c),
            name(d),
            name(desc.scale),
            desc.compute
        ))
    })
}

fn matrix(what: &str, layout: &Layout) -> Result<Matrix, Refusal> {
    let &Layout { rows, cols, ld, batch, batch_stride, .. } = layout;
    supported(layout.order == 0, || format!("{what}: order {}, only column-major is modelled", layout.order))?;
    valid((1..=MAX_SIZE).contains(&rows) && (1..=MAX_SIZE).contains(&cols), || {
        format!("{what} is ({rows}, {cols})")
    })?;
    valid((rows as i64..=MAX_SIZE as i64).contains(&ld), || {
        format!("{what}: the leading dimension is {ld}, a column has {rows} elements")
    })?;
    valid(batch >= 1 && batch_stride >= 0, || {
        format!("{what}: a batch of {batch}, {batch_stride} elements apart, expected at least 1 and 0")
    })?;
    let span = (cols as u128 - 1) * ld as u128 + u128::from(rows);
    let whole = (batch as u128 - 1) * batch_stride as u128 + span;
    valid(whole <= MAX_SPAN, || format!("{what} spans {whole} elements, expected at most {MAX_SPAN}"))?;
    Ok(Matrix {
        dtype: dtype(layout.dtype)?,
        rows: rows as usize,
        cols: cols as usize,
        ld: ld as usize,
        span: span as usize,
        batch_stride: batch_stride as usize,
    })
}

fn transposed(what: &str, operation: u32) -> Result<bool, Refusal> {
    match operation {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(Refusal::Unsupported(format!("operation {operation} on {what}, expected N (0) or T (1)"))),
    }
}

fn epilogue(number: u32, types: &Row) -> Result<Epilogue, Refusal> {
    let epilogue = Epilogue::new(number).ok_or_else(|| Refusal::Invalid(format!("there is no epilogue {number}")))?;
    let training = epilogue.aux != Aux::None || epilogue.writes_bias();
    supported(types.training || !training, || {
        format!("epilogue {number}: {} has no auxiliary and gradient epilogues", types.result)
    })?;
    Ok(epilogue)
}

fn bias(
    desc: &MatmulDesc,
    epilogue: Epilogue,
    types: &Row,
    [m, n, _]: [usize; 3],
    batch: i32,
) -> Result<Vector, Refusal> {
    let len = match epilogue.bias {
        Bias::None => 0,
        Bias::Add | Bias::GradD | Bias::GradA => m,
        Bias::GradB => n,
    };
    let stride = desc.bias_stride;
    if len > 0 {
        let expected = types.result;
        supported(desc.bias_type == DEFAULT_TYPE || desc.bias_type as u32 == number(expected), || {
            format!("bias must have the type of D, {expected}, it is {}", name(desc.bias_type as u32))
        })?;
        valid(desc.bias != 0 && desc.bias.is_multiple_of(expected.size()), || {
            format!("the epilogue needs a bias: its address is {:#x}", desc.bias)
        })?;
        valid(stride >= 0 && stride as u128 * batch as u128 <= MAX_SPAN, || {
            format!("the bias's stride is {stride}")
        })?;
        valid(batch == 1 || !epilogue.writes_bias() || stride as usize >= len, || {
            format!("the bias's stride is {stride}, {len} elements are written for each of {batch}: they overlap")
        })?;
    }
    Ok(Vector { dtype: types.result, address: desc.bias, len, ld: len, batch_stride: stride as usize })
}

fn aux(
    desc: &MatmulDesc,
    epilogue: Epilogue,
    types: &Row,
    [m, n, _]: [usize; 3],
    batch: i32,
) -> Result<Vector, Refusal> {
    let (ld, stride) = (desc.aux_ld, desc.aux_stride);
    if let Some((_, multiple)) = AUX_MULTIPLE.into_iter().find(|(aux, _)| *aux == epilogue.aux) {
        let expected = types.result;
        let typed = desc.aux_type == DEFAULT_TYPE || desc.aux_type as u32 == number(expected);
        supported(typed || epilogue.aux == Aux::Mask, || {
            format!("auxiliary buffer must have the type of D, {expected}, it is {}", name(desc.aux_type as u32))
        })?;
        valid(desc.aux != 0 && desc.aux.is_multiple_of(MAX_ALIGNMENT), || {
            format!(
                "the epilogue needs an auxiliary buffer, aligned to {MAX_ALIGNMENT}: its address is {:#x}",
                desc.aux
            )
        })?;
        valid((m as i64..=MAX_SIZE as i64).contains(&ld) && ld % multiple == 0, || {
            format!("the auxiliary leading dimension is {ld}, expected a multiple of {multiple}, at least {m}")
        })?;
        let span = (n as u128 - 1) * ld as u128 + m as u128;
        let apart = batch == 1 || epilogue.reads_aux() || stride as u128 >= span;
        valid(stride >= 0 && stride % multiple == 0 && apart, || {
            format!("the auxiliary batch stride is {stride}, expected a multiple of {multiple}, at least {span}")
        })?;
        let whole = (batch as u128 - 1) * stride as u128 + span;
        valid(whole <= MAX_SPAN, || format!("the auxiliary buffer spans {whole} elements"))?;
    }
    let len = if epilogue.aux == Aux::None { 0 } else { m };
    Ok(Vector { dtype: types.result, address: desc.aux, len, ld: ld as usize, batch_stride: stride as usize })
}

/// The library's number of a type.
const fn number(dtype: Dtype) -> u32 {
    let number = match dtype {
        Dtype::F16 => cudaDataType_t::CUDA_R_16F,
        Dtype::Bf16 => cudaDataType_t::CUDA_R_16BF,
        Dtype::F32 => cudaDataType_t::CUDA_R_32F,
        Dtype::F64 => cudaDataType_t::CUDA_R_64F,
    };
    number as u32
}

fn dtype(number_of: u32) -> Result<Dtype, Refusal> {
    let known = [Dtype::F16, Dtype::Bf16, Dtype::F32, Dtype::F64].into_iter().find(|&d| number(d) == number_of);
    known.ok_or_else(|| Refusal::Unsupported(format!("CUDA type {number_of} is not modelled")))
}

fn name(number: u32) -> String {
    dtype(number).map_or_else(|_| format!("CUDA type {number}"), |dtype| dtype.to_string())
}
