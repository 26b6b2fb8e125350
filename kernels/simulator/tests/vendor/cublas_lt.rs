//! cuBLASLt.

use std::fmt::Debug;
use std::sync::Arc;

use cudarc::cublaslt::{Activation, CudaBlasLT, Matmul, MatmulConfig, result, sys};
use cudarc::driver::sys::{CUgraphInstantiate_flags, CUstreamCaptureMode};
use cudarc::driver::{CudaContext, CudaStream, DeviceRepr};
use half::{bf16, f16};

use super::process::simulated;
use super::whole_numbers;

/// (5, 7) = (5, 3) (3, 7), the factors as they come.
const PLAIN: MatmulConfig = MatmulConfig {
    transa: false,
    transb: false,
    transc: false,
    m: 5,
    n: 7,
    k: 3,
    alpha: 1.0,
    lda: 5,
    ldb: 3,
    beta: 0.0,
    ldc: 5,
    stride_a: None,
    stride_b: None,
    stride_c: None,
    stride_bias: None,
    batch_size: None,
};

/// Compares a product of cudarc's with plain loops.
fn check<T: DeviceRepr + Copy + Debug + PartialEq>(
    stream: &Arc<CudaStream>,
    config: MatmulConfig,
    bias: bool,
    activation: Option<Activation>,
    new: fn(f32) -> T,
    get: fn(T) -> f32,
) where
    CudaBlasLT: Matmul<T>,
{
    let batch = config.batch_size.unwrap_or(1) as usize;
    let [m, n, k] = [config.m, config.n, config.k].map(|size| size as usize);
    let numbers = |len: usize, skip: usize| whole_numbers(len + skip).skip(skip).map(new).collect::<Vec<_>>();
    let [a, b, c] = [(m * k, 0), (k * n, 3), (m * n, 5)].map(|(len, skip)| numbers(batch * len, skip));
    let bias_values = numbers(m, 8);

    let handle = CudaBlasLT::new(stream.clone()).unwrap();
    let [a_device, b_device, mut c_device] = [&a, &b, &c].map(|values| stream.clone_htod(values).unwrap());
    let bias_device = bias.then(|| stream.clone_htod(&bias_values).unwrap());
    let operands = (&a_device, &b_device, &mut c_device);
    // SAFETY: the buffers are as large as the configuration says.
    unsafe { handle.matmul(config, operands.0, operands.1, operands.2, bias_device.as_ref(), activation.as_ref()) }
        .unwrap();

    let got = stream.clone_dtoh(&c_device).unwrap();
    for (index, got) in got.into_iter().enumerate() {
        let (item, j, i) = (index / m / n, index / m % n, index % m);
        let a = |l: usize| get(a[item * m * k + if config.transa { i * k + l } else { l * m + i }]);
        let b = |l: usize| get(b[item * k * n + if config.transb { l * n + j } else { j * k + l }]);
        let mut x = config.alpha * (0..k).map(|l| a(l) * b(l)).sum::<f32>() + config.beta * get(c[index]);
        if bias {
            x += get(bias_values[i]);
        }
        let expected = match activation {
            None => x,
            Some(Activation::Relu) => x.max(0.0),
            Some(Activation::Gelu) => {
                0.5 * x * (1.0 + ((2.0 / std::f32::consts::PI).sqrt() * (x + 0.044715 * x.powi(3))).tanh())
            }
        };
        assert!((get(got) - expected).abs() <= 1e-6 * x.abs(), "{index}: {got:?}, expected {expected}");
    }
}

#[test]
fn products_with_epilogues() {
    let Some(report) = simulated("cublas_lt::products_with_epilogues", &[], || {
        let stream = CudaContext::new(0).unwrap().new_stream().unwrap();
        let transposed = MatmulConfig { transa: true, lda: 3, transb: true, ldb: 7, ..PLAIN };
        let batch = MatmulConfig {
            stride_a: Some(15),
            stride_b: Some(21),
            stride_c: Some(35),
            batch_size: Some(3),
            beta: 1.0,
            ..PLAIN
        };
        for config in [PLAIN, transposed, batch, MatmulConfig { alpha: 2.0, beta: -1.0, ..PLAIN }] {
            for bias in [false, true] {
                for activation in [None, Some(Activation::Relu)] {
                    check(&stream, config, bias, activation.clone(), |x| x, |x: f32| x);
                    check(&stream, config, bias, activation.clone(), f16::from_f32, f16::to_f32);
                    check(&stream, config, bias, activation, bf16::from_f32, bf16::to_f32);
                }
                check(&stream, config, bias, Some(Activation::Gelu), |x| x, |x: f32| x);
            }
        }
    }) else {
        return;
    };
    report.assert_clean();
}

#[test]
fn a_captured_product_runs_at_every_launch() {
    let Some(report) = simulated("cublas_lt::a_captured_product_runs_at_every_launch", &[], || {
        let context = CudaContext::new(0).unwrap();
        // SAFETY: one stream only.
        unsafe { context.disable_event_tracking() };
        let stream = context.new_stream().unwrap();
        let handle = CudaBlasLT::new(stream.clone()).unwrap();
        let (a, b) = (stream.clone_htod(&[1f32; 15]).unwrap(), stream.clone_htod(&[2f32; 21]).unwrap());
        let mut c = stream.alloc_zeros::<f32>(35).unwrap();
        let config = MatmulConfig { beta: 1.0, ..PLAIN };
        stream.begin_capture(CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_GLOBAL).unwrap();
        // SAFETY: the buffers are as large as the configuration says.
        unsafe { handle.matmul(config, &a, &b, &mut c, None, None) }.unwrap();
        let graph = stream.end_capture(CUgraphInstantiate_flags(0)).unwrap().unwrap();
        assert_eq!(stream.clone_dtoh(&c).unwrap(), [0.0; 35]);
        graph.launch().unwrap();
        graph.launch().unwrap();
        assert_eq!(stream.clone_dtoh(&c).unwrap(), [12.0; 35]);
    }) else {
        return;
    };
    report.assert_clean();
}

#[test]
fn a_factor_that_nothing_wrote_is_found() {
    let Some(report) = simulated("cublas_lt::a_factor_that_nothing_wrote_is_found", &[], || {
        let stream = CudaContext::new(0).unwrap().new_stream().unwrap();
        let handle = CudaBlasLT::new(stream.clone()).unwrap();
        let a = stream.clone_htod(&[1f32; 15]).unwrap();
        // SAFETY: what is wrong here is that nothing writes it.
        let b = unsafe { stream.alloc::<f32>(21) }.unwrap();
        let mut c = stream.alloc_zeros::<f32>(35).unwrap();
        // SAFETY: the buffers are as large as the configuration says.
        let _ = unsafe { handle.matmul(PLAIN, &a, &b, &mut c, None, None) };
    }) else {
        return;
    };
    report.assert_finds("uninitialized", &["cublasLtMatmul"]);
}

#[test]
fn attributes_are_kept_and_refusals_say_why() {
    let Some(report) = simulated("cublas_lt::attributes_are_kept_and_refusals_say_why", &[], || {
        let layout = result::create_matrix_layout(sys::cudaDataType_t::CUDA_R_16BF, 5, 7, 8).unwrap();
        let attribute = sys::cublasLtMatrixLayoutAttribute_t::CUBLASLT_MATRIX_LAYOUT_LD;
        let (mut ld, mut written) = (0i64, 0);
        let room = (&raw mut ld).cast();
        // SAFETY: room for an i64 and a size.
        let get =
            |size, written| unsafe { sys::cublasLtMatrixLayoutGetAttribute(layout, attribute, room, size, written) };
        assert_eq!(get(0, &mut written), sys::cublasStatus_t::CUBLAS_STATUS_SUCCESS);
        assert_eq!((ld, written), (0, 8));
        assert_eq!(get(8, &mut written), sys::cublasStatus_t::CUBLAS_STATUS_SUCCESS);
        assert_eq!(ld, 8);
        assert_eq!(get(4, &mut written), sys::cublasStatus_t::CUBLAS_STATUS_INVALID_VALUE);

        let mode = sys::cublasLtMatrixLayoutAttribute_t::CUBLASLT_MATRIX_LAYOUT_BATCH_MODE;
        // SAFETY: a live layout; the value is an i32.
        let set = |attribute, size| unsafe {
            result::set_matrix_layout_attribute(layout, attribute, (&raw const written).cast(), size)
        };
        assert_eq!(set(mode, 4).unwrap_err().0, sys::cublasStatus_t::CUBLAS_STATUS_NOT_SUPPORTED);
        assert_eq!(set(attribute, 4).unwrap_err().0, sys::cublasStatus_t::CUBLAS_STATUS_INVALID_VALUE);
        assert!(set(attribute, 8).is_ok());
        for alive in [true, false, false] {
            // SAFETY: the stand-in knows a dead handle.
            assert_eq!(unsafe { result::destroy_matrix_layout(layout) }.is_ok(), alive);
        }
        // SAFETY: no arguments.
        assert_eq!(unsafe { sys::cublasLtGetVersion() } / 10_000, 13);
    }) else {
        return;
    };
    report.assert_clean();
    let said = |line: &str| report.stderr.matches(line).count();
    assert_eq!(
        said("simulator: cublasLtMatrixLayoutSetAttribute: CUBLASLT_MATRIX_LAYOUT_BATCH_MODE is not modelled"),
        1
    );
    assert_eq!(said("simulator: cublasLtMatrixLayoutDestroy: 0x40 is not a matrix layout that lives"), 1);
}
