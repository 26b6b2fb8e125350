//! Matrix products by cuBLASLt.
//!
//! The library is asked once for each kind of product which algorithm it would take; descriptors and answer are kept as a
//! plan. Whether a product adds to its result is no part of a plan: the library does not ask for it. What it refuses is
//! remembered as well, so that the caller's own kernel takes over at no cost.

use std::collections::HashMap;
use std::ffi::c_void;

use cudarc::cublaslt::result::{self, CublasError};
use cudarc::cublaslt::sys;

use crate::cuda::{Cuda, lock};
use crate::{DType, Device, Tensor};

/// The most that an algorithm may use beside its matrices: what NVIDIA recommends for Hopper.
const MAX_WORKSPACE: usize = 32 << 20;

/// Beyond so many plans all are forgotten: batches of ever new sizes must not fill the host's memory.
pub(crate) const MAX_PLANS: usize = 4096;

/// How parts of a sum may meet: in f32. The library's other ways round them to D's type.
const REDUCTIONS: u32 = sys::cublasLtReductionScheme_t::CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE as u32;

/// What the library assumes of addresses at best.
const MAX_ALIGNMENT: u64 = 256;

/// What happens to a product before it is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Epilogue {
    /// Nothing.
    None,
    /// A bias is added to every row.
    Bias,
    /// A bias is added to every row, and what is negative then becomes 0.
    BiasRelu,
}

/// D (rows, columns) = epilogue(op(A) op(B)) or D + op(A) op(B), all row-major, dense and of one type; sums in f32.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Product {
    pub dtype: DType,
    pub rows: usize,
    pub columns: usize,
    /// Terms of each sum.
    pub inner: usize,
    /// A is stored as (inner, rows) instead of (rows, inner).
    pub transpose_a: bool,
    /// B is stored as (columns, inner) instead of (inner, columns).
    pub transpose_b: bool,
    pub epilogue: Epilogue,
}

impl Product {
    /// Whether nothing is multiplied, which the library takes for a mistake.
    pub(crate) fn is_empty(&self) -> bool {
        self.rows * self.columns * self.inner == 0
    }
}

/// Device addresses of a product's operands.
#[derive(Clone, Copy, Debug, Hash)]
pub(crate) struct Operands {
    pub d: u64,
    /// Whether to add to what is there.
    pub accumulate: bool,
    pub a: u64,
    pub b: u64,
    /// (columns) of the product's type; 0 without one.
    pub bias: u64,
}

/// What a plan depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Key {
    product: Product,
    tf32: bool,
    /// Of the addresses of D, A and B.
    alignments: [u32; 3],
}

/// The library's handle and the plans so far.
pub(crate) struct CublasLt {
    handle: sys::cublasLtHandle_t,
    /// `None`: the library has no algorithm.
    plans: HashMap<Key, Option<Plan>>,
}

// SAFETY: handles and descriptors may be used from any thread, one at a time.
unsafe impl Send for CublasLt {}

impl CublasLt {
    fn open() -> Result<Self, String> {
        // SAFETY: only looks whether the library is there.
        if !unsafe { sys::is_culib_present() } {
            return Err("cuBLASLt is missing: libcublasLt.so is not found. Install the CUDA toolkit or the \
                        nvidia-cublas-cu12 wheel, and put its folder on LD_LIBRARY_PATH"
                .into());
        }
        let handle = result::create_handle().map_err(|e| format!("cuBLASLt does not start: {e}"))?;
        Ok(CublasLt { handle, plans: HashMap::new() })
    }

    /// The plan for a key, made at its first use; `None` when the library has none.
    fn plan(&mut self, key: Key, bias: u64) -> Result<Option<&Plan>, CublasError> {
        if !self.plans.contains_key(&key) {
            if self.plans.len() == MAX_PLANS {
                self.plans.clear();
            }
            let plan = accepted(Plan::new(self.handle, key, bias))?;
            self.plans.insert(key, plan);
        }
        Ok(self.plans[&key].as_ref())
    }

    /// Whether the library did it.
    fn multiply(&mut self, cuda: &'static Cuda, key: Key, operands: Operands) -> Result<bool, CublasError> {
        let handle = self.handle;
        let Some(plan) = self.plan(key, operands.bias)? else { return Ok(false) };
        let done = accepted(plan.run(handle, cuda, key, operands))?.is_some();
        if !done {
            self.plans.insert(key, None);
        }
        Ok(done)
    }
}

/// `None` for what the library refuses; other errors stay errors.
fn accepted<T>(result: Result<T, CublasError>) -> Result<Option<T>, CublasError> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(CublasError(sys::cublasStatus_t::CUBLAS_STATUS_NOT_SUPPORTED)) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Descriptors and algorithm. The library's matrices are column-major, so that it sees all of ours transposed: it computes
/// D^T = op(B)^T op(A)^T, and our B comes first.
struct Plan {
    descriptor: Descriptor,
    first: Layout,
    second: Layout,
    result: Layout,
    algorithm: sys::cublasLtMatmulAlgo_t,
    workspace: usize,
}

impl Plan {
    fn new(handle: sys::cublasLtHandle_t, key: Key, bias: u64) -> Result<Self, CublasError> {
        use sys::cublasLtMatmulPreferenceAttributes_t as Attribute;
        let Product { dtype, rows, columns, inner, transpose_a, transpose_b, .. } = key.product;
        let descriptor = Descriptor::new(&key, bias)?;
        let stored = |transposed, rows, columns| if transposed { (columns, rows) } else { (rows, columns) };
        let first = Layout::new(dtype, stored(transpose_b, inner, columns))?;
        let second = Layout::new(dtype, stored(transpose_a, rows, inner))?;
        let result = Layout::new(dtype, (rows, columns))?;
        let preference = Preference::new()?;
        let [d, a, b] = key.alignments;
        preference.set(Attribute::CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &(MAX_WORKSPACE as u64))?;
        preference.set(Attribute::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, &b)?;
        preference.set(Attribute::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, &a)?;
        preference.set(Attribute::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, &d)?;
        preference.set(Attribute::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, &d)?;
        preference.set(Attribute::CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, &REDUCTIONS)?;
        // SAFETY: handle, descriptors and preference are alive.
        let best = unsafe {
            result::get_matmul_algo_heuristic(
                handle,
                descriptor.0,
                first.0,
                second.0,
                result.0,
                result.0,
                preference.0,
            )
        }?;
        let (algorithm, workspace) = (best.algo, best.workspaceSize);
        Ok(Plan { descriptor, first, second, result, algorithm, workspace })
    }

    /// Enqueues the product. Its workspace is a tensor like any: the arena gives the same piece to the next.
    fn run(
        &self,
        handle: sys::cublasLtHandle_t,
        cuda: &'static Cuda,
        key: Key,
        operands: Operands,
    ) -> Result<(), CublasError> {
        let Operands { d, accumulate, a, b, bias } = operands;
        self.descriptor.set_bias(bias)?;
        let workspace = (self.workspace > 0)
            .then(|| Tensor::empty(&[self.workspace.div_ceil(DType::F32.size())], DType::F32, Device::Cuda(cuda)));
        let workspace = workspace.as_ref().map_or(0, Tensor::device_address);
        if cuda.has_failed() || !cuda.makes(("product", key, operands, workspace)) {
            return Ok(());
        }
        let (alpha, beta) = (1.0f32, if accumulate { 1.0f32 } else { 0.0 });
        let pointer = |address: u64| address as *mut c_void;
        // SAFETY: handle, descriptors and algorithm are alive and made for each other; the caller gives addresses of tensors
        // as large as the product says, which are alive until what is enqueued after this call. alpha and beta are read
        // before it returns.
        unsafe {
            result::matmul(
                handle,
                self.descriptor.0,
                std::ptr::from_ref(&alpha).cast(),
                std::ptr::from_ref(&beta).cast(),
                pointer(b),
                self.first.0,
                pointer(a),
                self.second.0,
                pointer(d),
                self.result.0,
                pointer(d),
                self.result.0,
                &self.algorithm,
                pointer(workspace),
                self.workspace,
                cuda.stream().cast(),
            )
        }
    }
}

/// What is computed: transposes, epilogue, precision.
struct Descriptor(sys::cublasLtMatmulDesc_t);

impl Descriptor {
    fn new(key: &Key, bias: u64) -> Result<Self, CublasError> {
        use sys::cublasComputeType_t as Compute;
        use sys::cublasLtEpilogue_t as Kind;
        use sys::cublasLtMatmulDescAttributes_t as Attribute;
        let compute = if key.tf32 { Compute::CUBLAS_COMPUTE_32F_FAST_TF32 } else { Compute::CUBLAS_COMPUTE_32F };
        let it = Descriptor(result::create_matmul_desc(compute, sys::cudaDataType::CUDA_R_32F)?);
        let epilogue = match key.product.epilogue {
            Epilogue::None => Kind::CUBLASLT_EPILOGUE_DEFAULT,
            Epilogue::Bias => Kind::CUBLASLT_EPILOGUE_BIAS,
            Epilogue::BiasRelu => Kind::CUBLASLT_EPILOGUE_RELU_BIAS,
        };
        it.set(Attribute::CUBLASLT_MATMUL_DESC_TRANSA, &i32::from(key.product.transpose_b))?;
        it.set(Attribute::CUBLASLT_MATMUL_DESC_TRANSB, &i32::from(key.product.transpose_a))?;
        it.set(Attribute::CUBLASLT_MATMUL_DESC_EPILOGUE, &(epilogue as u32))?;
        it.set_bias(bias)?;
        Ok(it)
    }

    /// Names the bias, if there is one.
    fn set_bias(&self, bias: u64) -> Result<(), CublasError> {
        if bias == 0 {
            return Ok(());
        }
        self.set(sys::cublasLtMatmulDescAttributes_t::CUBLASLT_MATMUL_DESC_BIAS_POINTER, &bias)
    }

    fn set<T>(&self, attribute: sys::cublasLtMatmulDescAttributes_t, value: &T) -> Result<(), CublasError> {
        let (value, size) = (std::ptr::from_ref(value).cast(), size_of::<T>());
        // SAFETY: the descriptor is alive; the library copies as many bytes as it is told there are.
        unsafe { result::set_matmul_desc_attribute(self.0, attribute, value, size) }
    }
}

impl Drop for Descriptor {
    fn drop(&mut self) {
        // SAFETY: made by `new`, destroyed once; enqueued work does not use it.
        let _ = unsafe { result::destroy_matmul_desc(self.0) };
    }
}

/// Type and sizes of a matrix.
struct Layout(sys::cublasLtMatrixLayout_t);

impl Layout {
    /// A row-major (rows, columns) matrix of ours: the library's (columns, rows).
    fn new(dtype: DType, (rows, columns): (usize, usize)) -> Result<Self, CublasError> {
        let dtype = match dtype {
            DType::F32 => sys::cudaDataType::CUDA_R_32F,
            DType::F16 => sys::cudaDataType::CUDA_R_16F,
            DType::BF16 => sys::cudaDataType::CUDA_R_16BF,
            other => panic!("a product of {other:?} has no GPU implementation"),
        };
        Ok(Layout(result::create_matrix_layout(dtype, columns as u64, rows as u64, columns as i64)?))
    }
}

impl Drop for Layout {
    fn drop(&mut self) {
        // SAFETY: made by `new`, destroyed once; enqueued work does not use it.
        let _ = unsafe { result::destroy_matrix_layout(self.0) };
    }
}

/// What an algorithm may count on.
struct Preference(sys::cublasLtMatmulPreference_t);

impl Preference {
    fn new() -> Result<Self, CublasError> {
        Ok(Preference(result::create_matmul_pref()?))
    }

    fn set<T>(&self, attribute: sys::cublasLtMatmulPreferenceAttributes_t, value: &T) -> Result<(), CublasError> {
        let (value, size) = (std::ptr::from_ref(value).cast(), size_of::<T>());
        // SAFETY: the preference is alive; the library copies as many bytes as it is told there are.
        unsafe { result::set_matmul_pref_attribute(self.0, attribute, value, size) }
    }
}

impl Drop for Preference {
    fn drop(&mut self) {
        // SAFETY: made by `new`, destroyed once.
        let _ = unsafe { result::destroy_matmul_pref(self.0) };
    }
}

impl Cuda {
    /// Enqueues a product on the compute stream, unless the library refuses it: then false, and nothing was done. Nothing
    /// that it computes may be empty. True as well after a failure, when nothing runs any more.
    pub(crate) fn multiply(&'static self, product: Product, operands: Operands) -> bool {
        if self.has_failed() {
            return true;
        }
        self.bind();
        let mut library = lock(&self.cublas_lt);
        if library.is_none() {
            match CublasLt::open() {
                Ok(opened) => *library = Some(opened),
                Err(message) => {
                    self.fail(message);
                    return true;
                }
            }
        }
        let Some(library) = library.as_mut() else { return true };
        // A bias is loaded in the width in which D is stored.
        let d = alignment(operands.d).min(alignment(operands.bias));
        let alignments = [d, alignment(operands.a), alignment(operands.b)];
        let tf32 = product.dtype == DType::F32 && self.allows_tf32();
        match library.multiply(self, Key { product, tf32, alignments }, operands) {
            Ok(done) => done,
            Err(error) => {
                self.fail(format!("{}: cuBLASLt: {product:?}: {error}", self.name()));
                true
            }
        }
    }

    /// The kinds of products that cuBLASLt has been asked for, in no order, and whether it does them.
    pub fn product_answers(&self) -> Vec<(String, bool)> {
        let library = lock(&self.cublas_lt);
        let plans = library.iter().flat_map(|library| &library.plans);
        plans
            .map(|(Key { product, tf32, alignments }, plan)| {
                (format!("{product:?}, tf32: {tf32}, alignments: {alignments:?}"), plan.is_some())
            })
            .collect()
    }
}

/// The largest power of two that divides an address, as far as it matters.
fn alignment(address: u64) -> u32 {
    (1u64 << address.trailing_zeros().min(MAX_ALIGNMENT.trailing_zeros())) as u32
}
