//! The set loss where numbers or gradients are missing.

use mdetr_kernels::box_loss::BoxLoss;
use mdetr_kernels::case::{Input, Values};
use mdetr_kernels::op::{Cx, GradSlot, Op};
use mdetr_kernels::soft_token_loss::SoftTokenLoss;
use mdetr_kernels::{DType, Device, Tensor};

use crate::on_gpu;

/// Of the first of two layers of two queries: one target, matched with query 1 there and with query 0 in the other layer.
fn matching(device: Device) -> [Tensor; 3] {
    [
        Tensor::from_slice(&[1, 0], &[2, 1], device),
        Tensor::from_slice(&[0], &[1], device),
        Tensor::from_slice(&[1.0f32], &[1], device),
    ]
}

#[test]
fn a_nan_stays_in_its_layer() {
    on_gpu("set_loss::a_nan_stays_in_its_layer", |cuda| {
        let device = Device::Cuda(cuda);
        let mut logits = Input::new("", &[2, 1, 2, 5], Values::Normal(1.0)).tensor(DType::F32, 1);
        logits.as_mut_slice::<f32>()[3] = f32::NAN;
        let logits = logits.to_device(device);
        let positive_map = Tensor::from_slice(&[1.0f32, 1.0, 0.0, 0.0, 0.0], &[1, 5], device);
        let [matches, image_of_target, num_boxes] = matching(device);
        let inputs = [&logits, &positive_map, &matches, &image_of_target, &num_boxes];
        let outputs = SoftTokenLoss { eos_coef: 0.1 }.forward(&mut Cx::new(device, false, true, 0, 0), &inputs);
        let loss = outputs.tensors[0].to_f64_vec();
        assert!(loss[0].is_nan() && loss[1].is_finite(), "losses {loss:?}");
    });
}

/// A loss that nobody differentiates adds nothing to the gradient.
#[test]
fn without_one_of_two_gradients() {
    on_gpu("set_loss::without_one_of_two_gradients", |cuda| {
        let gradient = |device: Device, given: [bool; 2]| {
            let make =
                |shape: &[usize], seed| Input::new("", shape, Values::Uniform(0.2, 0.8)).tensor(DType::F32, seed);
            let (boxes, targets) = (make(&[2, 1, 2, 4], 1).to_device(device), make(&[1, 4], 2).to_device(device));
            let [matches, image_of_target, num_boxes] = matching(device);
            let inputs = [&boxes, &targets, &matches, &image_of_target, &num_boxes];
            let mut cx = Cx::new(device, false, true, 0, 0);
            let saved = BoxLoss.forward(&mut cx, &inputs).saved;
            let grad_out = Tensor::from_slice(&[1.0f32, 2.0], &[2], device);
            let mut dboxes = Tensor::empty(boxes.shape(), DType::F32, device);
            let mut slots = [GradSlot::Write(dboxes.view_mut())];
            BoxLoss.backward(&mut cx, saved, &given.map(|given| given.then_some(&grad_out)), &mut slots);
            drop(slots);
            dboxes.to_f64_vec()
        };
        for given in [[true, false], [false, true], [false, false]] {
            let (got, want) = (gradient(Device::Cuda(cuda), given), gradient(Device::Cpu, given));
            let worst = got.iter().zip(&want).map(|(g, w)| (g - w).abs()).fold(0.0, f64::max);
            assert!(worst < 1e-5 && got.iter().all(|g| g.is_finite()), "{given:?}: {got:?}, {want:?}");
        }
    });
}
