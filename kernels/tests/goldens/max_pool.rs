use mdetr_kernels::max_pool::MaxPool;

use crate::{Goldens, Record, channels_last, check};

#[test]
fn max_pool() {
    let g = Goldens::ops();
    let image = |part: &str| channels_last(&g.get(&format!("maxpool3s2p1.{part}")));
    let record = Record {
        inputs: vec![image("in.x")],
        outputs: vec![image("out0")],
        cotangents: vec![image("cotangent0")],
        grads: vec![Some(image("grad.x"))],
    };
    check("maxpool3s2p1", &MaxPool { kernel: 3, stride: 2, padding: 1 }, &record, 0.0);
}
