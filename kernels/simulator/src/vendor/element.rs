//! Elements of device memory, as numbers to compute with.

use std::fmt;
use std::ops::{Add, AddAssign, Mul};

use half::{bf16, f16};

use crate::memory::Memory;

/// The types of elements that the stand-ins compute with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dtype {
    /// IEEE half.
    F16,
    /// The upper half of an f32.
    Bf16,
    /// IEEE single.
    F32,
    /// IEEE double.
    F64,
}

impl Dtype {
    /// Bytes of an element.
    pub const fn size(self) -> u64 {
        match self {
            Self::F16 | Self::Bf16 => 2,
            Self::F32 => 4,
            Self::F64 => 8,
        }
    }
}

impl fmt::Display for Dtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::F16 => "f16",
            Self::Bf16 => "bf16",
            Self::F32 => "f32",
            Self::F64 => "f64",
        })
    }
}

/// What tensor cores do to f32 factors before they multiply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rounding {
    /// Nothing.
    Exact,
    /// 10 bits of mantissa.
    Tf32,
    /// To f16.
    F16,
}

impl Rounding {
    fn apply(self, value: f32) -> f32 {
        match self {
            Self::Exact => value,
            // To the nearest, ties away from zero. A carry into the exponent is what rounding up means there.
            Self::Tf32 if value.is_finite() => f32::from_bits(value.to_bits().wrapping_add(1 << 12) & !0x1fff),
            Self::Tf32 => value,
            Self::F16 => f16::from_f32(value).to_f32(),
        }
    }
}

/// The types that sums are kept in.
pub trait Real:
    Copy + Default + PartialOrd + Send + Sync + 'static + Add<Output = Self> + AddAssign + Mul<Output = Self>
{
    /// One.
    const ONE: Self;

    /// The nearest to an f64.
    fn new(value: f64) -> Self;
    /// As an f64.
    fn to_f64(self) -> f64;
}

impl Real for f32 {
    const ONE: Self = 1.0;

    fn new(value: f64) -> Self {
        value as f32
    }

    fn to_f64(self) -> f64 {
        self.into()
    }
}

impl Real for f64 {
    const ONE: Self = 1.0;

    fn new(value: f64) -> Self {
        value
    }

    fn to_f64(self) -> f64 {
        self
    }
}

/// Loads elements from `address` on into `to`.
///
/// # Panics
/// If they are not all inside of one allocation, or not aligned: both are checked before a call runs.
pub fn load<R: Real>(memory: &Memory, dtype: Dtype, rounding: Rounding, address: u64, to: &mut [R]) {
    let (allocation, start) = memory.find(address, to.len() as u64 * dtype.size()).expect("bounds were checked");
    let data = &allocation.data;
    let single = |value: f32| R::new(rounding.apply(value).into());
    let offsets = (start..).step_by(dtype.size() as usize);
    match dtype {
        Dtype::F16 => {
            to.iter_mut().zip(offsets).for_each(|(x, at)| *x = single(f16::from_bits(data.load(at)).into()))
        }
        Dtype::Bf16 => {
            to.iter_mut().zip(offsets).for_each(|(x, at)| *x = single(bf16::from_bits(data.load(at)).into()))
        }
        Dtype::F32 => to.iter_mut().zip(offsets).for_each(|(x, at)| *x = single(f32::from_bits(data.load(at)))),
        Dtype::F64 => to.iter_mut().zip(offsets).for_each(|(x, at)| *x = R::new(f64::from_bits(data.load(at)))),
    }
}

/// Stores `from` to `address`, rounded once to the nearest.
///
/// # Panics
/// As [`load`].
pub fn store<R: Real>(memory: &Memory, dtype: Dtype, address: u64, from: &[R]) {
    let (allocation, start) = memory.find(address, from.len() as u64 * dtype.size()).expect("bounds were checked");
    let mut bytes = Vec::with_capacity(from.len() * dtype.size() as usize);
    for value in from.iter().map(|value| value.to_f64()) {
        match dtype {
            // An f32 sum is an exact f64, so that this rounds once.
            Dtype::F16 => bytes.extend_from_slice(&f16::from_f64(value).to_ne_bytes()),
            Dtype::Bf16 => bytes.extend_from_slice(&bf16::from_f64(value).to_ne_bytes()),
            Dtype::F32 => bytes.extend_from_slice(&(value as f32).to_ne_bytes()),
            Dtype::F64 => bytes.extend_from_slice(&value.to_ne_bytes()),
        }
    }
    allocation.write(start, &bytes);
}
