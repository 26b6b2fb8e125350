//! A warp's registers: every register is a row of 32 lanes.

use std::marker::PhantomData;

use half::{bf16, f16};

/// Lanes of a warp.
pub const LANES: usize = 32;

/// A set of lanes, a bit each.
pub type Mask = u32;

/// The lanes of a mask, in order.
#[inline]
pub fn lanes_of(mask: Mask) -> impl Iterator<Item = usize> {
    let mut rest = mask;
    std::iter::from_fn(move || {
        let lane = rest.trailing_zeros() as usize;
        rest &= rest.wrapping_sub(1);
        (lane < LANES).then_some(lane)
    })
}

/// The mask of those lanes for which `f` is true.
#[inline]
pub fn mask_of(f: impl Fn(usize) -> bool) -> Mask {
    (0..LANES).fold(0, |mask, lane| mask | u32::from(f(lane)) << lane)
}

/// A row of either bank, for instructions whose registers may be wider than their type (`ld`, `st`, `cvt`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Row {
    /// Of [`Frame::b32`].
    B32(u32),
    /// Of [`Frame::b64`].
    B64(u32),
}

/// The registers of one call of a function by a warp. Constants and special registers are rows too, filled in when the
/// frame is made, so that an operand is always an index.
#[derive(Clone, Debug, Default)]
pub struct Frame {
    /// Registers of up to 32 bits; narrower ones have zeros above.
    pub b32: Vec<[u32; LANES]>,
    /// Registers of 64 bits.
    pub b64: Vec<[u64; LANES]>,
    /// Predicates.
    pub predicates: Vec<Mask>,
}

/// A register that holds a `T`: the index of its row.
#[derive(Debug)]
pub struct Reg<T> {
    /// Of the row in the bank of `T`.
    pub index: u32,
    kind: PhantomData<fn() -> T>,
}

impl<T> Clone for Reg<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Reg<T> {}

impl<T> Reg<T> {
    /// The register in row `index`.
    pub fn new(index: u32) -> Self {
        Self { index, kind: PhantomData }
    }
}

/// A predicate operand: `%p1` or `!%p1`.
#[derive(Clone, Copy, Debug)]
pub struct Predicate {
    /// Index into [`Frame::predicates`].
    pub index: u32,
    /// `!`.
    pub negated: bool,
}

impl Predicate {
    /// The lanes for which it is true.
    #[inline]
    pub fn get(self, frame: &Frame) -> Mask {
        frame.predicates[self.index as usize] ^ if self.negated { Mask::MAX } else { 0 }
    }
}

impl Frame {
    /// The bits in a row of either bank.
    #[inline]
    pub fn values(&self, row: Row) -> [u64; LANES] {
        match row {
            Row::B32(index) => self.b32[index as usize].map(u64::from),
            Row::B64(index) => self.b64[index as usize],
        }
    }

    /// Sets the lanes of `mask` in a row of either bank; what does not fit is cut off.
    #[inline]
    pub fn set_values(&mut self, row: Row, mask: Mask, values: [u64; LANES]) {
        match row {
            Row::B32(index) => u32::set(self, Reg::new(index), mask, values.map(|value| value as u32)),
            Row::B64(index) => u64::set(self, Reg::new(index), mask, values),
        }
    }

    /// Sets a predicate in the lanes of `mask`.
    #[inline]
    pub fn set_predicate(&mut self, index: u32, mask: Mask, value: Mask) {
        let predicate = &mut self.predicates[index as usize];
        *predicate = (*predicate & !mask) | (value & mask);
    }
}

/// What a register can hold.
pub trait Lane: Copy + Default + Send + Sync + 'static {
    /// Bits of a value.
    const BITS: u32;

    /// All lanes of a register.
    fn get(frame: &Frame, register: Reg<Self>) -> [Self; LANES];
    /// Sets the lanes of `mask`.
    fn set(frame: &mut Frame, register: Reg<Self>, mask: Mask, values: [Self; LANES]);
    /// From the low bits of an immediate.
    fn from_bits(bits: u64) -> Self;
    /// Its bits, zeros above.
    fn bits(self) -> u64;
}

/// Writes the lanes of `mask`.
#[inline]
fn blend<T: Copy>(row: &mut [T; LANES], mask: Mask, values: [T; LANES]) {
    if mask == Mask::MAX {
        *row = values;
    } else {
        for lane in 0..LANES {
            // a choice rather than a branch: the compiler makes it a vector operation
            row[lane] = if mask & (1 << lane) != 0 { values[lane] } else { row[lane] };
        }
    }
}

macro_rules! lane {
    ($($ty:ty, $bank:ident, $word:ty, $bits:literal, $from:expr, $to:expr;)*) => {$(
        impl Lane for $ty {
            const BITS: u32 = $bits;

            #[inline]
            fn get(frame: &Frame, register: Reg<Self>) -> [Self; LANES] {
                frame.$bank[register.index as usize].map($from)
            }

            #[inline]
            fn set(frame: &mut Frame, register: Reg<Self>, mask: Mask, values: [Self; LANES]) {
                blend(&mut frame.$bank[register.index as usize], mask, values.map($to));
            }

            fn from_bits(bits: u64) -> Self {
                ($from)(bits as $word)
            }

            fn bits(self) -> u64 {
                ($to)(self) as u64
            }
        }
    )*};
}

lane! {
    u8, b32, u32, 8, |w| w as u8, u32::from;
    i8, b32, u32, 8, |w| w as i8, |v| u32::from(v as u8);
    u16, b32, u32, 16, |w| w as u16, u32::from;
    i16, b32, u32, 16, |w| w as i16, |v| u32::from(v as u16);
    f16, b32, u32, 16, |w| f16::from_bits(w as u16), |v: Self| u32::from(v.to_bits());
    bf16, b32, u32, 16, |w| bf16::from_bits(w as u16), |v: Self| u32::from(v.to_bits());
    u32, b32, u32, 32, |w| w, |v| v;
    i32, b32, u32, 32, |w| w as i32, |v| v as u32;
    f32, b32, u32, 32, f32::from_bits, f32::to_bits;
    [f16; 2], b32, u32, 32, |w| [f16::from_bits(w as u16), f16::from_bits((w >> 16) as u16)],
        |[a, b]: [f16; 2]| u32::from(a.to_bits()) | u32::from(b.to_bits()) << 16;
    [bf16; 2], b32, u32, 32, |w| [bf16::from_bits(w as u16), bf16::from_bits((w >> 16) as u16)],
        |[a, b]: [bf16; 2]| u32::from(a.to_bits()) | u32::from(b.to_bits()) << 16;
    u64, b64, u64, 64, |w| w, |v| v;
    i64, b64, u64, 64, |w| w as i64, |v| v as u64;
    f64, b64, u64, 64, f64::from_bits, f64::to_bits;
}
