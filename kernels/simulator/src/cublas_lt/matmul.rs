//! `cublasLtMatmul` and its heuristic.

use std::ffi::{c_int, c_void};
use std::sync::Arc;

use cudarc::cublaslt::sys::{
    cublasLtHandle_t, cublasLtMatmulAlgo_t, cublasLtMatmulDesc_t, cublasLtMatmulHeuristicResult_t,
    cublasLtMatmulPreference_t, cublasLtMatrixLayout_t, cublasLtReductionScheme_t as Reduction, cublasStatus_t,
    cudaStream_t,
};

use super::HANDLES;
use super::compute::{Matmul, Scalar};
use super::descriptor::{DESCS, LAYOUTS, PREFERENCES, Preference};
use super::problem::Problem;
use super::support::{WORKSPACE_ALIGNMENT, check, check_addresses};
use crate::driver::library::{LibraryCall, Region, submit};
use crate::vendor::{Dtype, Refusal, answer, put, take, valid};

/// What tells an algorithm of this stand-in from other bytes.
const MAGIC: u64 = u64::from_be_bytes(*b"simulate");

/// What `cublasLtMatmulAlgo_t` holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Algorithm {
    /// In the support table.
    row: u64,
    workspace: u64,
    alignment: [u64; 4],
}

impl Algorithm {
    /// The best for a problem. Long sums into a small D are split, and meet in the workspace if it may be that large.
    fn choose(problem: &Problem, preference: &Preference) -> Self {
        let [m, n, k] = problem.sizes.map(|size| size as u64);
        let partial_sums = 4 * m * n * problem.batch as u64 * problem.scale.size();
        let in_f32 = preference.reductions & Reduction::CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE as u32 != 0;
        let split = in_f32 && k >= 4 * m.max(n) && partial_sums <= preference.max_workspace;
        Self {
            row: problem.row as u64,
            workspace: if split { partial_sums } else { 0 },
            alignment: preference.alignment.map(u64::from),
        }
    }

    fn to_library(self) -> cublasLtMatmulAlgo_t {
        let [a, b, c, d] = self.alignment;
        cublasLtMatmulAlgo_t { data: [MAGIC, self.row, self.workspace, a, b, c, d, 0] }
    }

    fn from_library(algo: cublasLtMatmulAlgo_t) -> Result<Self, Refusal> {
        let [magic, row, workspace, alignment @ .., _] = algo.data;
        valid(magic == MAGIC, || "the algorithm does not come from cublasLtMatmulAlgoGetHeuristic".to_owned())?;
        Ok(Self { row, workspace, alignment })
    }
}

/// The arguments of `cublasLtMatmul` up to the stream.
#[derive(Clone, Copy, Debug)]
pub(super) struct Arguments {
    pub handle: cublasLtHandle_t,
    pub desc: cublasLtMatmulDesc_t,
    pub alpha: *const c_void,
    pub beta: *const c_void,
    /// A, B, C, D.
    pub addresses: [u64; 4],
    pub layouts: [cublasLtMatrixLayout_t; 4],
    pub algo: *const cublasLtMatmulAlgo_t,
    pub workspace: u64,
    pub workspace_size: u64,
}

fn problem(
    handle: cublasLtHandle_t,
    desc: cublasLtMatmulDesc_t,
    layouts: [cublasLtMatrixLayout_t; 4],
) -> Result<Problem, Refusal> {
    HANDLES.get(handle)?;
    let desc = DESCS.get(desc)?;
    let layouts =
        [LAYOUTS.get(layouts[0])?, LAYOUTS.get(layouts[1])?, LAYOUTS.get(layouts[2])?, LAYOUTS.get(layouts[3])?];
    check(&desc, layouts.each_ref())
}

/// The call that the arguments ask for.
///
/// # Safety
/// `algo` is null or holds an algorithm; alpha and beta are null or hold a scalar each if they are on the host.
pub(super) unsafe fn call(arguments: &Arguments) -> Result<LibraryCall, Refusal> {
    let &Arguments { addresses, workspace, workspace_size, .. } = arguments;
    let problem = problem(arguments.handle, arguments.desc, arguments.layouts)?;
    let algorithm = if arguments.algo.is_null() {
        // Chosen for these very addresses: whatever they are aligned to is what it may rely on.
        Algorithm::choose(
            &problem,
            &Preference { max_workspace: workspace_size, alignment: [1; 4], ..Preference::new() },
        )
    } else {
        // SAFETY: the caller vouches for its pointer.
        Algorithm::from_library(unsafe { arguments.algo.read_unaligned() })?
    };
    valid(algorithm.row == problem.row as u64, || {
        "the algorithm was chosen for other types: ask the heuristic again".to_owned()
    })?;
    check_addresses(&problem, addresses, algorithm.alignment)?;
    valid(algorithm.workspace <= workspace_size, || {
        format!("the workspace has {workspace_size} bytes, the algorithm needs {}", algorithm.workspace)
    })?;
    valid(algorithm.workspace == 0 || (workspace != 0 && workspace.is_multiple_of(WORKSPACE_ALIGNMENT)), || {
        format!("the workspace is at {workspace:#x}, expected a multiple of {WORKSPACE_ALIGNMENT}")
    })?;
    // SAFETY: the caller vouches for its pointers.
    let scalars = unsafe { [scalar(&problem, arguments.alpha, "alpha")?, scalar(&problem, arguments.beta, "beta")?] };
    let [alpha, beta] = scalars;

    let of = |index: usize| problem.matrices[index].regions(addresses[index], problem.batch);
    let mut reads = [of(0), of(1)].concat();
    let mut writes = of(3);
    for scalar in [alpha, beta] {
        if let Scalar::Device(address) = scalar {
            reads.push(one(address, problem.scale.size()));
        }
    }
    if !matches!(beta, Scalar::Host(0.0)) {
        reads.extend(of(2));
    }
    let (bias, aux) = (problem.bias_regions(), problem.aux_regions());
    if problem.epilogue.writes_bias() {
        writes.extend(bias)
    } else {
        reads.extend(bias)
    }
    if problem.epilogue.reads_aux() {
        reads.extend(aux)
    } else {
        writes.extend(aux)
    }
    if algorithm.workspace > 0 {
        writes.push(one(workspace, algorithm.workspace));
    }
    let matmul = Matmul { problem, addresses, alpha, beta };
    Ok(LibraryCall { name: "cublasLtMatmul", reads, writes, run: Arc::new(move |memory| matmul.run(memory)) })
}

fn one(address: u64, bytes: u64) -> Region {
    Region { address, rows: 1, row_bytes: bytes, pitch: bytes }
}

/// # Safety
/// `from` is null, or holds a scalar if it is on the host.
unsafe fn scalar(problem: &Problem, from: *const c_void, what: &str) -> Result<Scalar, Refusal> {
    if problem.device_scalars {
        let address = from.addr() as u64;
        valid(address != 0 && address.is_multiple_of(problem.scale.size()), || format!("{what} is at {address:#x}"))?;
        return Ok(Scalar::Device(address));
    }
    // SAFETY: the caller vouches for its pointer.
    let value = unsafe {
        match problem.scale {
            Dtype::F64 => take(from.cast::<f64>(), what)?,
            _ => take(from.cast::<f32>(), what)?.into(),
        }
    };
    Ok(Scalar::Host(value))
}

#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn cublasLtMatmulAlgoGetHeuristic(
    handle: cublasLtHandle_t,
    desc: cublasLtMatmulDesc_t,
    a: cublasLtMatrixLayout_t,
    b: cublasLtMatrixLayout_t,
    c: cublasLtMatrixLayout_t,
    d: cublasLtMatrixLayout_t,
    preference: cublasLtMatmulPreference_t,
    requested: c_int,
    results: *mut cublasLtMatmulHeuristicResult_t,
    returned: *mut c_int,
) -> cublasStatus_t {
    let ask = || {
        // SAFETY: the caller vouches for its pointers, here and below.
        unsafe { put(returned, 0)? };
        valid(requested >= 1, || format!("{requested} algorithms requested, expected at least 1"))?;
        let preference = PREFERENCES.get(preference)?;
        let problem = problem(handle, desc, [a, b, c, d])?;
        let algorithm = Algorithm::choose(&problem, &preference);
        let result = cublasLtMatmulHeuristicResult_t {
            algo: algorithm.to_library(),
            workspaceSize: algorithm.workspace as usize,
            state: cublasStatus_t::CUBLAS_STATUS_SUCCESS,
            wavesCount: 1.0,
            reserved: [0; 4],
        };
        // SAFETY: see above.
        unsafe {
            put(results, result)?;
            put(returned, 1)
        }
    };
    answer("cublasLtMatmulAlgoGetHeuristic", ask())
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cublasLtMatmul(
    handle: cublasLtHandle_t,
    desc: cublasLtMatmulDesc_t,
    alpha: *const c_void,
    a: *const c_void,
    a_layout: cublasLtMatrixLayout_t,
    b: *const c_void,
    b_layout: cublasLtMatrixLayout_t,
    beta: *const c_void,
    c: *const c_void,
    c_layout: cublasLtMatrixLayout_t,
    d: *mut c_void,
    d_layout: cublasLtMatrixLayout_t,
    algo: *const cublasLtMatmulAlgo_t,
    workspace: *mut c_void,
    workspace_size: usize,
    stream: cudaStream_t,
) -> cublasStatus_t {
    let arguments = Arguments {
        handle,
        desc,
        alpha,
        beta,
        addresses: [a.addr(), b.addr(), c.addr(), d.addr()].map(|address| address as u64),
        layouts: [a_layout, b_layout, c_layout, d_layout],
        algo,
        workspace: workspace.addr() as u64,
        workspace_size: workspace_size as u64,
    };
    // SAFETY: the caller vouches for its pointers.
    let call = unsafe { call(&arguments) };
    answer("cublasLtMatmul", call.and_then(|call| submit(stream.cast(), call).map_err(Refusal::Failed)))
}
