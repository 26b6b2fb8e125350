use mdetr_kernels::activation::Activation;
use mdetr_kernels::linear::Linear;
use mdetr_kernels::{Device, Tensor};

use crate::{Goldens, Record, check};

#[test]
fn linear() {
    let g = Goldens::ops();
    let get = |part: &str| g.get(&format!("linear.{part}"));
    let record = Record {
        inputs: vec![get("in.x"), get("in.w"), get("in.b")],
        outputs: vec![get("out0")],
        cotangents: vec![get("cotangent0")],
        grads: vec![Some(get("grad.x")), Some(get("grad.w")), Some(get("grad.b"))],
    };
    check("linear", &Linear { activation: Activation::None }, &record, 2e-6);
}

/// The epilogues, through a linear map that is the identity.
#[test]
fn activations() {
    let g = Goldens::ops();
    for (name, activation) in [
        ("relu", Activation::Relu),
        ("gelu", Activation::Gelu),
        ("sigmoid", Activation::Sigmoid),
        ("tanh", Activation::Tanh),
    ] {
        let get = |part: &str| {
            let t = g.get(&format!("{name}.{part}"));
            t.reshape(&[t.len(), 1])
        };
        let record = Record {
            inputs: vec![
                get("in.x"),
                Tensor::from_slice(&[1.0f64], &[1, 1], Device::Cpu),
                Tensor::from_slice(&[0.0f64], &[1], Device::Cpu),
            ],
            outputs: vec![get("out0")],
            cotangents: vec![get("cotangent0")],
            grads: vec![Some(get("grad.x")), None, None],
        };
        check(name, &Linear { activation }, &record, 2e-6);
    }
}
