use mdetr_kernels::soft_token_loss::SoftTokenLoss;
use mdetr_kernels::{Device, Tensor};

use crate::{Goldens, Record, check};

fn floats(values: Vec<f64>, shape: &[usize]) -> Tensor {
    Tensor::from_slice(&values, shape, Device::Cpu)
}

/// Cross entropy of n rows as n decoder layers of one query. Layer i matches target i alone, whose positive map is one-hot at
/// the class, or empty where the recorded loss ignores the row (class -100).
#[test]
fn matched() {
    let g = Goldens::ops();
    let get = |part: &str| g.get(&format!("cross_entropy_none.{part}"));
    let (x, t) = (get("in.x"), get("in.t"));
    let [n, k] = [x.shape()[0], x.shape()[1]];
    let map = t.to_f64_vec().into_iter().flat_map(|t| (0..k).map(move |c| f64::from(c as f64 == t))).collect();
    let matches: Vec<i32> = (0..n * n).map(|at| if at / n == at % n { 0 } else { -1 }).collect();
    let record = Record {
        inputs: vec![
            x.reshape(&[n, 1, 1, k]),
            floats(map, &[n, k]),
            Tensor::from_slice(&matches, &[n, n], Device::Cpu),
            Tensor::from_slice(&vec![0; n], &[n], Device::Cpu),
            floats(vec![1.0], &[1]),
        ],
        outputs: vec![get("out0")],
        cotangents: vec![get("cotangent0"), floats(vec![0.0; n], &[n])],
        grads: vec![Some(get("grad.x").reshape(&[n, 1, 1, k])), None, None, None, None],
    };
    check("cross_entropy_none", &SoftTokenLoss { eos_coef: 0.1 }, &record, 2e-6);
}

/// The same without targets: the class's column changes place with the last, "no object", one. An image has one query and no
/// target, so the cardinality error is 1 where the argmax is not the class.
#[test]
fn unmatched() {
    let g = Goldens::ops();
    let get = |part: &str| g.get(&format!("cross_entropy_none.{part}"));
    let (k, classes) = (get("in.x").last_axis(), get("in.t").to_f64_vec());
    let counted = |values: Vec<f64>| -> Vec<f64> {
        values.into_iter().zip(&classes).filter(|(_, class)| **class >= 0.0).map(|(v, _)| v).collect()
    };
    let class_last = |x: Tensor| -> Vec<f64> {
        let mut values = x.to_f64_vec();
        let rows = values.chunks_mut(k).zip(&classes).filter(|(_, class)| **class >= 0.0);
        rows.flat_map(|(row, &class)| {
            row.swap(class as usize, k - 1);
            row.to_vec()
        })
        .collect()
    };
    let n = counted(classes.clone()).len();
    let wrong = |row: &[f64]| f64::from(row[..k - 1].iter().any(|&x| x > row[k - 1]));
    let record = Record {
        inputs: vec![
            floats(class_last(get("in.x")), &[n, 1, 1, k]),
            floats(vec![], &[0, k]),
            Tensor::from_slice(&[0i32; 0], &[n, 0], Device::Cpu),
            Tensor::from_slice(&[0i32; 0], &[0], Device::Cpu),
            floats(vec![2.0], &[1]),
        ],
        // eos_coef / num_boxes is 1.
        outputs: vec![
            floats(counted(get("out0").to_f64_vec()), &[n]),
            floats(class_last(get("in.x")).chunks(k).map(wrong).collect(), &[n]),
        ],
        cotangents: vec![floats(counted(get("cotangent0").to_f64_vec()), &[n]), floats(vec![0.0; n], &[n])],
        grads: vec![Some(floats(class_last(get("grad.x")), &[n, 1, 1, k])), None, None, None, None],
    };
    check("cross_entropy_none", &SoftTokenLoss { eos_coef: 2.0 }, &record, 2e-6);
}
