use mdetr_kernels::activation::Activation;
use mdetr_kernels::group_norm::GroupNorm;

use crate::{Goldens, Record, channels_last, check};

#[test]
fn group_norm() {
    let g = Goldens::ops();
    let get = |part: &str| g.get(&format!("groupnorm8.{part}"));
    let image = |part: &str| channels_last(&get(part));
    let record = Record {
        inputs: vec![image("in.x"), get("in.w"), get("in.b")],
        outputs: vec![image("out0")],
        cotangents: vec![image("cotangent0")],
        grads: vec![Some(image("grad.x")), Some(get("grad.w")), Some(get("grad.b"))],
    };
    check("groupnorm8", &GroupNorm { groups: 8, eps: 1e-5, activation: Activation::None }, &record, 2e-6);
}
