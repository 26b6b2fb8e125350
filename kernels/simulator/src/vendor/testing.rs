//! What the tests of the stand-ins share: numbers, and memory to put them in.

use super::{Dtype, Refusal, Rounding, load, store};
use crate::driver::library::{LibraryCall, Region};
use crate::memory::Memory;

/// Reproducible numbers in [-1, 1).
pub struct Random(u64);

impl Random {
    /// Those of a seed.
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// The next one.
    pub fn draw(&mut self) -> f64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 40) as f64 / (1u64 << 23) as f64 - 1.0
    }
}

/// Allocates `len` elements, random and rounded to `dtype`.
pub fn random(memory: &mut Memory, dtype: Dtype, len: usize, random: &mut Random) -> u64 {
    let values: Vec<f64> = (0..len).map(|_| random.draw()).collect();
    let address = memory.allocate(len as u64 * dtype.size(), "");
    store(memory, dtype, address, &values);
    address
}

/// `len` elements; what nothing wrote is NaN.
pub fn values(memory: &Memory, dtype: Dtype, address: u64, len: usize) -> Vec<f64> {
    let mut values = vec![0.0; len];
    if len > 0 {
        load(memory, dtype, Rounding::Exact, address, &mut values);
    }
    values
}

/// The distance from 1 to the next number.
pub fn epsilon(dtype: Dtype) -> f64 {
    match dtype {
        Dtype::F16 => 2f64.powi(-10),
        Dtype::Bf16 => 2f64.powi(-7),
        Dtype::F32 => f64::from(f32::EPSILON),
        Dtype::F64 => f64::EPSILON,
    }
}

/// What a product's result may be off by: a rounding to `dtype`, and one in f32 (f64) for each of `terms`.
pub fn tolerance(dtype: Dtype, expected: f64, terms: usize) -> f64 {
    let sums = epsilon(if dtype == Dtype::F64 { Dtype::F64 } else { Dtype::F32 });
    epsilon(dtype) * expected.abs() + sums * (terms as f64 + expected.abs())
}

/// To TF32 by definition: 11 significant bits, ties away from zero.
pub fn tf32(value: f64) -> f64 {
    let unit = 2f64.powi(value.abs().log2().floor() as i32 - 10);
    (value / unit).round() * unit
}

/// Runs a call on memory where all that it does not say it reads is NaN, and checks that it writes nothing but what it
/// says, and that what it reads is there and was written.
pub fn submit(memory: &Memory, call: LibraryCall) {
    let covered = |regions: &[Region], address: u64, bytes: u64| {
        let mut covered = vec![false; bytes as usize];
        for Region { address: start, rows, row_bytes, pitch } in regions {
            let at = (0..*rows).flat_map(|row| (0..*row_bytes).map(move |byte| start + row * pitch + byte));
            let inside = at.filter_map(|at| at.checked_sub(address).filter(|&offset| offset < bytes));
            inside.for_each(|offset| covered[offset as usize] = true);
        }
        covered
    };
    for Region { address, rows, row_bytes, pitch } in call.reads.iter().chain(&call.writes) {
        memory.find(*address, (rows - 1) * pitch + row_bytes).expect("inside of an allocation");
    }
    let mut before = Vec::new();
    for allocation in memory.live() {
        for (offset, read) in covered(&call.reads, allocation.address, allocation.bytes).into_iter().enumerate() {
            if read {
                assert_eq!(allocation.first_unwritten(offset as u64, 1), None, "{}: not written", call.name);
            } else {
                allocation.data.store::<u8>(offset as u64, 0xff);
            }
        }
        before.push(allocation.read(0, allocation.bytes));
    }
    (call.run)(memory);
    for (allocation, before) in memory.live().zip(before) {
        let after = allocation.read(0, allocation.bytes);
        let writes = covered(&call.writes, allocation.address, allocation.bytes);
        let kept = before.iter().zip(after).zip(writes).all(|((&before, after), written)| written || before == after);
        assert!(kept, "{}: writes what it does not say", call.name);
    }
}

/// Checks that a call is refused, for a reason that contains `reason`.
#[track_caller]
pub fn refused(call: Result<LibraryCall, Refusal>, invalid: bool, reason: &str) {
    match call.map(|call| call.name).expect_err(reason) {
        Refusal::Invalid(why) if invalid => assert!(why.contains(reason), "{why}, expected {reason}"),
        Refusal::Unsupported(why) if !invalid => assert!(why.contains(reason), "{why}, expected {reason}"),
        other => panic!("{other:?}, expected {reason}"),
    }
}
