//! The definition, an element at a time.

use super::{AdamW, Gradient, Update};
use crate::Real;

pub fn update<T: Real>(update: &mut Update, factor: f64, options: &AdamW) {
    let value: &mut [T] = update.value.as_mut_slice();
    if let Some(Gradient { grad, m, v, step, lr, weight_decay }) = &mut update.gradient {
        let [beta1, beta2] = options.betas.map(T::from_f64);
        let [lr, weight_decay, eps, factor] = [*lr, *weight_decay, options.eps, factor].map(T::from_f64);
        let t = T::from_f64(*step as f64);
        let (grad, m, v): (&[T], &mut [T], &mut [T]) = (grad.as_slice(), m.as_mut_slice(), v.as_mut_slice());
        for (i, value) in value.iter_mut().enumerate() {
            let g = grad[i] * factor;
            m[i] = beta1 * m[i] + (T::one() - beta1) * g;
            v[i] = beta2 * v[i] + (T::one() - beta2) * g * g;
            let m_hat = m[i] / (T::one() - beta1.powf(t));
            let v_hat = v[i] / (T::one() - beta2.powf(t));
            *value = *value * (T::one() - lr * weight_decay) - lr * m_hat / (v_hat.sqrt() + eps);
        }
    }
    if let Some(ema) = &mut update.ema {
        let decay = T::from_f64(options.ema_decay);
        for (ema, &value) in ema.as_mut_slice::<T>().iter_mut().zip(&*value) {
            *ema = decay * *ema + (T::one() - decay) * value;
        }
    }
}
