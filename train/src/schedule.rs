//! Learning rates over a run: the four published schedules, and one for short runs from nothing.

use serde::{Deserialize, Serialize};

/// Learning rates of the three parameter groups.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rates {
    /// Everything that is in neither of the other groups.
    pub base: f64,
    /// The backbone.
    pub backbone: f64,
    /// The text encoder.
    pub text_encoder: f64,
}

/// How rates change, under the published names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A tenth after every `lr_drop` epochs.
    Step,
    /// A half at `lr_drop` and every 50 epochs from there.
    Multistep,
    /// As `step`; the text encoder warms up and decays linearly.
    LinearWithWarmup,
    /// Everything warms up and decays linearly.
    AllLinearWithWarmup,
    /// Everything warms up linearly, is held until `fraction_hold_steps` of the run, and falls to zero as a half cosine.
    /// A cosine from the start lets go of the full rate before image tokens have bound to words.
    WarmupHoldCosine,
}

/// A schedule over a run of known length.
#[derive(Clone, Copy, Debug)]
pub struct Schedule {
    /// The rule.
    pub kind: Kind,
    /// Rates that factors multiply.
    pub base: Rates,
    /// Epochs of the run.
    pub epochs: usize,
    /// Epoch of the drop.
    pub lr_drop: usize,
    /// Optimizer steps in an epoch.
    pub steps_per_epoch: usize,
    /// Part of the run that warms up.
    pub fraction_warmup_steps: f64,
    /// Part of the run after which `warmup_hold_cosine` falls.
    pub fraction_hold_steps: f64,
}

impl Schedule {
    /// Steps of the run.
    pub fn total_steps(&self) -> usize {
        self.epochs.saturating_mul(self.steps_per_epoch)
    }

    /// The rates with which step `step` (from 0) is taken. As published, the four published schedules are applied after a
    /// step: the first one uses the full rates, and step k those computed for step k - 1.
    pub fn at(&self, step: usize) -> Rates {
        match (self.kind, step) {
            (Kind::WarmupHoldCosine, _) => self.scaled(self.hold_cosine(step), self.hold_cosine(step)),
            (_, 0) => self.base,
            _ => self.after(step - 1, (step - 1) / self.steps_per_epoch.max(1)),
        }
    }

    /// The published table: rates set after step `step` of epoch `epoch`.
    pub fn after(&self, step: usize, epoch: usize) -> Rates {
        let drop = 0.1f64.powi((epoch / self.lr_drop.max(1)) as i32);
        match self.kind {
            Kind::Step => self.scaled(drop, drop),
            Kind::Multistep => {
                let milestones = (self.lr_drop..self.epochs.min(epoch + 1)).step_by(50).count();
                let factor = 0.5f64.powi(milestones as i32);
                self.scaled(factor, factor)
            }
            Kind::LinearWithWarmup => self.scaled(drop, self.linear(step)),
            Kind::AllLinearWithWarmup => self.scaled(self.linear(step), self.linear(step)),
            Kind::WarmupHoldCosine => self.scaled(self.hold_cosine(step), self.hold_cosine(step)),
        }
    }

    fn scaled(&self, factor: f64, text_factor: f64) -> Rates {
        Rates {
            base: self.base.base * factor,
            backbone: self.base.backbone * factor,
            text_encoder: self.base.text_encoder * text_factor,
        }
    }

    fn warmup_steps(&self) -> usize {
        // Python's round: ties to even.
        (self.fraction_warmup_steps * self.total_steps() as f64).round_ties_even() as usize
    }

    fn linear(&self, step: usize) -> f64 {
        let (warmup, total) = (self.warmup_steps(), self.total_steps());
        if step < warmup {
            step as f64 / warmup.max(1) as f64
        } else {
            (total as f64 - step as f64).max(0.0) / total.saturating_sub(warmup).max(1) as f64
        }
    }

    fn hold_cosine(&self, step: usize) -> f64 {
        let (warmup, total) = (self.warmup_steps(), self.total_steps() as f64);
        let hold = self.fraction_hold_steps * total;
        if step < warmup {
            (step + 1) as f64 / warmup as f64
        } else if (step as f64) < hold {
            1.0
        } else {
            let t = ((step as f64 - hold) / (total - hold).max(1.0)).min(1.0);
            0.5 * (1.0 + (std::f64::consts::PI * t).cos())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    #[test]
    fn published_tables() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/goldens/lr_schedules.json");
        let file: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        for run in file["runs"].as_array().unwrap() {
            let number = |key: &str| run[key].as_f64().unwrap();
            let base = run["base_lrs"].as_array().unwrap();
            let schedule = Schedule {
                kind: serde_json::from_value(run["schedule"].clone()).unwrap(),
                base: Rates {
                    base: base[0].as_f64().unwrap(),
                    backbone: base[1].as_f64().unwrap(),
                    text_encoder: base[2].as_f64().unwrap(),
                },
                epochs: number("epochs") as usize,
                lr_drop: number("lr_drop") as usize,
                steps_per_epoch: number("steps_per_epoch") as usize,
                fraction_warmup_steps: number("fraction_warmup_steps"),
                fraction_hold_steps: 0.0,
            };
            assert_eq!(schedule.total_steps(), number("num_training_steps") as usize);
            assert_eq!(schedule.warmup_steps(), number("num_warmup_steps") as usize);
            for row in run["table"].as_array().unwrap() {
                let row: Vec<f64> = row.as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect();
                let got = schedule.after(row[0] as usize, row[1] as usize);
                for (got, want) in [got.base, got.backbone, got.text_encoder].iter().zip(&row[2..]) {
                    assert!((got - want).abs() <= 1e-12 * want.abs(), "{:?} {row:?}: {got}", schedule.kind);
                }
            }
        }
    }

    /// A run that only a signal ends.
    #[test]
    fn endless_runs_have_rates() {
        let base = Rates { base: 1.0, backbone: 1.0, text_encoder: 1.0 };
        for kind in [Kind::Step, Kind::Multistep] {
            let schedule = Schedule {
                kind,
                base,
                epochs: usize::MAX,
                lr_drop: 1_000,
                steps_per_epoch: 100,
                fraction_warmup_steps: 0.0,
                fraction_hold_steps: 0.0,
            };
            assert_eq!(schedule.at(99_999), base, "{kind:?}");
        }
    }

    #[test]
    fn hold_warms_up_holds_and_falls_to_zero() {
        let base = Rates { base: 1.0, backbone: 1.0, text_encoder: 1.0 };
        let schedule = Schedule {
            kind: Kind::WarmupHoldCosine,
            base,
            epochs: 10,
            lr_drop: 1,
            steps_per_epoch: 100,
            fraction_warmup_steps: 0.1,
            fraction_hold_steps: 0.6,
        };
        assert_eq!(schedule.at(0).base, 0.01);
        assert_eq!(schedule.at(300), base);
        assert!((schedule.at(800).base - 0.5).abs() < 1e-12);
        assert!(schedule.at(999).base < 1e-3);
    }
}
