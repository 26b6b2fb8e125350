use mdetr_kernels::activation::Activation;
use mdetr_kernels::conv2d::{Conv2d, ConvGeometry};
use mdetr_kernels::{Device, Tensor};

use crate::{Goldens, Record, channels_last, check};

#[test]
fn conv2d() {
    let g = Goldens::ops();
    for (name, stride, padding, dilation) in [
        ("conv1x1", 1, 0, 1),
        ("conv1x1_s2", 2, 0, 1),
        ("conv3x3", 1, 1, 1),
        ("conv3x3_s2", 2, 1, 1),
        ("conv3x3_dil2", 1, 2, 2),
        ("conv7x7_s2", 2, 3, 1),
    ] {
        let get = |part: &str| g.get(&format!("{name}.{part}"));
        let image = |part: &str| channels_last(&get(part));
        let geometry = ConvGeometry { stride, padding, dilation };
        let op = Conv2d { geometry, scale: false, bias: true, residual: false, activation: Activation::None };
        let record = Record {
            inputs: vec![image("in.x"), image("in.w"), get("in.b")],
            outputs: vec![image("out0")],
            cotangents: vec![image("cotangent0")],
            grads: vec![Some(image("grad.x")), Some(image("grad.w")), Some(get("grad.b"))],
        };
        check(name, &op, &record, 2e-6);
    }
}

/// Scale and bias, behind a convolution that is the identity.
#[test]
fn frozen_batch_norm() {
    let g = Goldens::ops();
    let get = |part: &str| g.get(&format!("frozen_bn.{part}"));
    let values = |part: &str| get(part).to_f64_vec();
    let scale: Vec<f64> =
        values("in._weight").iter().zip(values("in._var")).map(|(w, var)| w / (var + 1e-5).sqrt()).collect();
    let bias: Vec<f64> =
        values("in._bias").iter().zip(values("in._mean")).zip(&scale).map(|((b, mean), s)| b - mean * s).collect();
    let c = scale.len();
    let identity: Vec<f64> = (0..c * c).map(|i| if i / c == i % c { 1.0 } else { 0.0 }).collect();
    let geometry = ConvGeometry::default();
    let op = Conv2d { geometry, scale: true, bias: true, residual: false, activation: Activation::None };
    let record = Record {
        inputs: vec![
            channels_last(&get("in.x")),
            Tensor::from_slice(&identity, &[c, 1, 1, c], Device::Cpu),
            Tensor::from_slice(&scale, &[c], Device::Cpu),
            Tensor::from_slice(&bias, &[c], Device::Cpu),
        ],
        outputs: vec![channels_last(&get("out0"))],
        cotangents: vec![channels_last(&get("cotangent0"))],
        grads: vec![Some(channels_last(&get("grad.x"))), None, None, None],
    };
    check("frozen_bn", &op, &record, 2e-6);
}
