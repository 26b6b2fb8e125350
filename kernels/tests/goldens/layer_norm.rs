use mdetr_kernels::layer_norm::LayerNorm;

use crate::{Goldens, Record, check};

#[test]
fn layer_norm() {
    let g = Goldens::ops();
    for (name, eps) in [("layernorm_1e-5", 1e-5), ("layernorm_1e-12", 1e-12)] {
        let get = |part: &str| g.get(&format!("{name}.{part}"));
        let record = Record {
            inputs: vec![get("in.x"), get("in.w"), get("in.b")],
            outputs: vec![get("out0")],
            cotangents: vec![get("cotangent0")],
            grads: vec![Some(get("grad.x")), Some(get("grad.w")), Some(get("grad.b"))],
        };
        check(name, &LayerNorm { eps }, &record, 2e-6);
    }
}
