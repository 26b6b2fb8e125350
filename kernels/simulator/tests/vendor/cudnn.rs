//! cuDNN.

use std::fmt::Debug;
use std::sync::Arc;

use cudarc::cudnn::{
    ConvBackwardData, ConvBackwardFilter, ConvBiasActivationForward, ConvForward, Cudnn, CudnnDataType, result, sys,
};
use cudarc::driver::{CudaContext, CudaStream, DeviceRepr};
use half::{bf16, f16};

use super::process::simulated;
use super::whole_numbers;

const NHWC: sys::cudnnTensorFormat_t = sys::cudnnTensorFormat_t::CUDNN_TENSOR_NHWC;

/// Of x and w, and stride, pad and dilation of both axes: y is (2, 4, 3, 3).
const X: [i32; 4] = [2, 8, 5, 6];
const W: [i32; 4] = [4, 4, 3, 2];
const Y: [i32; 4] = [2, 4, 3, 3];
const GROUPS: i32 = 2;
const STRIDE: [i32; 2] = [2, 2];
const PAD: [i32; 2] = [1, 1];
const DILATION: [i32; 2] = [1, 2];

fn len(sizes: [i32; 4]) -> usize {
    sizes.iter().product::<i32>() as usize
}

/// The place of an element, channels last.
fn at([_, channels, height, width]: [i32; 4], [n, c, h, w]: [i32; 4]) -> usize {
    (((n * height + h) * width + w) * channels + c) as usize
}

/// Calls `visit` with the places in x, w and y of every product.
fn products(mut visit: impl FnMut(usize, usize, usize)) {
    let indices = |sizes: [i32; 4]| {
        let [_, b, c, d] = sizes;
        (0..len(sizes) as i32).map(move |i| [i / d / c / b, i / d / c % b, i / d % c, i % d])
    };
    for y in indices(Y) {
        for w in indices(W).filter(|w| w[0] == y[1]) {
            let [h, v] = [0, 1].map(|i| y[2 + i] * STRIDE[i] + w[2 + i] * DILATION[i] - PAD[i]);
            if (0..X[2]).contains(&h) && (0..X[3]).contains(&v) {
                let channel = y[1] / (Y[1] / GROUPS) * W[1] + w[1];
                visit(at(X, [y[0], channel, h, v]), at(W, w), at(Y, y));
            }
        }
    }
}

/// All passes of one type against plain loops.
fn check<T>(stream: &Arc<CudaStream>, new: fn(f32) -> T, get: fn(T) -> f32)
where
    T: DeviceRepr + CudnnDataType + Copy + Debug + PartialEq,
{
    let cudnn = Cudnn::new(stream.clone()).unwrap();
    let mode = sys::cudnnConvolutionMode_t::CUDNN_CROSS_CORRELATION;
    let mut conv = cudnn.create_conv2d::<f32>(PAD, STRIDE, DILATION, mode).unwrap();
    conv.set_group_count(GROUPS).unwrap();
    conv.set_math_type(sys::cudnnMathType_t::CUDNN_TENSOR_OP_MATH).unwrap();
    let [x_desc, y_desc, bias_desc] =
        [X, Y, [1, Y[1], 1, 1]].map(|sizes| cudnn.create_4d_tensor::<T>(NHWC, sizes).unwrap());
    let w_desc = cudnn.create_4d_filter::<T>(NHWC, W).unwrap();

    let numbers = |len: usize, skip: usize| whole_numbers(len + skip).skip(skip).map(new).collect::<Vec<_>>();
    let [x, w, y, bias] =
        [(len(X), 0), (len(W), 2), (len(Y), 5), (Y[1] as usize, 7)].map(|(len, skip)| numbers(len, skip));
    let upload = |values: &[T]| stream.clone_htod(values).unwrap();
    let (x_device, w_device, y_device, bias_device) = (upload(&x), upload(&w), upload(&y), upload(&bias));
    let [mut forward, mut data, mut filter] = [len(Y), len(X), len(W)].map(|len| vec![0.0; len]);
    products(|at_x, at_w, at_y| {
        forward[at_y] += get(x[at_x]) * get(w[at_w]);
        data[at_x] += get(y[at_y]) * get(w[at_w]);
        filter[at_w] += get(x[at_x]) * get(y[at_y]);
    });
    let compare = |name: &str, got: Vec<T>, expected: Vec<f32>| {
        assert_eq!(got, expected.into_iter().map(new).collect::<Vec<_>>(), "{name}");
    };
    let one = || new(1.0);

    let pass = ConvForward { conv: &conv, x: &x_desc, w: &w_desc, y: &y_desc };
    let algo = pass.pick_algorithm().unwrap();
    let mut workspace = stream.alloc_zeros::<u8>(pass.get_workspace_size(algo).unwrap()).unwrap();
    let mut out = upload(&y);
    // SAFETY: the buffers are as the descriptors say.
    unsafe { pass.launch(algo, Some(&mut workspace), (one(), new(2.0)), &x_device, &w_device, &mut out) }.unwrap();
    let expected = forward.iter().zip(&y).map(|(sum, &y)| sum + 2.0 * get(y)).collect();
    compare("forward", stream.clone_dtoh(&out).unwrap(), expected);

    let act = cudnn
        .create_activation::<T>(
            sys::cudnnActivationMode_t::CUDNN_ACTIVATION_RELU,
            sys::cudnnNanPropagation_t::CUDNN_NOT_PROPAGATE_NAN,
            0.0,
        )
        .unwrap();
    let pass = ConvBiasActivationForward {
        conv: &conv,
        act: &act,
        x: &x_desc,
        w: &w_desc,
        z: &y_desc,
        bias: &bias_desc,
        y: &y_desc,
    };
    // SAFETY: see above.
    unsafe {
        pass.launch(
            algo,
            Some(&mut workspace),
            (one(), one()),
            &x_device,
            &w_device,
            &y_device,
            &bias_device,
            &mut out,
        )
    }
    .unwrap();
    let fused = |(i, sum): (usize, &f32)| (sum + get(y[i]) + get(bias[i % bias.len()])).max(0.0);
    compare("fused", stream.clone_dtoh(&out).unwrap(), forward.iter().enumerate().map(fused).collect());

    let pass = ConvBackwardData { conv: &conv, dx: &x_desc, w: &w_desc, dy: &y_desc };
    let algo = pass.pick_algorithm().unwrap();
    let mut workspace = stream.alloc_zeros::<u8>(pass.get_workspace_size(algo).unwrap()).unwrap();
    // SAFETY: every element is written.
    let mut dx = unsafe { stream.alloc::<T>(len(X)) }.unwrap();
    // SAFETY: see above.
    unsafe { pass.launch(algo, Some(&mut workspace), (one(), new(0.0)), &mut dx, &w_device, &y_device) }.unwrap();
    compare("backward data", stream.clone_dtoh(&dx).unwrap(), data);

    let pass = ConvBackwardFilter { conv: &conv, x: &x_desc, dw: &w_desc, dy: &y_desc };
    let algo = pass.pick_algorithm().unwrap();
    let mut workspace = stream.alloc_zeros::<u8>(pass.get_workspace_size(algo).unwrap()).unwrap();
    // SAFETY: every element is written.
    let mut dw = unsafe { stream.alloc::<T>(len(W)) }.unwrap();
    // SAFETY: see above.
    unsafe { pass.launch(algo, Some(&mut workspace), (one(), new(0.0)), &x_device, &mut dw, &y_device) }.unwrap();
    compare("backward filter", stream.clone_dtoh(&dw).unwrap(), filter);
}

#[test]
fn convolutions_forward_and_backward() {
    let Some(report) = simulated("cudnn::convolutions_forward_and_backward", &[], || {
        result::version_check().unwrap();
        let stream = CudaContext::new(0).unwrap().new_stream().unwrap();
        check(&stream, |x| x, |x: f32| x);
        check(&stream, f16::from_f32, f16::to_f32);
        check(&stream, bf16::from_f32, bf16::to_f32);
    }) else {
        return;
    };
    report.assert_clean();
}

#[test]
fn what_is_not_modelled_is_refused() {
    let Some(report) = simulated("cudnn::what_is_not_modelled_is_refused", &[], || {
        let stream = CudaContext::new(0).unwrap().new_stream().unwrap();
        let mut descriptor = std::ptr::null_mut();
        // SAFETY: room for a descriptor.
        let status = unsafe {
            sys::cudnnBackendCreateDescriptor(
                sys::cudnnBackendDescriptorType_t::CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR,
                &mut descriptor,
            )
        };
        assert_eq!(status, sys::cudnnStatus_t::CUDNN_STATUS_NOT_SUPPORTED);

        let cudnn = Cudnn::new(stream).unwrap();
        let mode = sys::cudnnConvolutionMode_t::CUDNN_CROSS_CORRELATION;
        let [pads, ones] = [[0; 3], [1; 3]];
        let conv = cudnn.create_convnd::<f32>(&pads, &ones, &ones, mode).unwrap();
        let x = cudnn.create_nd_tensor::<f32>(&[1, 1, 2, 2, 2], &[8, 8, 4, 2, 1]).unwrap();
        let w = cudnn.create_5d_filter::<f32>(sys::cudnnTensorFormat_t::CUDNN_TENSOR_NCHW, [1, 1, 1, 1, 1]).unwrap();
        let pass = ConvForward { conv: &conv, x: &x, w: &w, y: &x };
        assert_eq!(pass.pick_algorithm().unwrap_err().0, sys::cudnnStatus_t::CUDNN_STATUS_NOT_SUPPORTED);
        let empty = cudnn.create_4d_tensor::<f32>(NHWC, [1, 0, 2, 2]).unwrap_err();
        assert_eq!(empty.0, sys::cudnnStatus_t::CUDNN_STATUS_BAD_PARAM);
    }) else {
        return;
    };
    report.assert_clean();
    for line in [
        "cudnnBackendCreateDescriptor: CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR: the graph API is not modelled",
        "cudnnGetConvolutionForwardAlgorithm_v7: 5 dimensions are not modelled, expected 4",
        "cudnnSetTensor4dDescriptor: a tensor of [1, 0, 2, 2]",
    ] {
        assert!(report.stderr.contains(&format!("simulator: {line}")), "{line}: {}", report.stderr);
    }
}
