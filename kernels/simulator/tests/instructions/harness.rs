//! Runs one instruction, written as PTX, on rows of values.

use std::cell::RefCell;

use mdetr_simulator::compute::lower;
use mdetr_simulator::options::Approximation;
use mdetr_simulator::ptx::ast::{Body, Operand};
use mdetr_simulator::ptx::parse;
use mdetr_simulator::vm::code::Op;
use mdetr_simulator::vm::operands::Operands;
use mdetr_simulator::vm::registers::{Frame, LANES, Mask, Row};
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::{Config, TestCaseError, TestRunner};

/// What targets hold before the instruction runs.
const BEFORE: u64 = 0x5a5a_5a5a_5a5a_5a5a;

/// A register's values, of predicates too.
pub type Values = [u64; LANES];

/// Where a register lies, and its size; predicates have one bit.
#[derive(Clone, Copy, Debug)]
enum Slot {
    Value(Row, u32),
    Predicate(u32),
}

impl Slot {
    fn bits(self) -> u32 {
        if let Self::Value(_, bits) = self { bits } else { 1 }
    }
}

/// Instructions, ready to run on the registers `%p`, `%rs`, `%r`, `%rd`, `%f` and `%fd`, 0 to 15 of each.
pub struct Machine {
    ops: Vec<Op>,
    frame: Frame,
    /// By index in the syntax tree.
    slots: Vec<Slot>,
    body: Body,
}

impl Machine {
    /// Lowers `text`, an instruction (or some, with semicolons between); an answer of `None` is an error too.
    pub fn new(text: &str, approximation: Approximation) -> Result<Self, String> {
        let source = format!(
            ".version 8.8\n.target sm_90\n.address_size 64\n.visible .entry k() {{\n.reg .pred %p<16>;\n.reg .b16 %rs<16>;\n\
             .reg .b32 %r<16>;\n.reg .b64 %rd<16>;\n.reg .f32 %f<16>;\n.reg .f64 %fd<16>;\n{text};\nret;\n}}\n"
        );
        let module = parse(&source).map_err(|error| format!("{text}: {error:?}"))?;
        let body = module.functions[0].body.clone().unwrap();
        let mut operands = Operands::new(&body)?;
        operands.approximation = approximation;
        let (_, instructions) = body.instructions.split_last().unwrap();
        let mut lowered = |instruction| {
            lower(instruction, &mut operands)?.ok_or_else(|| format!("{text}: nothing that touches registers only"))
        };
        let ops = instructions.iter().map(&mut lowered).collect::<Result<_, _>>()?;
        let slot = |index| {
            let operand = Operand::Register(index);
            match operands.width(&operand) {
                Ok(bits) => Slot::Value(operands.target_row(&operand).unwrap(), bits),
                Err(_) => Slot::Predicate(operands.predicate_target(&operand).unwrap()),
            }
        };
        let slots = (0..body.registers.len()).map(slot).collect();
        let frame = operands.finish().frame;
        Ok(Self { ops, frame, slots, body })
    }

    /// The registers that are written, and those that are read before.
    fn registers(&self) -> (Vec<usize>, Vec<usize>) {
        fn of(operand: &Operand) -> Vec<usize> {
            match operand {
                Operand::Register(register) | Operand::Not(register) => vec![*register],
                Operand::Vector(parts) => parts.iter().flat_map(of).collect(),
                Operand::Pair(first, second) => [of(first), of(second)].concat(),
                _ => Vec::new(),
            }
        }
        let (mut targets, mut sources) = (Vec::new(), Vec::new());
        for instruction in &self.body.instructions {
            let mut operands = instruction.operands.iter().map(of);
            let written = operands.next().unwrap_or_default();
            for register in operands.flatten() {
                if !targets.contains(&register) && !sources.contains(&register) {
                    sources.push(register);
                }
            }
            targets.extend(written);
        }
        (targets, sources)
    }

    fn slot(&self, name: &str) -> Slot {
        self.slots[self.body.registers.iter().position(|register| register.0 == name).expect(name)]
    }

    pub fn set(&mut self, name: &str, values: Values) {
        self.write(self.slot(name), values);
    }

    pub fn get(&self, name: &str) -> Values {
        self.read(self.slot(name))
    }

    fn write(&mut self, slot: Slot, values: Values) {
        match slot {
            Slot::Value(Row::B32(index), _) => self.frame.b32[index as usize] = values.map(|value| value as u32),
            Slot::Value(Row::B64(index), _) => self.frame.b64[index as usize] = values,
            Slot::Predicate(index) => {
                let mask = (0..LANES).fold(0, |mask, lane| mask | ((values[lane] & 1) as u32) << lane);
                self.frame.predicates[index as usize] = mask;
            }
        }
    }

    fn read(&self, slot: Slot) -> Values {
        match slot {
            Slot::Value(Row::B32(index), _) => self.frame.b32[index as usize].map(u64::from),
            Slot::Value(Row::B64(index), _) => self.frame.b64[index as usize],
            Slot::Predicate(index) => {
                std::array::from_fn(|lane| u64::from(self.frame.predicates[index as usize] >> lane & 1))
            }
        }
    }

    /// The bits of `value` that a register has.
    fn cut(&self, register: usize, value: u64) -> u64 {
        value & (u64::MAX >> (64 - self.slots[register].bits()))
    }

    /// Of f64, anything that is not a number is as good as another.
    fn both_nan(&self, register: usize, a: u64, b: u64) -> bool {
        self.body.registers[register].0.starts_with("%fd") && f64::from_bits(a).is_nan() && f64::from_bits(b).is_nan()
    }

    /// Runs the instructions for the lanes of `mask`; returns those that a collective one finds at fault.
    pub fn run(&mut self, mask: Mask) -> Mask {
        self.ops.iter().fold(0, |faulty, op| match op {
            Op::Compute(run) => {
                run(&mut self.frame, mask);
                faulty
            }
            Op::Collective(collective) => faulty | (collective.run)(&mut self.frame, mask),
            _ => panic!("not an instruction on registers"),
        })
    }
}

/// Bits that are worth a try, of integers and of floating-point numbers of this size.
fn edges(bits: u32) -> Vec<u64> {
    let (precision, exponent): (u64, u64) = match bits {
        1 => return vec![0, 1],
        16 => (11, 5),
        32 => (24, 8),
        _ => (53, 11),
    };
    let (sign, one) = (1_u64 << (bits - 1), ((1_u64 << (exponent - 1)) - 1) << (precision - 1));
    let infinity = ((1 << exponent) - 1) << (precision - 1);
    let smallest = 1 << (precision - 1);
    let half = 1 << (precision - 2);
    let mut edges = vec![0, 1, 2, 7, 31, 32, u64::from(bits), u64::from(bits) + 1, 0xff, sign - 2];
    edges.extend([
        smallest - 1,
        smallest,
        one - 1,
        one,
        one + 1,
        one + half,
        one - smallest,
        one + smallest + half / 2,
    ]);
    edges.extend([one + (precision - 1) * smallest + 1, infinity - 1, infinity, infinity + 1, infinity + half]);
    // halfway between numbers of smaller formats, where the lower one is even and where it is odd
    let halfway: &[u32] = match bits {
        32 => &[12, 15],
        64 => &[28, 41, 44],
        _ => &[],
    };
    edges.extend(halfway.iter().flat_map(|&bit| [one + (1 << bit), one + (3 << bit)]));
    if bits == 16 {
        // 1.5, the largest number and infinity of bf16
        edges.extend([0x3fc0, 0x7f7f, 0x7f80]);
    }
    edges.iter().flat_map(|&edge| [edge, edge | sign, (!edge) & (sign | (sign - 1))]).collect()
}

fn value(bits: u32) -> impl Strategy<Value = u64> {
    let keep = u64::MAX >> (64 - bits);
    let exponent = [0, 4, 9, 22, 51][(bits.ilog2() as usize).saturating_sub(2)];
    prop_oneof![
        select(edges(bits)),
        any::<u64>(),
        0..64_u64,
        (-40..40_i64).prop_map(|small| small as u64),
        // floating-point numbers of like exponents
        (select(edges(bits)), -4..4_i64, any::<u16>())
            .prop_map(move |(edge, up, low)| { edge.wrapping_add((up << exponent) as u64) ^ u64::from(low & 0xff) }),
    ]
    .prop_map(move |value| value & keep)
}

/// The instruction `text` (or some) against its definition: of the values of the registers that it reads, in the order
/// of the text, those that it writes.
pub fn check<const N: usize>(text: &str, definition: impl Fn(&[u64]) -> [u64; N]) {
    check_as(text, Approximation::Exact, |read, _| definition(read));
}

/// As [`check`], where approximate instructions are computed in a certain way, and the definition is told what was found.
pub fn check_as<const N: usize>(
    text: &str,
    approximation: Approximation,
    definition: impl Fn(&[u64], [u64; N]) -> [u64; N],
) {
    let machine = Machine::new(text, approximation).unwrap();
    let (targets, sources) = machine.registers();
    assert_eq!(targets.len(), N, "{text}");
    let widths: Vec<_> = sources.iter().map(|&source| machine.slots[source].bits()).collect();
    let machine = RefCell::new(machine);
    let try_all = |rows: &[Values], mask: Mask| {
        let mut machine = machine.borrow_mut();
        for &target in &targets {
            let (slot, before) = (machine.slots[target], machine.cut(target, BEFORE));
            machine.write(slot, [before; LANES]);
        }
        for (&source, row) in sources.iter().zip(rows) {
            let slot = machine.slots[source];
            machine.write(slot, *row);
        }
        let before: [Values; N] = std::array::from_fn(|i| machine.read(machine.slots[targets[i]]));
        machine.run(mask);
        for lane in 0..LANES {
            let active = mask >> lane & 1 == 1;
            let read: Vec<_> = rows.iter().map(|row| row[lane]).collect();
            let found: [u64; N] = std::array::from_fn(|i| machine.read(machine.slots[targets[i]])[lane]);
            let expected = if active { definition(&read, found) } else { before.map(|row| row[lane]) };
            for (&target, (found, expected)) in targets.iter().zip(found.into_iter().zip(expected)) {
                let expected = machine.cut(target, expected);
                if found != expected && !machine.both_nan(target, found, expected) {
                    return Err(format!("{text}: of {read:x?} expected {expected:#x}, found {found:#x}"));
                }
            }
        }
        Ok(())
    };
    for rows in combinations(&widths) {
        try_all(&rows, Mask::MAX).unwrap();
    }
    let row = |&bits: &u32| proptest::array::uniform32(value(bits));
    let rows: Vec<_> = widths.iter().map(row).collect();
    let mut runner = TestRunner::new(Config { cases: 48, failure_persistence: None, ..Config::default() });
    let result = runner.run(&(rows, any::<Mask>()), |(rows, mask)| try_all(&rows, mask).map_err(TestCaseError::fail));
    result.unwrap();
}

/// All combinations of edge cases of up to three registers, warp by warp.
fn combinations(widths: &[u32]) -> Vec<Vec<Values>> {
    if widths.len() > 3 {
        return Vec::new();
    }
    let step = if widths.len() == 3 { 2 } else { 1 };
    let edges: Vec<Vec<_>> = widths.iter().map(|&bits| edges(bits).into_iter().step_by(step).collect()).collect();
    let count: usize = edges.iter().map(Vec::len).product();
    let pick = |register: usize, index: usize| {
        let before: usize = edges[..register].iter().map(Vec::len).product();
        edges[register][index / before % edges[register].len()]
    };
    (0..count.div_ceil(LANES))
        .map(|warp| {
            let lanes = |register| std::array::from_fn(|lane| pick(register, (warp * LANES + lane) % count));
            (0..widths.len()).map(lanes).collect()
        })
        .collect()
}
