use mdetr_kernels::l2_normalize::L2Normalize;

use crate::{Goldens, Record, check};

/// A row at a time: the gradients of the zero row and of the tiny one are larger than the others by 1e12.
#[test]
fn l2_normalize() {
    let g = Goldens::ops();
    for row in 0..5 {
        let get = |part: &str| g.get(&format!("normalize_l2.{part}")).slice(row..row + 1);
        let record = Record {
            inputs: vec![get("in.x")],
            outputs: vec![get("out0")],
            cotangents: vec![get("cotangent0")],
            grads: vec![Some(get("grad.x"))],
        };
        check(&format!("normalize_l2 row {row}"), &L2Normalize, &record, 1e-6);
    }
}
