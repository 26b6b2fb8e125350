//! Atomics: whatever the order in which threads come, their old values have to form a chain from the first to the
//! last.

use std::ops::Range;

use bytemuck::Pod;
use half::{bf16, f16};
use mdetr_simulator::options::Options;

use crate::common::Arg;
use crate::support::{Float, Loaded, Random, for_each_device, schedules};

/// Values as bits; what an operation makes of a cell.
type Apply = fn(u64, u64) -> u64;

const CELLS: usize = 5;

/// An operation, and operands of it.
struct Operation {
    kernel: &'static str,
    apply: Apply,
    first: u64,
    operands: Vec<u64>,
}

/// Whether `old` values can have been met by operations with `operands`, one after another from `first` to `last`.
fn is_chain(apply: Apply, first: u64, last: u64, operands: &[u64], old: &[u64]) -> bool {
    let mut left: Vec<(u64, u64)> = old.iter().copied().zip(operands.iter().copied()).collect();
    let mut now = first;
    while !left.is_empty() {
        // those that change nothing come first: their old value may never be met again
        let met = |&(old, operand): &(u64, u64)| old == now && apply(old, operand) == now;
        let Some(next) = left.iter().position(met).or_else(|| left.iter().position(|(old, _)| *old == now)) else {
            return false;
        };
        now = apply(now, left.swap_remove(next).1);
    }
    now == last
}

fn check<T: Pod>(loaded: &mut Loaded, operation: &Operation, of: fn(u64) -> T, bits: fn(T) -> u64) {
    let Operation { kernel, apply, first, operands } = operation;
    let n = operands.len();
    let x = loaded.device.upload(&operands.iter().map(|&x| of(x)).collect::<Vec<T>>());
    let of_cell = |cell: usize| operands.iter().skip(cell).step_by(CELLS).copied();
    for (space, grid) in [("global", 3), ("shared", 1)] {
        for with_old in [false, true] {
            let y = loaded.device.upload(&[of(*first); CELLS]);
            let old = loaded.device.uninitialized::<T>(n);
            let mut args: Vec<Arg> = vec![(&y).into(), (&x).into(), (CELLS as i32).into(), (n as i32).into()];
            let mut name = format!("{kernel}_{space}");
            if with_old {
                args.insert(1, (&old).into());
                name += "_old";
            }
            loaded.launch(&name, [grid, 1, 1], [64, 1, 1], 0, &args);
            let y: Vec<u64> = loaded.device.download(&y).into_iter().map(bits).collect();
            let old: Option<Vec<u64>> =
                with_old.then(|| loaded.device.download(&old).into_iter().map(bits).collect());
            for (cell, &last) in y.iter().enumerate() {
                let right = match &old {
                    Some(old) => {
                        let old: Vec<u64> = old.iter().skip(cell).step_by(CELLS).copied().collect();
                        is_chain(*apply, *first, last, &of_cell(cell).collect::<Vec<_>>(), &old)
                    }
                    None if kernel.starts_with("exch") => of_cell(cell).any(|x| x == last),
                    None => of_cell(cell).fold(*first, apply) == last,
                };
                assert!(right, "{name}, cell {cell} is {last:#x}, old values {old:x?} ({})", loaded.name);
            }
        }
    }
}

/// As many as there are bits, for every cell.
fn single_bits(count: u32) -> Vec<u64> {
    (0..count as usize * CELLS).map(|i| 1 << (i / CELLS)).collect()
}

fn random(range: Range<i64>) -> Vec<u64> {
    let mut random = Random(range.start as u64 ^ 1);
    (0..301).map(|_| (range.start + random.below((range.end - range.start) as u64) as i64) as u64).collect()
}

/// Small whole numbers, whose sums are exact.
fn whole<T: Float>(bits: fn(T) -> u64) -> Vec<u64> {
    random(1..4).into_iter().map(|x| bits(T::of(x as f64))).collect()
}

fn operation(kernel: &'static str, first: u64, operands: Vec<u64>, apply: Apply) -> Operation {
    Operation { kernel, apply, first, operands }
}

fn of_32_bits() -> Vec<Operation> {
    let f = |x: u64| f32::from_bits(x as u32);
    let bits = |x: f32| u64::from(x.to_bits());
    let all = u64::from(u32::MAX);
    let unique = || (1..=200).map(|i| i * 0x0101_0101).collect();
    vec![
        operation("add_i32", 0x7fff_fff0, random(1..1000), |a, b| a.wrapping_add(b) & 0xffff_ffff),
        operation("add_u32", 5, random(1..1000), |a, b| (a + b) & 0xffff_ffff),
        operation("add_f32", bits(0.5), whole::<f32>(bits), move |a, b| {
            u64::from((f32::from_bits(a as u32) + f32::from_bits(b as u32)).to_bits())
        }),
        operation("sub_i32", 100, random(1..1000), |a, b| a.wrapping_sub(b) & 0xffff_ffff),
        operation("sub_u32", 100, random(1..1000), |a, b| a.wrapping_sub(b) & 0xffff_ffff),
        operation("min_i32", 50, random(-100..100), |a, b| u64::from((a as i32).min(b as i32) as u32)),
        operation("max_i32", all - 50, random(-100..100), |a, b| u64::from((a as i32).max(b as i32) as u32)),
        operation("min_u32", all, random(-100..100), |a, b| a.min(b & 0xffff_ffff)),
        operation("max_u32", 0, random(-100..100), |a, b| a.max(b & 0xffff_ffff)),
        operation("max_f32", bits(f(bits(-1e30))), whole::<f32>(bits), |a, b| {
            u64::from(f32::from_bits(a as u32).max(f32::from_bits(b as u32)).to_bits())
        }),
        operation("and_u32", all, single_bits(32).into_iter().map(|x| !x & 0xffff_ffff).collect(), |a, b| a & b),
        operation("or_u32", 0, single_bits(32), |a, b| a | b),
        operation("xor_u32", 0xf0f0, single_bits(32), |a, b| a ^ b),
        operation("exch_u32", 0, unique(), |_, b| b),
        operation("exch_f32", 0, unique(), |_, b| b),
        operation("inc_u32", 0, vec![6; 200], |a, b| if a >= b { 0 } else { a + 1 }),
        operation("dec_u32", 0, vec![6; 200], |a, b| if a == 0 || a > b { b } else { a - 1 }),
        operation("cas_u32", 7, random(1..1000), |a, b| a + b),
    ]
}

fn of_64_bits() -> Vec<Operation> {
    let bits = f64::to_bits;
    vec![
        operation("add_u64", u64::MAX - 10, random(1..1 << 40), u64::wrapping_add),
        operation("add_f64", bits(0.25), whole::<f64>(bits), |a, b| {
            (f64::from_bits(a) + f64::from_bits(b)).to_bits()
        }),
        operation("min_i64", 1 << 40, random(-(1 << 50)..1 << 50), |a, b| (a as i64).min(b as i64) as u64),
        operation("max_i64", 1 << 63, random(-(1 << 50)..1 << 50), |a, b| (a as i64).max(b as i64) as u64),
        operation("min_u64", u64::MAX, random(-(1 << 50)..1 << 50), u64::min),
        operation("max_u64", 0, random(-(1 << 50)..1 << 50), u64::max),
        operation("and_u64", u64::MAX, single_bits(64).into_iter().map(|x| !x).collect(), |a, b| a & b),
        operation("or_u64", 0, single_bits(64), |a, b| a | b),
        operation("xor_u64", 0xf0f0 << 32, single_bits(64), |a, b| a ^ b),
        operation("exch_u64", 0, (1..=200).map(|i| i * 0x0101_0101_0101).collect(), |_, b| b),
        operation("cas_u64", 1 << 40, random(1..1000), |a, b| a + b),
    ]
}

fn add_f16(a: u64, b: u64) -> u64 {
    f16::of(f16::from_bits(a as u16).to() + f16::from_bits(b as u16).to()).to_bits().into()
}

fn add_bf16(a: u64, b: u64) -> u64 {
    bf16::of(bf16::from_bits(a as u16).to() + bf16::from_bits(b as u16).to()).to_bits().into()
}

fn halves() -> Vec<u64> {
    whole::<f16>(|x| x.to_bits().into())
}

/// Of which sums stay exact in 8 bits.
fn few_bf16() -> Vec<u64> {
    let one = |i: u64| u64::from(bf16::of((1 + i % 2) as f64).to_bits());
    (0..200).map(one).collect()
}

/// The same in both halves, but for a factor of -1.
fn pairs(values: Vec<u64>) -> Vec<u64> {
    values.into_iter().map(|x| x | (x ^ 0x8000) << 16).collect()
}

/// Both halves.
fn twice(apply: Apply, a: u64, b: u64) -> u64 {
    apply(a & 0xffff, b & 0xffff) | apply(a >> 16, b >> 16) << 16
}

#[test]
fn every_operation_and_width() {
    for_each_device("atomics", &schedules(), |loaded| {
        for operation in of_32_bits() {
            check(loaded, &operation, |x| x as u32, u64::from);
        }
        for operation in of_64_bits() {
            check(loaded, &operation, |x| x, |x| x);
        }
        check(loaded, &operation("add_f16", 0, halves(), add_f16), |x| x as u16, u64::from);
        let two = operation("add_f16x2", 0, pairs(halves()), |a, b| twice(add_f16, a, b));
        check(loaded, &two, |x| x as u32, u64::from);
        check(loaded, &operation("cas_u16", 7, random(1..100), |a, b| (a + b) & 0xffff), |x| x as u16, u64::from);
        scopes(loaded);
    });
}

/// Below compute_90 the header's atomicAdd begins with a plain load of what others may be adding to: a race, if a
/// harmless one.
#[test]
fn bf16_which_the_header_emulates() {
    let options = schedules().map(|options| Options { races: false, ..options });
    for_each_device("atomics", &options, |loaded| {
        check(loaded, &operation("add_bf16", 0, few_bf16(), add_bf16), |x| x as u16, u64::from);
        let two = operation("add_bf16x2", 0, pairs(few_bf16()), |a, b| twice(add_bf16, a, b));
        check(loaded, &two, |x| x as u32, u64::from);
    });
}

/// One block: what reaches no further than that may not be what blocks share.
fn scopes(loaded: &mut Loaded) {
    let (n, y) = (100, loaded.device.zeros::<u32>(6));
    loaded.launch_over("scopes", n, 128, &[(&y).into(), (n as i32).into()]);
    let n = n as u32;
    loaded.assert_same("scopes", &loaded.device.download::<u32>(&y), &[n, n, n, n, n, n - 1]);
}
