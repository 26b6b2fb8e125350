use mdetr_kernels::embedding::Embedding;

use crate::{Goldens, Record, check};

#[test]
fn embedding() {
    let g = Goldens::ops();
    let get = |part: &str| g.get(&format!("embedding.{part}"));
    let record = Record {
        inputs: vec![get("in.w"), get("in.i")],
        outputs: vec![get("out0")],
        cotangents: vec![get("cotangent0")],
        grads: vec![Some(get("grad.w")), None],
    };
    check("embedding", &Embedding { padding_idx: Some(1) }, &record, 1e-6);
}
