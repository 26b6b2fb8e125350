//! Dynamic loss scaling (Micikevicius et al., 2018, arXiv 1710.03740), by the rule and numbers of PyTorch's `GradScaler`.
//!
//! Gradients below 6e-8 are zero in f16, so the loss is multiplied by a scale that is as large as gradients allow: a step
//! with an infinite gradient is left out and halves it, 2000 steps without one double it.

use serde::{Deserialize, Serialize};

/// At the start.
const INITIAL: f32 = 65536.0;

/// Good steps in a row before it is doubled.
pub const GROWTH_INTERVAL: usize = 2000;

/// f16's smallest normal number: a gradient that overflows after being multiplied by less is no matter of scale.
pub const SMALLEST: f64 = 6.103_515_625e-5;

/// The factor of the loss, a power of two, and what its next change depends on.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct LossScale {
    value: f32,
    good_steps: usize,
}

impl Default for LossScale {
    fn default() -> Self {
        LossScale { value: INITIAL, good_steps: 0 }
    }
}

impl LossScale {
    /// `value` after so many good steps in a row.
    pub fn new(value: f32, good_steps: usize) -> Self {
        LossScale { value, good_steps }
    }

    /// Good steps since it changed or a step was skipped.
    pub fn good_steps(&self) -> usize {
        self.good_steps
    }

    /// What the loss is multiplied by.
    pub fn value(&self) -> f32 {
        self.value
    }

    /// All gradients of a step were finite.
    pub fn step_was_made(&mut self) {
        self.good_steps += 1;
        if self.good_steps == GROWTH_INTERVAL {
            self.good_steps = 0;
            self.value *= 2.0;
        }
    }

    /// A gradient was not finite.
    pub fn step_was_skipped(&mut self) {
        self.good_steps = 0;
        self.value *= 0.5;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_skipped_step_halves_and_many_good_ones_double() {
        let mut scale = LossScale::default();
        (1..GROWTH_INTERVAL).for_each(|_| scale.step_was_made());
        assert_eq!(scale.value(), 65536.0);
        scale.step_was_skipped();
        assert_eq!(scale.value(), 32768.0);
        (1..GROWTH_INTERVAL).for_each(|_| scale.step_was_made());
        assert_eq!(scale.value(), 32768.0, "the skipped step began the count anew");
        scale.step_was_made();
        assert_eq!(scale.value(), 65536.0);
    }
}
