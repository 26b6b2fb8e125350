//! The definition, an element at a time.

use super::{Gradient, Rule, StepOptions, Update};
use crate::Real;

pub fn update<T: Real>(update: &mut Update, factor: f64, options: &StepOptions) {
    let value: &mut [T] = update.value.as_mut_slice();
    if let Some(gradient) = &mut update.gradient {
        match options.rule {
            Rule::AdamW { betas, eps } => adamw(value, gradient, T::from_f64(factor), betas, eps),
            Rule::Sgd { momentum } => sgd(value, gradient, T::from_f64(factor), momentum),
        }
    }
    if let Some(ema) = &mut update.ema {
        let decay = T::from_f64(options.ema_decay);
        for (ema, &value) in ema.as_mut_slice::<T>().iter_mut().zip(&*value) {
            *ema = decay * *ema + (T::one() - decay) * value;
        }
    }
}

fn adamw<T: Real>(value: &mut [T], gradient: &mut Gradient, factor: T, betas: [f64; 2], eps: f64) {
    let Gradient { grad, m, v, step, lr, weight_decay } = gradient;
    let [beta1, beta2] = betas.map(T::from_f64);
    let [lr, weight_decay, eps, t] = [*lr, *weight_decay, eps, *step as f64].map(T::from_f64);
    let (grad, m): (&[T], &mut [T]) = (grad.as_slice(), m.as_mut_slice());
    let v: &mut [T] = v.as_mut().expect("checked").as_mut_slice();
    for (i, value) in value.iter_mut().enumerate() {
        let g = grad[i] * factor;
        m[i] = beta1 * m[i] + (T::one() - beta1) * g;
        v[i] = beta2 * v[i] + (T::one() - beta2) * g * g;
        let m_hat = m[i] / (T::one() - beta1.powf(t));
        let v_hat = v[i] / (T::one() - beta2.powf(t));
        *value = *value * (T::one() - lr * weight_decay) - lr * m_hat / (v_hat.sqrt() + eps);
    }
}

fn sgd<T: Real>(value: &mut [T], gradient: &mut Gradient, factor: T, momentum: f64) {
    let [lr, weight_decay, momentum] = [gradient.lr, gradient.weight_decay, momentum].map(T::from_f64);
    let (grad, m): (&[T], &mut [T]) = (gradient.grad.as_slice(), gradient.m.as_mut_slice());
    for (i, value) in value.iter_mut().enumerate() {
        m[i] = momentum * m[i] + (grad[i] * factor + weight_decay * *value);
        *value -= lr * m[i];
    }
}
