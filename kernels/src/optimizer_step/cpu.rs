//! The fast version: blocks of all parameters over threads. The moving average and the compute copy read a block's values
//! while they are in cache, so memory is passed once.

use rayon::prelude::*;

use super::part::{CopyPart, GradPart};
use super::{Gradient, Rule, StepOptions, Update};
use crate::simd::vectorized;

/// Elements of a block: five arrays of them stay in the second-level cache.
const BLOCK: usize = 8 * 1024;

/// Elements of a page. Words that no caption had so far have neither gradient nor moments: pages of their rows that hold
/// nothing but zeros are not written, and so stay no memory (`Tensor::sparse_zeros`).
const PAGE: usize = 1024;

pub fn update(updates: Vec<&mut Update>, factor: f64, options: &StepOptions) {
    let blocks: Vec<Block> = updates.into_iter().flat_map(|update| blocks(update, factor, options)).collect();
    let decay = options.ema_decay as f32;
    blocks.into_par_iter().with_max_len(1).for_each(|block| {
        let mut buffer = Vec::new();
        let descent = block.descent.map(|descent| descent.widened(&mut buffer));
        vectorized(
            #[inline(always)]
            || {
                if let Some((grad, descent)) = descent {
                    descent.run(block.value, grad);
                }
                if let Some(ema) = block.ema {
                    for (ema, value) in ema.iter_mut().zip(&*block.value) {
                        *ema = *ema * decay + (1.0 - decay) * value;
                    }
                }
            },
        );
        if let Some(copy) = block.copy {
            copy.write(block.value);
        }
    });
}

/// Part of a parameter.
struct Block<'a> {
    value: &'a mut [f32],
    ema: Option<&'a mut [f32]>,
    copy: Option<CopyPart<'a>>,
    descent: Option<Descent<'a>>,
}

struct Descent<'a> {
    grad: GradPart<'a>,
    moments: Moments<'a>,
}

struct Moments<'a> {
    m: &'a mut [f32],
    v: Option<&'a mut [f32]>,
    factors: Factors,
}

fn blocks<'a>(update: &'a mut Update, factor: f64, options: &StepOptions) -> Vec<Block<'a>> {
    let mut ema = update.ema.as_mut().map(|ema| ema.as_mut_slice().chunks_mut(BLOCK));
    let mut copy = update.copy.as_mut().map(|copy| CopyPart::parts(copy, BLOCK));
    let mut descents = update.gradient.as_mut().map(|gradient| {
        let factors = Factors::new(gradient, factor, options.rule);
        let Gradient { grad, m, v, .. } = gradient;
        let mut v = v.as_mut().map(|v| v.as_mut_slice().chunks_mut(BLOCK));
        let parts = GradPart::parts(grad, BLOCK).zip(m.as_mut_slice().chunks_mut(BLOCK));
        parts.map(move |(grad, m)| {
            let v = v.as_mut().and_then(Iterator::next);
            Descent { grad, moments: Moments { m, v, factors } }
        })
    });
    let values = update.value.as_mut_slice().chunks_mut(BLOCK);
    values
        .map(|value| Block {
            value,
            ema: ema.as_mut().and_then(Iterator::next),
            copy: copy.as_mut().and_then(Iterator::next),
            descent: descents.as_mut().and_then(Iterator::next),
        })
        .collect()
}

/// The factors of one parameter's update.
#[derive(Clone, Copy)]
enum Factors {
    AdamW {
        /// Of the gradient.
        factor: f32,
        beta1: f32,
        beta2: f32,
        /// 1 - lr weight_decay.
        keep: f32,
        /// lr / (1 - beta1^t).
        rate: f32,
        /// sqrt(1 - beta2^t).
        root: f32,
        eps: f32,
    },
    Sgd {
        /// Of the gradient.
        factor: f32,
        momentum: f32,
        weight_decay: f32,
        lr: f32,
    },
}

impl Factors {
    fn new(gradient: &Gradient, factor: f64, rule: Rule) -> Self {
        let Gradient { lr, weight_decay, step, .. } = *gradient;
        match rule {
            Rule::AdamW { betas: [beta1, beta2], eps } => {
                let correction = |beta: f64| 1.0 - beta.powf(step as f64);
                Factors::AdamW {
                    factor: factor as f32,
                    beta1: beta1 as f32,
                    beta2: beta2 as f32,
                    keep: (1.0 - lr * weight_decay) as f32,
                    rate: (lr / correction(beta1)) as f32,
                    root: correction(beta2).sqrt() as f32,
                    eps: eps as f32,
                }
            }
            Rule::Sgd { momentum } => Factors::Sgd {
                factor: factor as f32,
                momentum: momentum as f32,
                weight_decay: weight_decay as f32,
                lr: lr as f32,
            },
        }
    }
}

impl<'a> Descent<'a> {
    fn widened(self, buffer: &'a mut Vec<f32>) -> (&'a [f32], Moments<'a>) {
        (self.grad.widened(buffer), self.moments)
    }
}

impl Moments<'_> {
    #[inline(always)]
    fn run(self, value: &mut [f32], grad: &[f32]) {
        match self.factors {
            Factors::AdamW { factor, beta1, beta2, keep, rate, root, eps } => {
                let v = self.v.expect("checked");
                let pages = value
                    .chunks_mut(PAGE)
                    .zip(grad.chunks(PAGE))
                    .zip(self.m.chunks_mut(PAGE))
                    .zip(v.chunks_mut(PAGE));
                for (((value, grad), m), v) in pages {
                    if [grad, m, v].into_iter().all(is_zero) {
                        value.iter_mut().for_each(|value| *value *= keep);
                        continue;
                    }
                    for (((value, m), grad), v) in value.iter_mut().zip(m).zip(grad).zip(v) {
                        let g = grad * factor;
                        *m = beta1 * *m + (1.0 - beta1) * g;
                        *v = beta2 * *v + (1.0 - beta2) * (g * g);
                        *value = *value * keep - rate * *m / (v.sqrt() / root + eps);
                    }
                }
            }
            Factors::Sgd { factor, momentum, weight_decay, lr } => {
                for ((value, m), grad) in value.iter_mut().zip(self.m).zip(grad) {
                    *m = momentum * *m + (grad * factor + weight_decay * *value);
                    *value -= lr * *m;
                }
            }
        }
    }
}

/// Whether all elements are +0.
#[inline(always)]
fn is_zero(page: &[f32]) -> bool {
    page.chunks(64).all(|part| part.iter().fold(0, |bits, x| bits | x.to_bits()) == 0)
}

#[cfg(test)]
mod tests {
    use super::super::step;
    use super::*;
    use crate::{DType, Device, Tensor};

    /// A table of which few rows have gradients: values as by the definition, and moments that are memory there alone.
    #[test]
    fn moments_of_rows_without_gradients_are_no_memory() {
        const LEN: usize = 1 << 20;
        let run = |dtype: DType| {
            let value: Vec<f32> = (0..LEN).map(|i| (i % 1000) as f32 / 500.0 - 1.0).collect();
            let mut value = Tensor::from_slice(&value, &[LEN], Device::Cpu).to_dtype(dtype);
            let mut ema = value.copy();
            let mut sparse = Tensor::sparse_zeros(&[LEN], DType::F32, Device::Cpu);
            let zeros = || match dtype {
                DType::F32 => sparse.zeros_like(dtype),
                _ => Tensor::zeros(&[LEN], dtype, Device::Cpu),
            };
            let (mut m, mut v) = (zeros(), zeros());
            for count in 1..=3 {
                // The second row has a gradient once.
                sparse.as_mut_slice::<f32>()[5000] = count as f32;
                sparse.as_mut_slice::<f32>()[700_000] = if count == 1 { -2.0 } else { 0.0 };
                let dense = sparse.to_dtype(dtype);
                let gradient = Gradient {
                    grad: if dtype == DType::F32 { &sparse } else { &dense },
                    m: &mut m,
                    v: Some(&mut v),
                    step: count,
                    lr: 0.1,
                    weight_decay: 0.5,
                };
                let update = Update { value: &mut value, ema: Some(&mut ema), copy: None, gradient: Some(gradient) };
                step(&mut [update], &StepOptions { ema_decay: 0.5, ..StepOptions::default() }).unwrap();
            }
            #[cfg(target_os = "linux")]
            if dtype == DType::F32 {
                use crate::buffer::resident;
                for moment in [&m, &v] {
                    let bytes = resident(bytemuck::cast_slice(moment.as_slice::<f32>()));
                    assert!(bytes < 1 << 20, "{bytes} bytes");
                }
            }
            [value, ema, m, v].map(|t| t.to_f64_vec())
        };
        for (fast, exact) in run(DType::F32).iter().zip(&run(DType::F64)) {
            let far = fast.iter().zip(exact).position(|(a, b)| (a - b).abs() > 1e-5 * b.abs().max(0.02));
            assert_eq!(far, None);
        }
    }
}
