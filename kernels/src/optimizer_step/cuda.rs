//! Launches of `optimizer_step.cu`.

use super::{Rule, StepOptions};
use crate::cuda::Cuda;
use crate::kernel_source::{KernelSource, ONLY_F32};
use crate::launch::Arg;
use crate::{DType, Device, Tensor, TensorMut, args, kernel_source};

/// The op's `.cu` files.
pub const KERNELS: &[KernelSource] = &[OPTIMIZER_STEP];

const OPTIMIZER_STEP: KernelSource = kernel_source!("optimizer_step", ONLY_F32);

/// Elements that a block updates.
const CHUNK: usize = 4096;

/// Numbers of a status: the gradients' norm before clipping, the loss scale that the step had, and the first update whose
/// gradient is not finite or -1.
pub const STATUS_LEN: usize = 3;

/// What a parameter's update needs on a GPU.
#[derive(Debug)]
pub struct DeviceUpdate<'a> {
    /// The master value, f32.
    pub value: &'a mut Tensor,
    /// Its copy in the compute dtype, f16 or bf16.
    pub copy: Option<&'a mut Tensor>,
    /// The moving average, f32.
    pub ema: Option<&'a mut Tensor>,
    /// `None` when the loss did not depend on it.
    pub gradient: Option<DeviceGradient<'a>>,
    /// Which learning rate it has.
    pub group: usize,
}

/// A parameter's gradient, times the loss scale, and its moments.
#[derive(Debug)]
pub struct DeviceGradient<'a> {
    /// f32, f16 or bf16.
    pub grad: &'a Tensor,
    /// The mean of the gradient, or SGD's sum; f32, 0 before the first update.
    pub m: &'a mut Tensor,
    /// The mean of its square, if the rule has it.
    pub v: Option<&'a mut Tensor>,
}

/// What the optimizer keeps on a GPU between steps.
#[derive(Debug)]
pub struct DeviceState {
    /// (4): `State` of `optimizer_step.cu`.
    state: Tensor,
    /// (P) i32: updates made of each parameter.
    steps: Tensor,
    scales_loss: bool,
    growth_interval: usize,
}

impl DeviceState {
    /// For this many parameters. `loss_scale` is doubled after `growth_interval` good steps and halved when a step is
    /// skipped, if there is one.
    pub fn new(cuda: &'static Cuda, parameters: usize, loss_scale: Option<f32>, growth_interval: usize) -> Self {
        let device = Device::Cuda(cuda);
        cuda.allocating_state(|| DeviceState {
            state: Tensor::from_slice(&[loss_scale.unwrap_or(1.0), 0.0, 0.0, 0.0], &[4], device),
            steps: Tensor::zeros(&[parameters], DType::I32, device),
            scales_loss: loss_scale.is_some(),
            growth_interval,
        })
    }

    /// The loss scale of the step that comes next, (): the gradient of the loss.
    pub fn loss_scale(&self) -> Tensor {
        self.state.slice(0..1).reshape(&[])
    }

    /// Updates made of each parameter. Waits for the device.
    pub fn steps(&self) -> Vec<i32> {
        self.steps.to_device(Device::Cpu).as_slice().to_vec()
    }

    /// The loss scale of the step that comes next, and the good steps since it last changed. Waits for the device.
    pub fn scale_and_good_steps(&self) -> (f32, u32) {
        let state = self.state.to_device(Device::Cpu);
        let words = state.as_slice::<f32>();
        (words[0], words[1].to_bits())
    }

    /// Goes on from what [`Self::steps`] and [`Self::scale_and_good_steps`] told.
    pub fn restore(&mut self, cuda: &'static Cuda, steps: &[i32], scale: f32, good_steps: u32) {
        let device = Device::Cuda(cuda);
        cuda.allocating_state(|| {
            self.steps = Tensor::from_slice(steps, &[steps.len()], device);
            self.state = Tensor::from_slice(&[scale, f32::from_bits(good_steps), 0.0, 0.0], &[4], device);
        });
    }
}

/// One optimizer step over all parameters, in three launches, without waiting. `updates` are always the same parameters in
/// the same order; `rates` (groups) f32 are the learning rates. A step with a gradient that is not finite touches nothing
/// but counters. `status` (3) f32 tells about it.
#[track_caller]
pub fn step_on_device(
    cuda: &'static Cuda,
    status: &mut TensorMut,
    updates: &mut [DeviceUpdate],
    state: &mut DeviceState,
    rates: &Tensor,
    weight_decay: f64,
    options: &StepOptions,
) {
    let count = updates.len();
    assert_eq!(state.steps.len(), count, "optimizer_step: {count} updates of {} parameters", state.steps.len());
    assert_eq!(status.shape(), [STATUS_LEN], "optimizer_step: a status of {:?}", status.shape());
    let mut table = Vec::with_capacity(count * UPDATE_WORDS);
    let mut blocks = 0;
    for update in updates {
        let len = update.value.len();
        table.extend(row(update, blocks));
        blocks += len.div_ceil(CHUNK);
    }
    let device = Device::Cuda(cuda);
    let table = Tensor::from_slice::<i32>(bytemuck::cast_slice(&table), &[count, 2 * UPDATE_WORDS], device);
    let mut squares = Tensor::empty(&[blocks, 2], DType::F32, device); // f64 a block
    let mut corrections = Tensor::empty(&[count, 2], DType::F32, device);
    let options = options_arg(options, weight_decay, state);
    let sizes = [("blocks", blocks)];
    cuda.launch(&OPTIMIZER_STEP, "optimizer_norm", &[], &sizes, &args![&mut squares, &table, count]);
    let args =
        args![&mut state.state, status, &mut state.steps, &mut corrections, &squares, &table, options, count, blocks];
    cuda.launch(&OPTIMIZER_STEP, "optimizer_finish", &[], &sizes, &args);
    let args = args![&table, &state.state, &corrections, rates, options, count];
    cuda.launch(&OPTIMIZER_STEP, "optimizer_update", &[], &sizes, &args);
}

/// 64-bit words of `struct Update`.
const UPDATE_WORDS: usize = 9;

fn row(update: &mut DeviceUpdate, first_block: usize) -> [u64; UPDATE_WORDS] {
    let pair = |low: usize, high: usize| low as u64 | (high as u64) << 32;
    let len = update.value.len();
    let copy = update.copy.as_deref_mut();
    let (copy_type, copy) = copy.map_or((0, 0), |t| (type_code(t), t.device_address_mut()));
    let ema = update.ema.as_deref_mut().map_or(0, Tensor::device_address_mut);
    let (grad_type, grad, m, v) = update.gradient.as_mut().map_or((0, 0, 0, 0), |g| {
        assert_eq!(g.grad.len(), len, "optimizer_step: the gradient is {:?}, value is {:?}", g.grad, update.value);
        let v = g.v.as_deref_mut().map_or(0, Tensor::device_address_mut);
        (type_code(g.grad), g.grad.device_address(), g.m.device_address_mut(), v)
    });
    [
        update.value.device_address_mut(),
        copy,
        m,
        v,
        ema,
        grad,
        pair(first_block, len),
        pair(grad_type, copy_type),
        pair(update.group, 0),
    ]
}

#[track_caller]
fn type_code(t: &Tensor) -> usize {
    match t.dtype() {
        DType::F32 => 0,
        DType::F16 => 1,
        DType::BF16 => 2,
        other => panic!("optimizer_step: no update of {other:?}"),
    }
}

fn options_arg(options: &StepOptions, weight_decay: f64, state: &DeviceState) -> Arg {
    // One beta, and no other, is SGD's momentum.
    let [beta1, beta2, eps] = match options.rule {
        Rule::AdamW { betas: [beta1, beta2], eps } => [beta1, beta2, eps],
        Rule::Sgd { momentum } => [momentum, 0.0, 0.0],
    };
    let floats = [beta1, beta2, eps, options.max_norm.unwrap_or(0.0), options.ema_decay, weight_decay];
    let [a, b, c, d, e, f] = floats.map(|v| (v as f32).to_bits());
    let interval = u32::try_from(state.growth_interval).unwrap_or(u32::MAX);
    let is_sgd = u32::from(!options.rule.has_square());
    Arg::words([a, b, c, d, e, f, u32::from(state.scales_loss), interval, is_sgd])
}
