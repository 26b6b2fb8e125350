//! What is refused, and why.

use cudarc::cublaslt::sys::{
    cublasComputeType_t as Compute, cublasLtEpilogue_t as Code, cublasLtMatmulAlgo_t, cublasStatus_t,
};

use super::{Case, PLAIN, Product};
use crate::cublas_lt::descriptor::Preference;
use crate::vendor::testing::refused;

/// Changes that make a sound product one that is refused.
type Change = fn(&mut Product);

#[test]
#[rustfmt::skip]
fn what_the_documentation_does_not_allow_is_refused() {
    let cases: [(bool, &str, Change); 24] = [
        (true, "op(A) is (5, 3)", |p| p.layouts[1].rows = 2),
        (true, "C is (5, 6)", |p| p.layouts[2].cols = 6),
        (true, "leading dimension is 4", |p| p.layouts[3].ld = 4),
        (true, "D is (0, 7)", |p| p.layouts[3].rows = 0),
        (true, "spans", |p| { p.layouts[0].batch = 2; p.layouts[0].batch_stride = i64::MAX }),
        (true, "B is a batch of 1", |p| p.layouts.iter_mut().step_by(3).for_each(|l| { l.batch = 2; l.batch_stride = 99 })),
        (true, "results overlap", |p| p.layouts.iter_mut().for_each(|l| { l.batch = 2; l.batch_stride = 34 })),
        (false, "order 1", |p| p.layouts[0].order = 1),
        (false, "operation 2 on B", |p| p.desc.trans_b = 2),
        (false, "C must not be transposed", |p| p.desc.trans_c = 1),
        (false, "no product of A f32, B f16", |p| p.layouts[1].dtype = 2),
        (false, "no product", |p| p.desc.compute = Compute::CUBLAS_COMPUTE_16F as u32),
        (false, "no product", |p| p.layouts.iter_mut().for_each(|l| l.dtype = 3)),
        (false, "pointer mode 2", |p| p.desc.pointer_mode = 2),
        (true, "no epilogue 3", |p| p.desc.epilogue = 3),
        (true, "needs a bias", |p| p.desc.epilogue = Code::CUBLASLT_EPILOGUE_BIAS as u32),
        (false, "bias must have the type of D, f32, it is f16", |p| {
            p.desc.epilogue = Code::CUBLASLT_EPILOGUE_BIAS as u32;
            p.desc.bias_type = 2;
        }),
        (true, "needs an auxiliary buffer", |p| p.desc.epilogue = Code::CUBLASLT_EPILOGUE_RELU_AUX as u32),
        (true, "expected a multiple of 128, at least 5", |p| {
            p.desc.epilogue = Code::CUBLASLT_EPILOGUE_RELU_AUX as u32;
            (p.desc.aux, p.desc.aux_ld) = (p.addresses[3], 8);
        }),
        (true, "expected a multiple of 8, at least 5", |p| {
            p.desc.epilogue = Code::CUBLASLT_EPILOGUE_GELU_AUX as u32;
            (p.desc.aux, p.desc.aux_ld) = (p.addresses[3], 12);
        }),
        (true, "A is null", |p| p.addresses[0] = 0),
        (true, "C is null", |p| p.addresses[2] = 0),
        (true, "B is not aligned to 4 bytes", |p| p.addresses[1] += 2),
        (true, "their layouts must be the same", |p| { p.addresses[2] = p.addresses[3]; p.layouts[2].ld = 6 }),
    ];
    for (invalid, reason, change) in cases {
        let mut product = Product::new(PLAIN);
        change(&mut product);
        refused(product.call(std::ptr::null()), invalid, reason);
    }
    let mut product = Product::new(Case { types: 5, ..PLAIN });
    product.desc.epilogue = Code::CUBLASLT_EPILOGUE_DGELU as u32;
    refused(product.call(std::ptr::null()), false, "f64 has no auxiliary and gradient epilogues");
    let mut product = Product::new(Case { batch: 2, epilogue: Code::CUBLASLT_EPILOGUE_BGRADA, ..PLAIN });
    product.desc.bias_stride = 0;
    refused(product.call(std::ptr::null()), true, "they overlap");
}

#[test]
fn algorithms_hold_what_they_were_chosen_for() {
    let mut product = Product::new(Case { sizes: [4, 4, 64], ..PLAIN });
    let algorithm = |product: &Product, max_workspace, alignment| {
        product.algorithm(Preference { max_workspace, alignment: [alignment; 4], ..Preference::new() }).unwrap()
    };
    assert_eq!(algorithm(&product, 0, 256).workspaceSize, 0);
    let split = algorithm(&product, 1 << 20, 256);
    assert_eq!(split.workspaceSize, 4 * 4 * 4 * 4);
    refused(product.call(&split.algo), true, "the algorithm needs 256");
    product.workspace = [product.memory.allocate(512, "workspace") + 16, 256];
    refused(product.call(&split.algo), true, "expected a multiple of 256");
    product.workspace[0] -= 16;
    let call = product.call(&split.algo).unwrap();
    assert_eq!(call.writes[1].row_bytes, 256);

    product.addresses[0] += 4;
    refused(product.call(&algorithm(&product, 0, 256).algo), true, "A is not aligned to 16 bytes");
    assert!(product.call(&algorithm(&product, 0, 4).algo).is_ok());
    product.addresses[0] -= 4;

    let mut other = Product::new(Case { types: 0, sizes: [4, 4, 64], ..PLAIN });
    other.workspace = product.workspace;
    refused(other.call(&split.algo), true, "chosen for other types");
    refused(other.call(&cublasLtMatmulAlgo_t { data: [0; 8] }), true, "does not come from");

    other.layouts[0].dtype = 3;
    assert_eq!(other.algorithm(Preference::new()), Err(cublasStatus_t::CUBLAS_STATUS_NOT_SUPPORTED));
    product.layouts[0].rows = 3;
    assert_eq!(product.algorithm(Preference::new()), Err(cublasStatus_t::CUBLAS_STATUS_INVALID_VALUE));
}
