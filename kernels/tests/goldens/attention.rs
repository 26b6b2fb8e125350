use mdetr_kernels::attention::Attention;
use mdetr_kernels::op::{Cx, GradSlot, Op};
use mdetr_kernels::{DType, Device, Segment, Tensor};

use crate::{Goldens, assert_close};

const BATCH: usize = 3;
const QUERIES: usize = 5;
const KEYS: usize = 7;
const C: usize = 16;
const HEADS: usize = 4;
/// Channels of a head, and of one that also carries [`KEYS`] channels for the weights (see [`widen`]).
const DIM: usize = C / HEADS;
const WIDE: usize = DIM + KEYS;

/// Rows of f64 numbers.
type Rows = Vec<Vec<f64>>;

/// x w^T + b.
fn linear(x: &Rows, w: &Rows, b: &[f64]) -> Rows {
    let dot = |x: &[f64], w: &[f64]| x.iter().zip(w).map(|(x, w)| x * w).sum::<f64>();
    x.iter().map(|x| w.iter().zip(b).map(|(w, b)| dot(x, w) + b).collect()).collect()
}

fn transpose(w: &Rows) -> Rows {
    (0..w[0].len()).map(|j| w.iter().map(|row| row[j]).collect()).collect()
}

fn rows(t: &Tensor) -> Rows {
    t.to_f64_vec().chunks(t.last_axis()).map(<[f64]>::to_vec).collect()
}

fn tensor(rows: &Rows) -> Tensor {
    Tensor::from_slice(&rows.concat(), &[rows.len(), rows[0].len()], Device::Cpu)
}

/// (L, B, C) as recorded -> (B L, C).
fn pack(t: &Tensor) -> Rows {
    let (x, length) = (rows(t), t.shape()[0]);
    (0..BATCH * length).map(|row| x[row % length * BATCH + row / length].clone()).collect()
}

/// Appends KEYS channels to every head: `extra(row)`, times a factor for the others.
fn widen(x: &Rows, factor: f64, extra: impl Fn(usize) -> Vec<f64>) -> Rows {
    let widen_row = |(row, x): (usize, &Vec<f64>)| {
        x.chunks(DIM).flat_map(|head| head.iter().map(|v| v * factor).chain(extra(row))).collect()
    };
    x.iter().enumerate().map(widen_row).collect()
}

/// Output and gradients of the op.
fn run(op: &Attention, inputs: &[Rows; 3], dy: &Rows, dtype: DType) -> (Rows, [Rows; 3]) {
    let inputs = inputs.each_ref().map(|x| tensor(x).to_dtype(dtype));
    let mut cx = Cx::new(Device::Cpu, false, true, 0, 0);
    let outputs = op.forward(&mut cx, &inputs.each_ref());
    let mut grads = inputs.each_ref().map(|x| Tensor::empty(x.shape(), dtype, Device::Cpu));
    let mut slots = grads.each_mut().map(|g| GradSlot::Write(g.view_mut()));
    op.backward(&mut cx, outputs.saved, &[Some(&tensor(dy).to_dtype(dtype))], &mut slots);
    (rows(&outputs.tensors[0]), grads.each_ref().map(rows))
}

/// The recorded module also returns the weights, averaged over heads, and got a gradient for them. Values that are
/// extended by the unit vector of their key make the weights a part of the op's output; zeros extend queries and keys,
/// and a factor undoes what the wider head does to the scale.
fn recorded_module(name: &str, valid: [usize; BATCH], dtype: DType) {
    let g = Goldens::ops();
    let get = |part: &str| g.get(&format!("{name}.{part}"));
    let (in_w, in_b) = (rows(&get("in.in_w")), get("in.in_b").to_f64_vec());
    let (out_w, out_b) = (rows(&get("in.out_w")), get("in.out_b").to_f64_vec());
    let project = |arg: &str, i: usize| {
        linear(&pack(&get(&format!("in.{arg}"))), &in_w[i * C..(i + 1) * C].to_vec(), &in_b[i * C..(i + 1) * C])
    };
    let factor = (WIDE as f64 / DIM as f64).sqrt();
    let zeros = |_| vec![0.0; KEYS];
    let unit = |row: usize| (0..KEYS).map(|j| f64::from(j == row % KEYS)).collect();
    let inputs = [
        widen(&project("q", 0), factor, zeros),
        widen(&project("k", 1), 1.0, zeros),
        widen(&project("v", 2), 1.0, unit),
    ];
    let segments =
        (0..BATCH).map(|b| Segment { query: b * QUERIES, queries: QUERIES, key: b * KEYS, keys: valid[b] }).collect();
    let op = Attention { heads: HEADS, segments, dropout: 0.0 };

    let weight_grads = rows(&get("cotangent1")); // (B Lq, Lk), of the mean over heads
    let dy = linear(&pack(&get("cotangent0")), &transpose(&out_w), &[0.0; C]);
    let dy = widen(&dy, 1.0, |row| weight_grads[row].iter().map(|g| g / HEADS as f64).collect());
    let (y, grads) = run(&op, &inputs, &dy, dtype);

    let attended: Rows =
        y.iter().map(|row| row.chunks(WIDE).flat_map(|head| head[..DIM].to_vec()).collect()).collect();
    let mean =
        |row: &Vec<f64>| (DIM..WIDE).map(|i| row.iter().skip(i).step_by(WIDE).sum::<f64>() / HEADS as f64).collect();
    let weights: Rows = y.iter().map(mean).collect();
    let out = linear(&attended, &out_w, &out_b);
    assert_close(&format!("{name} output"), &tensor(&out), &tensor(&pack(&get("out0"))), 2e-6);
    assert_close(&format!("{name} weights"), &tensor(&weights), &tensor(&rows(&get("out1"))), 2e-6);
    for (i, (arg, factor)) in [("q", factor), ("k", 1.0), ("v", 1.0)].into_iter().enumerate() {
        let narrow = |row: &Vec<f64>| row.chunks(WIDE).flat_map(|h| h[..DIM].iter().map(|v| v * factor)).collect();
        let grad: Rows = grads[i].iter().map(narrow).collect();
        let grad = linear(&grad, &transpose(&in_w[i * C..(i + 1) * C].to_vec()), &[0.0; C]);
        let recorded = tensor(&pack(&get(&format!("grad.{arg}"))));
        assert_close(&format!("{name} gradient of {arg}"), &tensor(&grad), &recorded, 2e-6);
    }
}

/// PyTorch's module with its projections, without and with a key padding mask (its valid keys come first).
#[test]
fn multi_head_attention() {
    for dtype in [DType::F64, DType::F32] {
        recorded_module("mha", [KEYS; BATCH], dtype);
        recorded_module("mha_masked", [5, 7, 1], dtype);
    }
}
