//! What the tests share: a module on a device, numbers to compute with, and how results are compared.

use std::fmt::Debug;

use bytemuck::Pod;
use half::{bf16, f16};
use mdetr_simulator::options::Options;
use mdetr_simulator::vm::launch::Outcome;
use mdetr_simulator::vm::program::Program;

use crate::common::{Arg, Device, assert_clean, nvrtc};

/// A module on a device of its own.
pub struct Loaded {
    pub device: Device,
    pub program: Program,
    /// Compiler, architecture and schedule, for messages.
    pub name: String,
}

impl Loaded {
    /// Launches, and nothing may be found.
    #[track_caller]
    pub fn launch(&mut self, kernel: &str, grid: [u32; 3], block: [u32; 3], shared: u32, args: &[Arg]) -> Outcome {
        let outcome = self.device.launch(&self.program, kernel, grid, block, shared, args);
        if !outcome.findings.is_empty() {
            eprintln!("{kernel}, {}:", self.name);
        }
        assert_clean(&outcome);
        outcome
    }

    /// Launches in one dimension, over at least `n` threads.
    #[track_caller]
    pub fn launch_over(&mut self, kernel: &str, n: usize, block: u32, args: &[Arg]) -> Outcome {
        self.launch(kernel, [(n as u32).div_ceil(block).max(1), 1, 1], [block, 1, 1], 0, args)
    }

    /// Asserts that `got` is within `tolerance` of `want`, elementwise.
    #[track_caller]
    pub fn assert_close<T: Float>(&self, what: &str, got: &[T], want: &[f64], tolerance: impl Fn(usize) -> f64) {
        assert_eq!(got.len(), want.len(), "{what}");
        for (i, (got, &want)) in got.iter().zip(want).enumerate() {
            let (got, tolerance) = (got.to(), tolerance(i));
            let close = got == want || (got - want).abs() <= tolerance || (got.is_nan() && want.is_nan());
            assert!(close, "{what}[{i}] is {got}, expected {want} +- {tolerance:e} ({})", self.name);
        }
    }

    /// Asserts that `got` is `want`.
    #[track_caller]
    pub fn assert_same<T: PartialEq + Debug>(&self, what: &str, got: &[T], want: &[T]) {
        assert_eq!(got.len(), want.len(), "{what}");
        for (i, (got, want)) in got.iter().zip(want).enumerate() {
            assert!(got == want, "{what}[{i}] is {got:?}, expected {want:?} ({})", self.name);
        }
    }
}

/// Gives `tests/kernels/NAME.cu` to `test`, by every compiler, on a device with each of the options.
pub fn for_each_device(name: &str, options: &[Options], mut test: impl FnMut(&mut Loaded)) {
    nvrtc::for_each_compiler(name, |target, ptx| {
        for options in options {
            let mut device = Device::new(options.clone());
            let program = device.load(ptx);
            let nvrtc::Target { version, architecture } = target;
            let name = format!("NVRTC {version}, compute_{architecture}, {options:?}");
            test(&mut Loaded { device, program, name });
        }
    });
}

/// One schedule: enough where threads do not meet.
pub fn one_schedule() -> [Options; 1] {
    [Options::default()]
}

/// Several schedules.
pub fn schedules() -> [Options; 3] {
    [0, 1, 2].map(|seed| Options { seed, ..Options::default() })
}

/// Numbers that look random: splitmix64.
pub struct Random(pub u64);

impl Random {
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Below `bound`.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.bits() % bound
    }

    /// Uniform in `low .. high`.
    pub fn uniform(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * (self.bits() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Uniform in -1 .. 1, as a `T`.
    pub fn floats<T: Float>(&mut self, n: usize) -> Vec<T> {
        (0..n).map(|_| T::of(self.uniform(-1.0, 1.0))).collect()
    }
}

/// Formats that kernels compute in.
pub trait Float: Pod + PartialEq + Debug {
    /// Half of the distance from 1 to the next number: a rounding's relative error, at most.
    const ROUNDING: f64;
    /// Rounded.
    fn of(x: f64) -> Self;
    fn to(self) -> f64;
}

macro_rules! float {
    ($($ty:ty, $digits:literal, $of:expr, $to:expr;)*) => {$(
        impl Float for $ty {
            const ROUNDING: f64 = 1.0 / (1_u64 << $digits) as f64;
            fn of(x: f64) -> Self {
                ($of)(x)
            }
            fn to(self) -> f64 {
                ($to)(self)
            }
        }
    )*};
}
float! {
    f64, 53, |x| x, |x| x;
    f32, 24, |x| x as f32, f64::from;
    f16, 11, f16::from_f64, f16::to_f64;
    bf16, 8, bf16::from_f64, bf16::to_f64;
}

/// As f64.
pub fn exact<T: Float>(values: &[T]) -> Vec<f64> {
    values.iter().map(|x| x.to()).collect()
}
