//! Every reference (and fast version) against recorded operators of PyTorch: `tests/goldens/ops`, one module an op.

mod assignment;
mod attention;
mod box_loss;
mod conv2d;
mod embedding;
mod group_norm;
mod l2_normalize;
mod layer_norm;
mod linear;
mod max_pool;
mod optimizer_step;
mod position_sine;
mod soft_token_loss;

#[path = "../common/matcher.rs"]
mod matcher;
#[path = "../common/goldens.rs"]
mod recorded;

use mdetr_kernels::op::{Cx, GradSlot, Op};
use mdetr_kernels::{DType, Device, Tensor};
pub use recorded::{Goldens, golden_path};

impl Goldens {
    /// `ops/ops.safetensors`.
    pub fn ops() -> Self {
        Self::open("ops/ops.safetensors")
    }
}

/// Recorded gradients under a permutation of axes: (n, c, h, w) -> (n, h, w, c). Also turns filters (o, i, h, w) into
/// (o, h, w, i).
pub fn channels_last(t: &Tensor) -> Tensor {
    let &[n, c, h, w] = t.shape() else { panic!("channels_last: {:?}", t.shape()) };
    let values = t.to_f64_vec();
    let at = |i: usize| {
        let (n, y, x, c_) = (i / (h * w * c), i / (w * c) % h, i / c % w, i % c);
        values[((n * c + c_) * h + y) * w + x]
    };
    Tensor::from_slice(&(0..n * h * w * c).map(at).collect::<Vec<_>>(), &[n, h, w, c], Device::Cpu)
}

/// One recorded call.
pub struct Record {
    /// Inputs in the op's order.
    pub inputs: Vec<Tensor>,
    /// Expected outputs.
    pub outputs: Vec<Tensor>,
    /// Gradients fed into the outputs.
    pub cotangents: Vec<Tensor>,
    /// Expected gradients of the inputs; `None` where none was recorded.
    pub grads: Vec<Option<Tensor>>,
}

/// Runs an op on a record in f64 (the reference) and f32 (the fast version) and compares outputs and gradients.
/// Recorded values are f32 results, so both are held to f32 rounding: `tolerance` relative to the largest magnitude.
#[track_caller]
pub fn check(name: &str, op: &dyn Op, record: &Record, tolerance: f64) {
    for dtype in [DType::F64, DType::F32] {
        let cast = |t: &Tensor| if t.dtype().is_float() { t.to_dtype(dtype) } else { t.clone() };
        let inputs: Vec<Tensor> = record.inputs.iter().map(cast).collect();
        let mut cx = Cx::new(Device::Cpu, false, true, 0, 0);
        let outputs = op.forward(&mut cx, &inputs.iter().collect::<Vec<_>>());
        for (i, (got, want)) in outputs.tensors.iter().zip(&record.outputs).enumerate() {
            assert_close(&format!("{name} {dtype:?} output {i}"), got, want, tolerance);
        }
        let cotangents: Vec<Tensor> = record.cotangents.iter().map(cast).collect();
        let mut grads: Vec<Option<Tensor>> =
            record.grads.iter().map(|g| g.as_ref().map(|g| Tensor::zeros(g.shape(), dtype, Device::Cpu))).collect();
        let mut slots: Vec<GradSlot> =
            grads.iter_mut().map(|g| g.as_mut().map_or(GradSlot::Skip, |g| GradSlot::Write(g.view_mut()))).collect();
        op.backward(&mut cx, outputs.saved, &cotangents.iter().map(Some).collect::<Vec<_>>(), &mut slots);
        drop(slots);
        for (i, (got, want)) in grads.iter().zip(&record.grads).enumerate() {
            if let (Some(got), Some(want)) = (got, want) {
                assert_close(&format!("{name} {dtype:?} gradient {i}"), got, want, tolerance);
            }
        }
    }
}

/// Compares with a tolerance relative to the largest recorded magnitude.
#[track_caller]
pub fn assert_close(what: &str, got: &Tensor, want: &Tensor, tolerance: f64) {
    assert_eq!(got.shape(), want.shape(), "{what}: shapes");
    let (got, want) = (got.to_f64_vec(), want.to_f64_vec());
    let scale = want.iter().fold(1e-6f64, |m, v| m.max(v.abs()));
    let worst = got.iter().zip(&want).map(|(g, w)| (g - w).abs()).fold(0.0, f64::max);
    assert!(worst <= tolerance * scale, "{what}: off by {worst:.2e} of {scale:.2e}");
    assert!(got.iter().all(|v| v.is_finite()), "{what}: not finite");
}
