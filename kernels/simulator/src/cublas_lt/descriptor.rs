//! Descriptors: what a product is, what its matrices are, what an algorithm may use.

use std::ffi::c_void;

use bytemuck::bytes_of_mut;
use cudarc::cublaslt::sys::{
    cublasComputeType_t, cublasLtMatmulDesc_t, cublasLtMatmulDescAttributes_t as DescAttribute,
    cublasLtMatmulPreference_t, cublasLtMatmulPreferenceAttributes_t as PreferenceAttribute, cublasLtMatrixLayout_t,
    cublasLtMatrixLayoutAttribute_t as LayoutAttribute, cublasLtReductionScheme_t as Reduction, cublasStatus_t,
    cudaDataType_t,
};

use crate::vendor::{Handles, Refusal, answer, get_attribute, put, set_attribute};

pub(super) static DESCS: Handles<MatmulDesc> = Handles::new("a matmul descriptor");
pub(super) static LAYOUTS: Handles<Layout> = Handles::new("a matrix layout");
pub(super) static PREFERENCES: Handles<Preference> = Handles::new("a matmul preference");

/// A type that was not set: D's.
pub const DEFAULT_TYPE: i32 = -1;

/// `cublasLtMatmulDesc_t`, in the library's numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MatmulDesc {
    pub compute: u32,
    pub scale: u32,
    pub pointer_mode: u32,
    pub trans_a: u32,
    pub trans_b: u32,
    pub trans_c: u32,
    pub epilogue: u32,
    pub bias: u64,
    pub bias_stride: i64,
    pub bias_type: i32,
    pub aux: u64,
    pub aux_ld: i64,
    pub aux_stride: i64,
    pub aux_type: i32,
}

impl MatmulDesc {
    /// A plain product.
    pub fn new(compute: u32, scale: u32) -> Self {
        Self {
            compute,
            scale,
            pointer_mode: 0,
            trans_a: 0,
            trans_b: 0,
            trans_c: 0,
            epilogue: 1,
            bias: 0,
            bias_stride: 0,
            bias_type: DEFAULT_TYPE,
            aux: 0,
            aux_ld: 0,
            aux_stride: 0,
            aux_type: DEFAULT_TYPE,
        }
    }

    fn attribute(&mut self, attribute: DescAttribute) -> Result<&mut [u8], Refusal> {
        Ok(match attribute {
            DescAttribute::CUBLASLT_MATMUL_DESC_COMPUTE_TYPE => bytes_of_mut(&mut self.compute),
            DescAttribute::CUBLASLT_MATMUL_DESC_SCALE_TYPE => bytes_of_mut(&mut self.scale),
            DescAttribute::CUBLASLT_MATMUL_DESC_POINTER_MODE => bytes_of_mut(&mut self.pointer_mode),
            DescAttribute::CUBLASLT_MATMUL_DESC_TRANSA => bytes_of_mut(&mut self.trans_a),
            DescAttribute::CUBLASLT_MATMUL_DESC_TRANSB => bytes_of_mut(&mut self.trans_b),
            DescAttribute::CUBLASLT_MATMUL_DESC_TRANSC => bytes_of_mut(&mut self.trans_c),
            DescAttribute::CUBLASLT_MATMUL_DESC_EPILOGUE => bytes_of_mut(&mut self.epilogue),
            DescAttribute::CUBLASLT_MATMUL_DESC_BIAS_POINTER => bytes_of_mut(&mut self.bias),
            DescAttribute::CUBLASLT_MATMUL_DESC_BIAS_BATCH_STRIDE => bytes_of_mut(&mut self.bias_stride),
            DescAttribute::CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE => bytes_of_mut(&mut self.bias_type),
            DescAttribute::CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER => bytes_of_mut(&mut self.aux),
            DescAttribute::CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD => bytes_of_mut(&mut self.aux_ld),
            DescAttribute::CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_BATCH_STRIDE => bytes_of_mut(&mut self.aux_stride),
            DescAttribute::CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_DATA_TYPE => bytes_of_mut(&mut self.aux_type),
            other => return Err(not_modelled(&other)),
        })
    }
}

/// `cublasLtMatrixLayout_t`, in the library's numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    pub dtype: u32,
    pub order: u32,
    pub rows: u64,
    pub cols: u64,
    pub ld: i64,
    pub batch: i32,
    pub batch_stride: i64,
}

impl Layout {
    /// One column-major matrix.
    pub fn new(dtype: u32, rows: u64, cols: u64, ld: i64) -> Self {
        Self { dtype, order: 0, rows, cols, ld, batch: 1, batch_stride: 0 }
    }

    fn attribute(&mut self, attribute: LayoutAttribute) -> Result<&mut [u8], Refusal> {
        Ok(match attribute {
            LayoutAttribute::CUBLASLT_MATRIX_LAYOUT_TYPE => bytes_of_mut(&mut self.dtype),
            LayoutAttribute::CUBLASLT_MATRIX_LAYOUT_ORDER => bytes_of_mut(&mut self.order),
            LayoutAttribute::CUBLASLT_MATRIX_LAYOUT_ROWS => bytes_of_mut(&mut self.rows),
            LayoutAttribute::CUBLASLT_MATRIX_LAYOUT_COLS => bytes_of_mut(&mut self.cols),
            LayoutAttribute::CUBLASLT_MATRIX_LAYOUT_LD => bytes_of_mut(&mut self.ld),
            LayoutAttribute::CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT => bytes_of_mut(&mut self.batch),
            LayoutAttribute::CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET => bytes_of_mut(&mut self.batch_stride),
            other => return Err(not_modelled(&other)),
        })
    }
}

/// `cublasLtMatmulPreference_t`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Preference {
    pub max_workspace: u64,
    /// `cublasLtReductionScheme_t`: the ways in which parts of a sum may meet. The stand-in knows one, in f32.
    pub reductions: u32,
    /// Promised alignment of A, B, C and D in bytes.
    pub alignment: [u32; 4],
}

impl Preference {
    /// The library's defaults.
    pub const fn new() -> Self {
        Self { max_workspace: 0, reductions: Reduction::CUBLASLT_REDUCTION_SCHEME_MASK as u32, alignment: [256; 4] }
    }

    fn attribute(&mut self, attribute: PreferenceAttribute) -> Result<&mut [u8], Refusal> {
        let [a, b, c, d] = &mut self.alignment;
        Ok(match attribute {
            PreferenceAttribute::CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES => bytes_of_mut(&mut self.max_workspace),
            PreferenceAttribute::CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK => bytes_of_mut(&mut self.reductions),
            PreferenceAttribute::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES => bytes_of_mut(a),
            PreferenceAttribute::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES => bytes_of_mut(b),
            PreferenceAttribute::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES => bytes_of_mut(c),
            PreferenceAttribute::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES => bytes_of_mut(d),
            other => return Err(not_modelled(&other)),
        })
    }
}

fn not_modelled(attribute: &dyn std::fmt::Debug) -> Refusal {
    Refusal::Unsupported(format!("{attribute:?} is not modelled"))
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cublasLtMatmulDescCreate(
    desc: *mut cublasLtMatmulDesc_t,
    compute: cublasComputeType_t,
    scale: cudaDataType_t,
) -> cublasStatus_t {
    let created = DESCS.create(MatmulDesc::new(compute as u32, scale as u32));
    // SAFETY: the caller vouches for its pointer.
    answer("cublasLtMatmulDescCreate", unsafe { put(desc, created) })
}

#[unsafe(no_mangle)]
extern "C" fn cublasLtMatmulDescDestroy(desc: cublasLtMatmulDesc_t) -> cublasStatus_t {
    answer("cublasLtMatmulDescDestroy", DESCS.destroy(desc).map(drop))
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cublasLtMatmulDescSetAttribute(
    desc: cublasLtMatmulDesc_t,
    attribute: DescAttribute,
    from: *const c_void,
    size: usize,
) -> cublasStatus_t {
    // SAFETY: the caller vouches for its pointer.
    let set = |desc: &mut MatmulDesc| unsafe { set_attribute(desc.attribute(attribute)?, from, size) };
    answer("cublasLtMatmulDescSetAttribute", DESCS.update(desc, set))
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cublasLtMatmulDescGetAttribute(
    desc: cublasLtMatmulDesc_t,
    attribute: DescAttribute,
    to: *mut c_void,
    size: usize,
    written: *mut usize,
) -> cublasStatus_t {
    // SAFETY: the caller vouches for its pointers.
    let get = |desc: &mut MatmulDesc| unsafe { get_attribute(desc.attribute(attribute)?, to, size, written) };
    answer("cublasLtMatmulDescGetAttribute", DESCS.update(desc, get))
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cublasLtMatrixLayoutCreate(
    layout: *mut cublasLtMatrixLayout_t,
    dtype: cudaDataType_t,
    rows: u64,
    cols: u64,
    ld: i64,
) -> cublasStatus_t {
    let created = LAYOUTS.create(Layout::new(dtype as u32, rows, cols, ld));
    // SAFETY: the caller vouches for its pointer.
    answer("cublasLtMatrixLayoutCreate", unsafe { put(layout, created) })
}

#[unsafe(no_mangle)]
extern "C" fn cublasLtMatrixLayoutDestroy(layout: cublasLtMatrixLayout_t) -> cublasStatus_t {
    answer("cublasLtMatrixLayoutDestroy", LAYOUTS.destroy(layout).map(drop))
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cublasLtMatrixLayoutSetAttribute(
    layout: cublasLtMatrixLayout_t,
    attribute: LayoutAttribute,
    from: *const c_void,
    size: usize,
) -> cublasStatus_t {
    // SAFETY: the caller vouches for its pointer.
    let set = |layout: &mut Layout| unsafe { set_attribute(layout.attribute(attribute)?, from, size) };
    answer("cublasLtMatrixLayoutSetAttribute", LAYOUTS.update(layout, set))
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cublasLtMatrixLayoutGetAttribute(
    layout: cublasLtMatrixLayout_t,
    attribute: LayoutAttribute,
    to: *mut c_void,
    size: usize,
    written: *mut usize,
) -> cublasStatus_t {
    // SAFETY: the caller vouches for its pointers.
    let get = |layout: &mut Layout| unsafe { get_attribute(layout.attribute(attribute)?, to, size, written) };
    answer("cublasLtMatrixLayoutGetAttribute", LAYOUTS.update(layout, get))
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cublasLtMatmulPreferenceCreate(preference: *mut cublasLtMatmulPreference_t) -> cublasStatus_t {
    let created = PREFERENCES.create(Preference::new());
    // SAFETY: the caller vouches for its pointer.
    answer("cublasLtMatmulPreferenceCreate", unsafe { put(preference, created) })
}

#[unsafe(no_mangle)]
extern "C" fn cublasLtMatmulPreferenceDestroy(preference: cublasLtMatmulPreference_t) -> cublasStatus_t {
    answer("cublasLtMatmulPreferenceDestroy", PREFERENCES.destroy(preference).map(drop))
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cublasLtMatmulPreferenceSetAttribute(
    preference: cublasLtMatmulPreference_t,
    attribute: PreferenceAttribute,
    from: *const c_void,
    size: usize,
) -> cublasStatus_t {
    // SAFETY: the caller vouches for its pointer.
    let set = |preference: &mut Preference| unsafe { set_attribute(preference.attribute(attribute)?, from, size) };
    answer("cublasLtMatmulPreferenceSetAttribute", PREFERENCES.update(preference, set))
}
