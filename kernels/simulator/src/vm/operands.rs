//! Operands to rows of a frame.

use std::collections::HashMap;

use super::registers::{Frame, LANES, Lane, Predicate, Reg, Row};
use crate::options::{Approximation, options};
use crate::ptx::ast::{Body, Operand, Type};

/// Where a declared register lies.
#[derive(Clone, Copy, Debug)]
enum Slot {
    Value(Row, u32),
    Predicate(u32),
}

/// Gives every register, constant and special register of a function a row.
#[derive(Debug)]
pub struct Operands<'a> {
    /// How approximate instructions are computed.
    pub approximation: Approximation,
    body: &'a Body,
    slots: Vec<Slot>,
    frame: Frame,
    constants32: HashMap<u32, u32>,
    constants64: HashMap<u64, u32>,
    specials: HashMap<String, u32>,
    sinks: Option<[u32; 3]>,
    carry: Option<u32>,
    arguments: u32,
}

/// The layout of a function's frame.
#[derive(Clone, Debug)]
pub struct Layout {
    /// A fresh frame, constants filled in.
    pub frame: Frame,
    /// The first row of [`Frame::b64`] after the declared registers: parameters start there.
    pub arguments: u32,
    /// Special registers by name, and the row of [`Frame::b32`] that each expects its values in.
    pub specials: Vec<(String, u32)>,
}

impl Operands<'_> {
    /// The registers of `body`.
    ///
    /// # Errors
    /// Names a type that is not modelled.
    pub fn new(body: &Body) -> Result<Operands<'_>, String> {
        let mut frame = Frame::default();
        let slots = body.registers.iter().map(|(name, ty)| {
            Ok(match ty {
                Type::Pred => {
                    frame.predicates.push(0);
                    Slot::Predicate(frame.predicates.len() as u32 - 1)
                }
                Type::B128 => return Err(format!("register {name}: 128-bit registers are not modelled")),
                Type::B64 | Type::U64 | Type::S64 | Type::F64 => {
                    frame.b64.push([0; LANES]);
                    Slot::Value(Row::B64(frame.b64.len() as u32 - 1), 64)
                }
                _ => {
                    frame.b32.push([0; LANES]);
                    let bits = match ty {
                        Type::B8 | Type::U8 | Type::S8 => 8,
                        Type::B16 | Type::U16 | Type::S16 | Type::F16 | Type::Bf16 => 16,
                        _ => 32,
                    };
                    Slot::Value(Row::B32(frame.b32.len() as u32 - 1), bits)
                }
            })
        });
        let slots = slots.collect::<Result<_, String>>()?;
        Ok(Operands {
            approximation: options().approximation,
            body,
            slots,
            arguments: frame.b64.len() as u32,
            frame,
            constants32: HashMap::new(),
            constants64: HashMap::new(),
            specials: HashMap::new(),
            sinks: None,
            carry: None,
        })
    }

    /// The layout, when every instruction has been lowered.
    pub fn finish(self) -> Layout {
        Layout { frame: self.frame, arguments: self.arguments, specials: self.specials.into_iter().collect() }
    }

    /// A register or an immediate that an instruction of type `T` reads.
    ///
    /// # Errors
    /// If it is neither, or has another size.
    pub fn source<T: Lane>(&mut self, operand: &Operand) -> Result<Reg<T>, String> {
        match operand {
            Operand::Register(register) => self.declared(*register),
            _ => match self.constant(operand, T::BITS)? {
                Row::B32(index) | Row::B64(index) => Ok(Reg::new(index)),
            },
        }
    }

    /// A register that an instruction of type `T` writes; `_` is a row that nobody reads.
    ///
    /// # Errors
    /// If it is no register, or has another size.
    pub fn target<T: Lane>(&mut self, operand: &Operand) -> Result<Reg<T>, String> {
        match operand {
            Operand::Register(register) => self.declared(*register),
            Operand::Sink => Ok(Reg::new(self.sinks()[usize::from(T::BITS == 64)])),
            other => Err(format!("expected a register, found {other:?}")),
        }
    }

    /// A register of any size, or an immediate of `bits` bits, whose low bits an instruction reads.
    ///
    /// # Errors
    /// If it is neither.
    pub fn source_row(&mut self, operand: &Operand, bits: u32) -> Result<Row, String> {
        match operand {
            Operand::Register(register) => self.row(*register),
            _ => self.constant(operand, bits),
        }
    }

    /// A register of any size that an instruction writes; `_` is a row that nobody reads.
    ///
    /// # Errors
    /// If it is no register.
    pub fn target_row(&mut self, operand: &Operand) -> Result<Row, String> {
        match operand {
            Operand::Register(register) => self.row(*register),
            Operand::Sink => Ok(Row::B64(self.sinks()[1])),
            other => Err(format!("expected a register, found {other:?}")),
        }
    }

    /// Bits of a declared register's type.
    ///
    /// # Errors
    /// If it is a predicate, or no register.
    pub fn width(&self, operand: &Operand) -> Result<u32, String> {
        match operand {
            Operand::Register(register) => match self.slots[*register] {
                Slot::Value(_, bits) => Ok(bits),
                Slot::Predicate(_) => Err(format!("{} is a predicate", self.name(*register))),
            },
            other => Err(format!("expected a register, found {other:?}")),
        }
    }

    /// Whether the operand is a predicate register, negated or not.
    pub fn is_predicate(&self, operand: &Operand) -> bool {
        matches!(operand, Operand::Register(r) | Operand::Not(r) if matches!(self.slots[*r], Slot::Predicate(_)))
    }

    /// A predicate that an instruction reads: `%p1`, `!%p1`, or an immediate 0 or 1.
    ///
    /// # Errors
    /// If it is none.
    pub fn predicate(&mut self, operand: &Operand) -> Result<Predicate, String> {
        match operand {
            Operand::Register(register) => self.guard(*register, false),
            Operand::Not(register) => self.guard(*register, true),
            Operand::Integer(value) => {
                self.frame.predicates.push(if *value == 0 { 0 } else { u32::MAX });
                Ok(Predicate { index: self.frame.predicates.len() as u32 - 1, negated: false })
            }
            other => Err(format!("expected a predicate, found {other:?}")),
        }
    }

    /// A guard.
    ///
    /// # Errors
    /// If the register is no predicate.
    pub fn guard(&self, register: usize, negated: bool) -> Result<Predicate, String> {
        match self.slots[register] {
            Slot::Predicate(index) => Ok(Predicate { index, negated }),
            Slot::Value(..) => Err(format!("{} is no predicate", self.name(register))),
        }
    }

    /// A predicate that an instruction writes.
    ///
    /// # Errors
    /// If it is none.
    pub fn predicate_target(&mut self, operand: &Operand) -> Result<u32, String> {
        match operand {
            Operand::Register(register) => Ok(self.guard(*register, false)?.index),
            Operand::Sink => Ok(self.sinks()[2]),
            other => Err(format!("expected a predicate, found {other:?}")),
        }
    }

    /// The predicate that holds the carry between `add.cc`, `addc` and their like.
    pub fn carry(&mut self) -> u32 {
        *self.carry.get_or_insert_with(|| {
            self.frame.predicates.push(0);
            self.frame.predicates.len() as u32 - 1
        })
    }

    /// A row with a value that only the machine knows when it runs, the address of a variable for one.
    pub fn known_later(&mut self, name: &str) -> Row {
        Row::B32(*self.specials.entry(name.to_owned()).or_insert_with(|| {
            self.frame.b32.push([0; LANES]);
            self.frame.b32.len() as u32 - 1
        }))
    }

    /// A row of 64 bits that holds `value` in every lane.
    pub fn constant64(&mut self, value: u64) -> Reg<u64> {
        Reg::new(*self.constants64.entry(value).or_insert_with(|| {
            self.frame.b64.push([value; LANES]);
            self.frame.b64.len() as u32 - 1
        }))
    }

    /// A row of 32 bits that holds `value` in every lane.
    pub fn constant32(&mut self, value: u32) -> Reg<u32> {
        Reg::new(*self.constants32.entry(value).or_insert_with(|| {
            self.frame.b32.push([value; LANES]);
            self.frame.b32.len() as u32 - 1
        }))
    }

    /// The first of `count` new rows of 64 bits, for a variable in parameter space.
    pub fn rows64(&mut self, count: u64) -> u32 {
        let first = self.frame.b64.len();
        self.frame.b64.resize(first + count as usize, [0; LANES]);
        first as u32
    }

    /// The name of a declared register.
    pub fn name(&self, register: usize) -> &str {
        &self.body.registers[register].0
    }

    fn sinks(&mut self) -> [u32; 3] {
        let frame = &mut self.frame;
        *self.sinks.get_or_insert_with(|| {
            frame.b32.push([0; LANES]);
            frame.b64.push([0; LANES]);
            frame.predicates.push(0);
            [frame.b32.len(), frame.b64.len(), frame.predicates.len()].map(|len| len as u32 - 1)
        })
    }

    fn row(&self, register: usize) -> Result<Row, String> {
        match self.slots[register] {
            Slot::Value(row, _) => Ok(row),
            Slot::Predicate(_) => Err(format!("{} is a predicate", self.name(register))),
        }
    }

    fn declared<T: Lane>(&self, register: usize) -> Result<Reg<T>, String> {
        match self.slots[register] {
            Slot::Value(Row::B32(index) | Row::B64(index), bits) if bits == T::BITS => Ok(Reg::new(index)),
            Slot::Value(_, bits) => {
                Err(format!("{} has {bits} bits, the instruction {}", self.name(register), T::BITS))
            }
            Slot::Predicate(_) => Err(format!("{} is a predicate", self.name(register))),
        }
    }

    /// The row of an immediate or a special register for an instruction of `bits` bits.
    fn constant(&mut self, operand: &Operand, bits: u32) -> Result<Row, String> {
        let value = match operand {
            Operand::Integer(value) => *value,
            Operand::Float(value) => u64::from(*value),
            // a decimal literal takes the type of the instruction
            Operand::Double(value) if bits == 32 => u64::from((f64::from_bits(*value) as f32).to_bits()),
            Operand::Double(value) => *value,
            Operand::Special(name) if bits == 32 => return Ok(self.known_later(name)),
            other => return Err(format!("expected a register or a number of {bits} bits, found {other:?}")),
        };
        Ok(match bits {
            64 => Row::B64(self.constant64(value).index),
            _ => Row::B32(self.constant32((value & (u64::MAX >> (64 - bits))) as u32).index),
        })
    }
}
