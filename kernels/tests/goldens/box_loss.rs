use mdetr_kernels::box_loss::BoxLoss;
use mdetr_kernels::{Device, Tensor};

use crate::{Goldens, Record, check};

fn floats(values: Vec<f64>, shape: &[usize]) -> Tensor {
    Tensor::from_slice(&values, shape, Device::Cpu)
}

/// n predictions against n targets as n decoder layers of one query: layer i matches target i alone.
fn record(boxes: &Tensor, targets: &Tensor) -> Record {
    let n = targets.shape()[0];
    let matches: Vec<i32> = (0..n * n).map(|at| if at / n == at % n { 0 } else { -1 }).collect();
    Record {
        inputs: vec![
            boxes.reshape(&[n, 1, 1, 4]),
            targets.clone(),
            Tensor::from_slice(&matches, &[n, n], Device::Cpu),
            Tensor::from_slice(&vec![0; n], &[n], Device::Cpu),
            floats(vec![1.0], &[1]),
        ],
        outputs: Vec::new(),
        cotangents: Vec::new(),
        grads: Vec::new(),
    }
}

fn negated(t: &Tensor) -> Vec<f64> {
    t.to_f64_vec().into_iter().map(|v| -v).collect()
}

/// Generalized IoU, and its gradient by either box.
#[test]
fn giou() {
    let g = Goldens::ops();
    let get = |part: &str| g.get(&format!("giou_diag.{part}"));
    for (prediction, target) in [("a", "b"), ("b", "a")] {
        let (a, b) = (get(&format!("in.{prediction}")), get(&format!("in.{target}")));
        let n = a.shape()[0];
        let l1: Vec<f64> = (0..n)
            .map(|i| (0..4).map(|j| (a.to_f64_vec()[i * 4 + j] - b.to_f64_vec()[i * 4 + j]).abs()).sum())
            .collect();
        let loss = get("out0").to_f64_vec().into_iter().map(|v| 1.0 - v).collect();
        let record = Record {
            outputs: vec![floats(l1, &[n]), floats(loss, &[n])],
            cotangents: vec![floats(vec![0.0; n], &[n]), floats(negated(&get("cotangent0")), &[n])],
            grads: vec![Some(get(&format!("grad.{prediction}")).reshape(&[n, 1, 1, 4])), None, None, None, None],
            ..record(&a, &b)
        };
        check("giou_diag", &BoxLoss, &record, 4e-6);
    }
}

/// |x - t| of centres, with equal ones among them.
#[test]
fn l1() {
    let g = Goldens::ops();
    let get = |part: &str| g.get(&format!("l1_none.{part}")).to_f64_vec();
    let n = get("in.x").len();
    // cx is x, the rest of the box is the same on both sides: (0, 1, 1).
    let boxes = |cx: Vec<f64>| floats(cx.into_iter().flat_map(|x| [x, 0.0, 1.0, 1.0]).collect(), &[n, 4]);
    let record = Record {
        outputs: vec![floats(get("out0"), &[n])],
        cotangents: vec![floats(get("cotangent0"), &[n]), floats(vec![0.0; n], &[n])],
        grads: vec![
            Some(floats(get("grad.x").into_iter().flat_map(|d| [d, 0.0, 0.0, 0.0]).collect(), &[n, 1, 1, 4])),
            None,
            None,
            None,
            None,
        ],
        ..record(&boxes(get("in.x")), &boxes(get("in.t")))
    };
    check("l1_none", &BoxLoss, &record, 2e-6);
}
