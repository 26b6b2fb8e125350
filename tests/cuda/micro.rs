//! A model of half a million parameters, of which the backbone has 333,000, and batches for it.

use std::path::Path;

use anyhow::Result;
use mdetr_kernels::philox::Philox;
use mdetr_kernels::{DType, Device, Precision, Tensor};
use mdetr_model::batch::{Packing, Text};
use mdetr_model::criterion::Criterion;
use mdetr_model::pretrain::Phrases;
use mdetr_model::{Batch, Mdetr, Targets};
use mdetr_train::checkpoint::{self, Position};
use mdetr_train::collate::Collated;
use mdetr_train::config::RunConfig;
use mdetr_train::engine::{StepReport, Trainer};
use mdetr_train::optimizer::Optimizer;
use mdetr_train::schedule::Rates;
use mdetr_train::settings::Settings;

/// Every kind of layer that detection has: a RoBERTa, attention of two widths, dropout, auxiliary losses, an average.
const CONFIG: &str = include_str!("micro.json");

pub const RATES: Rates = Rates { base: 1e-3, backbone: 1e-3, text_encoder: 5e-4 };

/// The most targets of an image.
const TARGETS: usize = 3;

pub fn config() -> RunConfig {
    let mut settings = Settings::default();
    settings.add_json(CONFIG, "micro").unwrap();
    settings.resolve().unwrap()
}

/// Two images of different sizes with captions of different lengths, the second one with one target.
pub fn batch(step: u64) -> Collated {
    let philox = |stream| Philox { seed: 11 + step, stream };
    let uniform = |n: usize, stream: u64| -> Vec<f32> { (0..n as u64).map(|i| philox(stream).uniform(i)).collect() };
    let (b, side, tokens) = (2, 32, 7);
    let total = TARGETS + 1;
    let ids: Vec<i32> = (0..b * tokens)
        .map(|i| if i >= tokens && i % tokens > 4 { 1 } else { 2 + (philox(1).word(i as u64) % 28) as i32 })
        .collect();
    let boxes: Vec<f32> = uniform(total * 4, 2)
        .iter()
        .enumerate()
        .map(|(i, u)| if i % 4 < 2 { 0.3 + 0.4 * u } else { 0.1 + 0.3 * u })
        .collect();
    let map = |columns: usize| {
        let ones = (0..total * columns).map(|i| f32::from(u8::from(i % columns == 1 + i / columns)));
        Tensor::from_slice(&ones.collect::<Vec<_>>(), &[total, columns], Device::Cpu)
    };
    let pixels = uniform(b * side * side * 3, 3);
    Collated {
        batch: Batch {
            images: Tensor::from_slice(&pixels, &[b, side, side, 3], Device::Cpu),
            image_sizes: vec![[32, 32], [32, 20]],
            text: Text { ids: Tensor::from_slice(&ids, &[b, tokens], Device::Cpu), counts: vec![7, 5] },
            packing: Packing::Exact,
        },
        targets: Targets {
            boxes: Tensor::from_slice(&boxes, &[total, 4], Device::Cpu),
            positive_map: map(256),
            align_map: map(tokens),
            tokens,
            image_of_target: Tensor::from_slice(&[0, 0, 0, 1], &[total], Device::Cpu),
            counts: vec![TARGETS, 1],
        },
        phrases: Phrases { tokens: Vec::new(), image: Vec::new(), candidates: Vec::new() },
        records: Vec::new(),
        share: 1.0,
    }
}

/// The same batch in a bucket of shapes; of every four steps the last two have fewer tokens and targets. Behind the targets lies
/// `tail`, where nothing may read it.
pub fn bucket(step: u64, tail: f32) -> Collated {
    let mut collated = batch(step);
    let Collated { batch: Batch { image_sizes, text, packing, .. }, targets, .. } = &mut collated;
    *packing = Packing::Bucket;
    if step % 4 >= 2 {
        *image_sizes = vec![[32, 12], [16, 32]];
        text.counts = vec![6, 3];
        targets.counts = vec![TARGETS, 0];
    }
    let (width, longest, there) = (targets.tokens, text.counts[0], targets.counts.iter().sum::<usize>());
    let (tokens, rows) = (16, 32);
    let ids = text.ids.as_slice::<i32>().chunks(width).flat_map(|row| padded(&row[..longest], tokens, 1));
    text.ids = Tensor::from_slice(&ids.collect::<Vec<_>>(), &[text.counts.len(), tokens], Device::Cpu);
    let boxes = padded(&targets.boxes.as_slice()[..there * 4], rows * 4, tail);
    targets.boxes = Tensor::from_slice(&boxes, &[rows, 4], Device::Cpu);
    let map = padded(&targets.positive_map.as_slice()[..there * 256], rows * 256, tail);
    targets.positive_map = Tensor::from_slice(&map, &[rows, 256], Device::Cpu);
    let map = targets.align_map.as_slice().chunks(width).take(there);
    let map: Vec<f32> = map.flat_map(|row| padded(&row[..longest], tokens, tail)).collect();
    targets.align_map = Tensor::from_slice(&padded(&map, rows * tokens, tail), &[rows, tokens], Device::Cpu);
    targets.tokens = longest;
    let images = padded(&targets.image_of_target.as_slice()[..there], rows, text.counts.len() as i32);
    targets.image_of_target = Tensor::from_slice(&images, &[rows], Device::Cpu);
    collated
}

/// With `tail` behind, up to `len` elements.
fn padded<T: Copy>(values: &[T], len: usize, tail: T) -> Vec<T> {
    values.iter().copied().chain(std::iter::repeat(tail)).take(len).collect()
}

/// What a few steps leave.
pub struct Trained {
    /// Of every step, or what went wrong.
    pub reports: Result<Vec<StepReport>>,
    /// Every parameter and average.
    pub state: Vec<Vec<f64>>,
}

/// How a model is trained.
pub struct How<'a> {
    /// A checkpoint that it goes on from.
    pub from: Option<&'a Path>,
    /// A checkpoint that it is saved as.
    pub to: Option<&'a Path>,
    pub graphs: bool,
    pub rates: fn(usize) -> Rates,
}

impl Default for How<'_> {
    fn default() -> Self {
        How { from: None, to: None, graphs: false, rates: |_| RATES }
    }
}

/// Trains a new model on the batches.
pub fn train(device: Device, precision: Precision, batches: Vec<Collated>) -> Trained {
    train_as(How::default(), device, precision, batches)
}

/// The same, in this way.
pub fn train_as(how: How, device: Device, precision: Precision, batches: Vec<Collated>) -> Trained {
    let How { from, to, graphs, rates } = how;
    let config = config();
    let mut model = Mdetr::new(&config.model, 5).unwrap();
    let size: usize = model.parameters.iter().map(|(_, p)| p.value.len()).sum();
    assert!(size <= 510_000, "{size} parameters");
    from.into_iter().for_each(|from| checkpoint::restore_weights(from, &mut model.parameters).unwrap());
    model.parameters.set_precision(precision);
    model.parameters.to_device(device);
    let options = config.training.optimizer_options();
    let optimizer = Optimizer::new(&model.parameters, precision, options);
    let mut trainer = Trainer { seed: 5, graphs, ..Trainer::new(&mut model, optimizer, precision) };
    if let Some(from) = from {
        let state = checkpoint::state(from).unwrap();
        checkpoint::restore_optimizer(from, &state, &trainer.model.parameters, &mut trainer.optimizer).unwrap();
        trainer.draws = state.position.draws;
    }
    let criterion = Criterion::new(&config.criterion);
    let reports = trainer.train(&criterion, batches.into_iter().map(Ok), rates);
    if let Some(to) = to {
        let position = Position { draws: trainer.draws, ..Position::default() };
        checkpoint::write(to, &config, &trainer.model.parameters, &trainer.optimizer, position).unwrap();
    }
    let values = |t: &Tensor| t.to_device(Device::Cpu).to_dtype(DType::F64).to_f64_vec();
    let averages = trainer.optimizer.ema().unwrap().iter().map(values).collect::<Vec<_>>();
    let state = trainer.model.parameters.iter().map(|(_, p)| values(&p.value)).chain(averages).collect();
    Trained { reports, state }
}
