//! From examples to a batch of tensors.

use mdetr_kernels::{Device, Tensor};
use mdetr_model::backbone::Backbone;
use mdetr_model::batch::Text;
use mdetr_model::mdetr::TOKEN_COLUMNS;
use mdetr_model::pretrain::Phrases;
use mdetr_model::{Batch, ModelConfig, Targets};

use crate::buckets::Buckets;
use crate::data::{Encoding, Example, Target};

/// A batch and what it was made of.
#[derive(Clone, Debug)]
pub struct Collated {
    /// What the model sees.
    pub batch: Batch,
    /// What the criterion sees.
    pub targets: Targets,
    /// What the warm-up sees.
    pub phrases: Phrases,
    /// Where each example came from, its boxes normalized.
    pub records: Vec<Target>,
    /// Its share of the boxes of its step: 1 unless several batches make a step.
    pub share: f64,
}

impl Collated {
    /// What lies on the device that computes.
    pub fn tensors_mut(&mut self) -> [&mut Tensor; 6] {
        let Targets { boxes, positive_map, align_map, image_of_target, .. } = &mut self.targets;
        [&mut self.batch.images, &mut self.batch.text.ids, boxes, positive_map, align_map, image_of_target]
    }
}

/// Pads and packs examples.
#[derive(Clone, Debug)]
pub struct Collator {
    pad_id: i32,
    /// Pixels that the backbone needs.
    least_side: usize,
    buckets: Buckets,
    /// For encoders with a vocabulary of their own: the embedding row of each of its token ids.
    rows: Option<std::collections::HashMap<i32, i32>>,
}

impl Collator {
    /// For the text encoder of `config`, fed with tokens padded by `pad_id`; sizes are those of the largest in a batch.
    pub fn new(config: &ModelConfig, pad_id: i32) -> Self {
        let vocabulary = config.text().vocabulary;
        let rows = (!vocabulary.is_empty())
            .then(|| vocabulary.iter().enumerate().map(|(row, &id)| (id, row as i32 + 1)).collect());
        Collator { pad_id, least_side: Backbone::least_side_of(&config.backbone), buckets: Buckets::NONE, rows }
    }

    /// The same with these sizes of batches.
    pub fn with_buckets(self, buckets: Buckets) -> Self {
        Collator { buckets, ..self }
    }

    /// Token ids of captions, padded behind.
    pub fn text(&self, encodings: &[&Encoding]) -> Text {
        let len = self.buckets.tokens(encodings.iter().map(|e| e.ids.len()).max().unwrap_or(0));
        let row = |id: i32| self.rows.as_ref().map_or(id, |rows| rows.get(&id).copied().unwrap_or(0));
        let mut ids = Vec::with_capacity(encodings.len() * len);
        for e in encodings {
            ids.extend(e.ids.iter().map(|&id| row(id)));
            ids.extend(std::iter::repeat_n(row(self.pad_id), len - e.ids.len()));
        }
        Text {
            ids: Tensor::from_slice(&ids, &[encodings.len(), len], Device::Cpu),
            counts: encodings.iter().map(|e| e.ids.len()).collect(),
        }
    }

    /// Images padded at the bottom and the right to the largest, to what the backbone needs, and to a bucket.
    pub fn images(&self, images: &[(&[f32], [usize; 2])]) -> (Tensor, Vec<[usize; 2]>) {
        let largest = |axis: usize| images.iter().map(|(_, size)| size[axis]).fold(self.least_side, usize::max);
        let side = |axis: usize| self.buckets.side(largest(axis));
        let (height, width) = (side(0), side(1));
        let mut tensor = Tensor::zeros(&[images.len(), height, width, 3], mdetr_kernels::DType::F32, Device::Cpu);
        let all = tensor.as_mut_slice::<f32>();
        for (b, (pixels, [h, w])) in images.iter().enumerate() {
            for y in 0..*h {
                let to = (b * height + y) * width * 3;
                all[to..to + w * 3].copy_from_slice(&pixels[y * w * 3..(y + 1) * w * 3]);
            }
        }
        (tensor, images.iter().map(|(_, size)| *size).collect())
    }

    /// Everything.
    pub fn collate(&self, examples: Vec<Example>) -> Collated {
        let pixels: Vec<_> = examples.iter().map(|e| (e.pixels.as_slice(), [e.height, e.width])).collect();
        let (images, image_sizes) = self.images(&pixels);
        let text = self.text(&examples.iter().map(|e| &e.encoding).collect::<Vec<_>>());
        let targets = targets(&examples, &text, self.buckets);
        let phrases = phrases(&examples, text.shape()[1]);
        let records = examples.into_iter().map(|e| e.target).collect();
        Collated {
            batch: Batch { images, image_sizes, text, packing: self.buckets.packing },
            targets,
            phrases,
            records,
            share: 1.0,
        }
    }
}

fn targets(examples: &[Example], text: &Text, buckets: Buckets) -> Targets {
    let counts: Vec<usize> = examples.iter().map(|e| e.target.objects.len()).collect();
    let objects = || examples.iter().flat_map(|e| &e.target.objects);
    let total = buckets.targets(counts.iter().sum());
    let mut boxes: Vec<f32> = objects().flat_map(|o| o.bbox).collect();
    boxes.resize(total * 4, 0.0);
    let mut image_of_target: Vec<i32> =
        counts.iter().enumerate().flat_map(|(b, &n)| std::iter::repeat_n(b as i32, n)).collect();
    image_of_target.resize(total, counts.len() as i32);
    let map = |columns: usize, tokens: &dyn Fn(&Example) -> Vec<Vec<usize>>| {
        let mut map = vec![0.0f32; total * columns];
        for (row, tokens) in examples.iter().flat_map(tokens).enumerate() {
            // As published, a box's tokens count 1 each, however many they are.
            tokens.iter().filter(|&&t| t < columns).for_each(|&t| map[row * columns + t] = 1.0);
        }
        Tensor::from_slice(&map, &[total, columns], Device::Cpu)
    };
    Targets {
        boxes: Tensor::from_slice(&boxes, &[total, 4], Device::Cpu),
        positive_map: map(TOKEN_COLUMNS, &|e| e.positive_tokens.clone()),
        align_map: map(text.shape()[1], &|e| e.align_tokens.clone()),
        tokens: text.counts.iter().copied().max().unwrap_or(0),
        image_of_target: Tensor::from_slice(&image_of_target, &[total], Device::Cpu),
        counts,
    }
}

/// The distinct phrases of each caption that name boxes, and the images whose captions lack them.
fn phrases(examples: &[Example], text_len: usize) -> Phrases {
    let spelled = |e: &Example, tokens: &[usize]| -> Vec<i32> { tokens.iter().map(|&t| e.encoding.ids[t]).collect() };
    let mut named: Vec<Vec<(Vec<i32>, Vec<usize>)>> = Vec::new(); // spelling and tokens of each caption's phrases
    for e in examples {
        let mut own: Vec<(Vec<i32>, Vec<usize>)> = Vec::new();
        for tokens in e.align_tokens.iter().filter(|tokens| !tokens.is_empty()) {
            let spelling = spelled(e, tokens);
            if own.iter().all(|(s, _)| *s != spelling) {
                own.push((spelling, tokens.clone()));
            }
        }
        named.push(own);
    }
    let mut phrases = Phrases { tokens: Vec::new(), image: Vec::new(), candidates: Vec::new() };
    for (b, own) in named.iter().enumerate() {
        for (spelling, tokens) in own {
            phrases.tokens.push(tokens.iter().map(|&t| b * text_len + t).collect());
            phrases.image.push(b);
            let lacks = |other: usize| other == b || named[other].iter().all(|(s, _)| s != spelling);
            phrases.candidates.push((0..named.len()).map(lacks).collect());
        }
    }
    phrases
}
