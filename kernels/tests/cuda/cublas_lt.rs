//! Plans of matrix products: made once, apart where addresses or precision differ; and a library that is not there.

use mdetr_kernels::activation::Activation;
use mdetr_kernels::cuda::Cuda;
use mdetr_kernels::cuda_memory::Alloc;
use mdetr_kernels::linear::Linear;
use mdetr_kernels::{Cx, DType, Device, GradSlot, Op, Tensor};

/// x (64, 3), rows 1 to 4 of a packed w (5, 3), b (4): forward and the gradient of w, a long sum for which the simulated
/// library wants a workspace.
fn step(cuda: &'static Cuda, dtype: DType) {
    let device = Device::Cuda(cuda);
    let ones = |shape: &[usize], dtype: DType| {
        let host = Tensor::from_slice(&vec![1f32; shape.iter().product()], shape, Device::Cpu);
        host.to_dtype(dtype).to_device(device)
    };
    let (x, w, b) = (ones(&[64, 3], dtype), ones(&[5, 3], dtype).slice(1..5), ones(&[4], DType::F32));
    let op = Linear { activation: Activation::None };
    let mut cx = Cx::new(device, true, true, 0, 0);
    let outputs = op.forward(&mut cx, &[&x, &w, &b]);
    assert_eq!(outputs.tensors[0].to_f64_vec(), vec![4.0; 64 * 4]);
    let mut dw = Tensor::empty(&[4, 3], dtype, device);
    let mut slots = [GradSlot::Skip, GradSlot::Write(dw.view_mut()), GradSlot::Skip];
    op.backward(&mut cx, outputs.saved, &[Some(&outputs.tensors[0])], &mut slots);
    assert_eq!(dw.to_f64_vec(), vec![256.0; 4 * 3]);
    cuda.check().unwrap();
}

#[test]
fn plans_are_made_once() {
    super::on_gpu("cublas_lt::plans_are_made_once", |cuda| {
        assert_eq!(cuda.product_answers().len(), 0);
        for (dtype, plans) in [(DType::F32, 2), (DType::F32, 2), (DType::F16, 4), (DType::BF16, 6), (DType::F16, 6)] {
            step(cuda, dtype);
            assert_eq!(cuda.product_answers().len(), plans, "{dtype:?}");
        }
        cuda.allow_tf32(true);
        step(cuda, DType::BF16);
        assert_eq!(cuda.product_answers().len(), 6);
        step(cuda, DType::F32);
        assert_eq!(cuda.product_answers().len(), 8);
        assert_eq!(cuda.usage().step, 0);
    });
}

#[test]
fn a_second_step_allocates_nothing() {
    super::on_gpu("cublas_lt::a_second_step_allocates_nothing", |cuda| {
        let arena = Cuda::open(cuda.ordinal(), Alloc::Arena).unwrap();
        step(arena, DType::F16);
        let usage = arena.usage();
        step(arena, DType::F16);
        assert_eq!(arena.usage(), usage);
        arena.release();
        arena.synchronize().unwrap();
    });
}

#[test]
fn a_missing_library_is_an_error() {
    const NAME: &str = "cublas_lt::a_missing_library_is_an_error";
    if super::is_real() {
        return;
    }
    let report = super::process::simulated(NAME, &[super::CACHE, (super::process::WITHOUT, "cublasLt")], || {
        let cuda = Cuda::open(0, Alloc::Each).unwrap();
        cuda.choose("gemm", Some("naive"));
        step(cuda, DType::F32);
        cuda.choose("gemm", None);
        let x = Tensor::zeros(&[2, 2], DType::F32, Device::Cuda(cuda));
        let b = Tensor::zeros(&[2], DType::F32, Device::Cuda(cuda));
        let mut cx = Cx::new(Device::Cuda(cuda), false, false, 0, 0);
        Linear { activation: Activation::None }.forward(&mut cx, &[&x, &x, &b]);
        let error = cuda.check().unwrap_err().to_string();
        assert!(error.contains("libcublasLt.so is not found"), "{error}");
    });
    report.iter().for_each(super::process::Report::assert_clean);
}
