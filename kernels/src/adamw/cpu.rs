//! The fast version: blocks of all parameters over threads. The moving average reads a block's values while they are in
//! cache, so memory is passed once.

use rayon::prelude::*;

use super::{AdamW, Gradient, Update};
use crate::simd::vectorized;

/// Elements of a block: five arrays of them stay in the second-level cache.
const BLOCK: usize = 8 * 1024;

pub fn update(updates: Vec<&mut Update>, clip: f64, options: &AdamW) {
    let blocks: Vec<Block> = updates.into_iter().flat_map(|update| blocks(update, clip, options)).collect();
    let decay = options.ema_decay as f32;
    blocks.into_par_iter().for_each(|block| {
        vectorized(|| {
            if let Some(descent) = block.descent {
                descent.run(block.value);
            }
            if let Some(ema) = block.ema {
                for (ema, value) in ema.iter_mut().zip(&*block.value) {
                    *ema = *ema * decay + (1.0 - decay) * value;
                }
            }
        });
    });
}

/// Part of a parameter.
struct Block<'a> {
    value: &'a mut [f32],
    ema: Option<&'a mut [f32]>,
    descent: Option<Descent<'a>>,
}

struct Descent<'a> {
    grad: &'a [f32],
    m: &'a mut [f32],
    v: &'a mut [f32],
    scalars: Scalars,
}

fn blocks<'a>(update: &'a mut Update, clip: f64, options: &AdamW) -> Vec<Block<'a>> {
    let mut ema = update.ema.as_mut().map(|ema| ema.as_mut_slice().chunks_mut(BLOCK));
    let mut descents = update.gradient.as_mut().map(|gradient| {
        let scalars = Scalars::new(gradient, clip, options);
        let Gradient { grad, m, v, .. } = gradient;
        let parts = grad.as_slice().chunks(BLOCK).zip(m.as_mut_slice().chunks_mut(BLOCK));
        parts.zip(v.as_mut_slice().chunks_mut(BLOCK)).map(move |((grad, m), v)| Descent { grad, m, v, scalars })
    });
    let values = update.value.as_mut_slice().chunks_mut(BLOCK);
    values
        .map(|value| Block {
            value,
            ema: ema.as_mut().and_then(Iterator::next),
            descent: descents.as_mut().and_then(Iterator::next),
        })
        .collect()
}

/// The factors of one parameter's update.
#[derive(Clone, Copy)]
struct Scalars {
    clip: f32,
    beta1: f32,
    beta2: f32,
    /// 1 - lr weight_decay.
    keep: f32,
    /// lr / (1 - beta1^t).
    rate: f32,
    /// sqrt(1 - beta2^t).
    root: f32,
    eps: f32,
}

impl Scalars {
    fn new(gradient: &Gradient, clip: f64, options: &AdamW) -> Self {
        let [beta1, beta2] = options.betas;
        let correction = |beta: f64| 1.0 - beta.powf(gradient.step as f64);
        Scalars {
            clip: clip as f32,
            beta1: beta1 as f32,
            beta2: beta2 as f32,
            keep: (1.0 - gradient.lr * gradient.weight_decay) as f32,
            rate: (gradient.lr / correction(beta1)) as f32,
            root: correction(beta2).sqrt() as f32,
            eps: options.eps as f32,
        }
    }
}

impl Descent<'_> {
    #[inline(always)]
    fn run(self, value: &mut [f32]) {
        let Scalars { clip, beta1, beta2, keep, rate, root, eps } = self.scalars;
        for (((value, m), v), grad) in value.iter_mut().zip(self.m).zip(self.v).zip(self.grad) {
            let g = grad * clip;
            *m = beta1 * *m + (1.0 - beta1) * g;
            *v = beta2 * *v + (1.0 - beta2) * (g * g);
            *value = *value * keep - rate * *m / (v.sqrt() / root + eps);
        }
    }
}
