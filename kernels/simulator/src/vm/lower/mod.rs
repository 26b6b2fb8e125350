//! The syntax tree of a function to code. What only touches registers is `compute`'s; what touches memory, other threads
//! or the program counter is here.

mod access;
mod atomic;
mod control;
mod parameters;

use std::collections::HashMap;

use super::clocks::Scope;
use super::code::{Address, Function, Instruction, Op, Space};
use super::operands::Operands;
use super::registers::{Reg, Row};
use crate::compute;
use crate::ptx::ast::{self, Operand, Symbol};
use parameters::Parameters;
pub use parameters::offsets;

/// What a module's names stand for.
#[derive(Debug, Default)]
pub struct Symbols {
    /// Addresses of `.global` and `.const` variables.
    pub global: HashMap<String, u64>,
    /// Addresses in shared space of module variables.
    pub shared: HashMap<String, u64>,
    /// Functions with a body, by index.
    pub functions: HashMap<String, usize>,
}

/// A message and the line of the PTX that it is about.
pub type Located = (u32, String);

/// Lowers one function.
pub struct Lowering<'a> {
    /// Rows of registers and constants.
    operands: Operands<'a>,
    function: &'a ast::Function,
    body: &'a ast::Body,
    /// All functions of the module: a call has to know its callee's parameters.
    module: &'a ast::Module,
    symbols: &'a Symbols,
    /// Addresses of the body's `.shared` variables and offsets of its `.local` ones, by index.
    variables: &'a [u64],
    parameters: Parameters,
}

/// Makes a function's code. `variables` has an address for each of the body's shared variables, and an offset for the
/// local ones.
///
/// # Errors
/// The first instruction that is wrong or not modelled.
pub fn function(
    function: &ast::Function,
    body: &ast::Body,
    module: &ast::Module,
    symbols: &Symbols,
    variables: &[u64],
    local: u64,
) -> Result<Function, Located> {
    let mut operands = Operands::new(body).map_err(|message| (0, message))?;
    let parameters = Parameters::new(function, body, &mut operands);
    let mut lowering = Lowering { operands, function, body, module, symbols, variables, parameters };
    let mut code = Vec::with_capacity(body.instructions.len());
    for instruction in &body.instructions {
        let op = lowering
            .op(instruction)
            .map_err(|message| (instruction.line, format!("{}: {message}", instruction.opcode.join("."))))?;
        let guard = instruction.guard.map(|(register, negated)| lowering.operands.guard(register, negated));
        code.push(Instruction {
            op,
            guard: guard.transpose().map_err(|message| (instruction.line, message))?,
            location: instruction.location,
            line: instruction.line,
        });
    }
    Ok(Function { name: function.name.clone(), code, layout: lowering.operands.finish(), local })
}

impl Lowering<'_> {
    fn op(&mut self, instruction: &ast::Instruction) -> Result<Op, String> {
        let opcode: Vec<&str> = instruction.opcode.iter().map(String::as_str).collect();
        let operands = &instruction.operands[..];
        match opcode[..] {
            ["ld", .., "param", _] | ["st", .., "param", _] | ["ld" | "st", "param", ..]
                if let Some(op) = self.parameter_access(&opcode, operands)? =>
            {
                Ok(op)
            }
            ["ld" | "ldu", ..] => self.load(&opcode[1..], operands),
            ["st", ..] => self.store(&opcode[1..], operands),
            ["atom", ..] => self.atomic(&opcode[1..], operands, true),
            ["red", ..] => self.atomic(&opcode[1..], operands, false),
            ["ldmatrix" | "stmatrix", ..] => self.matrix(&opcode, operands),
            ["cp", "async", ..] => self.copy_async(&opcode[2..], operands),
            ["bra" | "brx" | "call" | "ret" | "exit" | "trap" | "brkpt", ..] => self.control(&opcode, operands),
            ["bar" | "barrier", ..] => self.barrier(&opcode, operands),
            ["fence" | "membar", ..] => fence(&opcode),
            ["mov", ..]
                if let [target, Operand::Special(name)] = operands
                    && is_clock(name) =>
            {
                Ok(Op::Clock(self.operands.target_row(target)?))
            }
            ["mov", ..]
                if let [target, Operand::Special(_)] = operands
                    && self.operands.width(target) == Ok(64) =>
            {
                Err(format!("{:?} is not modelled", operands[1]))
            }
            ["mov", _] if let [target, Operand::Symbol(symbol, offset)] = operands => {
                self.address_of(target, symbol, *offset)
            }
            _ => compute::lower(instruction, &mut self.operands)?.ok_or_else(|| "not modelled".to_owned()),
        }
    }

    /// `mov.u64 %rd1, variable;`
    fn address_of(&mut self, target: &Operand, symbol: &Symbol, offset: i64) -> Result<Op, String> {
        let address = self.symbol(symbol, offset)?;
        let target = self.operands.target_row(target)?;
        Ok(Op::Compute(Box::new(move |frame, mask| {
            let base = frame.values(address.base);
            frame.set_values(target, mask, base.map(|base| base.wrapping_add_signed(address.offset)));
        })))
    }

    /// What an address operand points to, in `space` unless it names a variable of another.
    fn address(&mut self, operand: &Operand, space: Space) -> Result<Address, String> {
        let Operand::Address(base, offset) = operand else {
            return Err(format!("expected an address, found {operand:?}"));
        };
        match &**base {
            Operand::Symbol(symbol, more) => {
                let address = self.symbol(symbol, offset.wrapping_add(*more))?;
                let agrees = space == Space::Generic || space == address.space;
                agrees.then_some(address).ok_or_else(|| format!("{symbol:?} is not in {space:?} space"))
            }
            base => Ok(Address { space, base: self.operands.source_row(base, 64)?, offset: *offset }),
        }
    }

    fn symbol(&mut self, symbol: &Symbol, offset: i64) -> Result<Address, String> {
        let constant = |lowering: &mut Self, space, address: u64| {
            let base = Row::B64(lowering.operands.constant64(address).index);
            Ok(Address { space, base, offset })
        };
        match symbol {
            Symbol::Module(name) => match (self.symbols.global.get(name), self.symbols.shared.get(name)) {
                (Some(&address), _) => constant(self, Space::Global, address),
                (_, Some(&address)) => constant(self, Space::Shared, address),
                _ => Err(format!("{name} is no variable with an address here")),
            },
            Symbol::Local(index) => match self.body.variables[*index].space {
                ast::Space::Shared => constant(self, Space::Shared, self.variables[*index]),
                ast::Space::Local => Ok(Address {
                    space: Space::Local,
                    base: self.operands.known_later(LOCAL_BASE),
                    offset: offset.wrapping_add_unsigned(self.variables[*index]),
                }),
                space => Err(format!("{} in {space:?} space has no address", self.body.variables[*index].name)),
            },
            Symbol::Parameter(index) if self.function.is_kernel => {
                constant(self, Space::Parameter, self.parameters.offset(*index))
            }
            other => Err(format!("{other:?} has no address")),
        }
    }

    fn source32(&mut self, operand: &Operand) -> Result<Reg<u32>, String> {
        self.operands.source(operand)
    }
}

/// The row that a frame's first byte of local memory is in.
pub const LOCAL_BASE: &str = "%local_base";

fn is_clock(name: &str) -> bool {
    ["%clock", "%clock64", "%clock_hi", "%globaltimer", "%globaltimer_lo"].contains(&name)
}

fn fence(opcode: &[&str]) -> Result<Op, String> {
    let mut scope = None;
    for part in &opcode[1..] {
        match *part {
            "sc" | "acq_rel" | "acquire" | "release" => {}
            "cta" => scope = Some(Scope::Block),
            "gl" | "gpu" | "sys" => scope = Some(Scope::Gpu),
            other => return Err(format!(".{other} is not modelled")),
        }
    }
    scope.map(Op::Fence).ok_or_else(|| "expected a scope".to_owned())
}
