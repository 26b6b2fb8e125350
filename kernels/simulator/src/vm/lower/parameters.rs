//! Parameter space: arguments of kernels and calls are rows of 64 bits in the frame.

use super::Lowering;
use super::access::element;
use crate::ptx::ast::{self, Operand, Space, Symbol, Variable};
use crate::vm::code::{Call, Op};
use crate::vm::operands::Operands;
use crate::vm::registers::{Reg, Row, lanes_of};

/// The first row of every parameter, returned value and local `.param` variable.
pub struct Parameters {
    /// Byte offsets of a kernel's parameters in the launch's arguments.
    offsets: Vec<u64>,
    parameters: Vec<u32>,
    returns: Vec<u32>,
    /// By variable of the body; 0 for those of other spaces.
    locals: Vec<u32>,
}

/// Offsets of parameters one after another, and the size of all.
pub fn offsets(parameters: &[Variable]) -> (Vec<u64>, u64) {
    let mut end = 0_u64;
    let offsets = parameters.iter().map(|parameter| {
        let offset = end.next_multiple_of(parameter.align.max(1));
        end = offset + parameter.bytes;
        offset
    });
    (offsets.collect(), end)
}

/// The rows that a function's parameters and returned values take, as a caller sees them: those of its own frame.
pub fn signature(function: &ast::Function) -> (Vec<u32>, Vec<u32>) {
    let mut next = 0;
    let mut take = |variables: &[Variable]| {
        let rows = |variable: &Variable| {
            let first = next;
            next += variable.bytes.div_ceil(8) as u32;
            first
        };
        variables.iter().map(rows).collect::<Vec<u32>>()
    };
    (take(&function.parameters), take(&function.returns))
}

impl Parameters {
    /// Gives parameters their rows; a kernel's lie one after another as its arguments do. Before any other row of 64 bits.
    pub fn new(function: &ast::Function, body: &ast::Body, operands: &mut Operands<'_>) -> Self {
        let (offsets, size) = offsets(&function.parameters);
        let first = operands.rows64(0);
        let (parameters, returns) = if function.is_kernel {
            operands.rows64(size.div_ceil(8));
            (offsets.iter().map(|offset| first + (offset / 8) as u32).collect(), Vec::new())
        } else {
            let rows: u64 = function.parameters.iter().chain(&function.returns).map(|v| v.bytes.div_ceil(8)).sum();
            operands.rows64(rows);
            let (parameters, returns) = signature(function);
            (parameters.iter().map(|row| first + row).collect(), returns.iter().map(|row| first + row).collect())
        };
        let local = |variable: &Variable| match variable.space {
            Space::Param => operands.rows64(variable.bytes.div_ceil(8)),
            _ => 0,
        };
        let locals = body.variables.iter().map(local).collect();
        Self { offsets, parameters, returns, locals }
    }

    /// Of a kernel's parameter, in bytes.
    pub fn offset(&self, parameter: usize) -> u64 {
        self.offsets[parameter]
    }
}

impl Lowering<'_> {
    /// `ld.param`, `st.param` of a named variable; `None` if the address is in a register.
    pub(super) fn parameter_access(&mut self, opcode: &[&str], operands: &[Operand]) -> Result<Option<Op>, String> {
        let [a, b] = operands else { return Err("expected two operands".to_owned()) };
        let (address, value) = if opcode[0] == "ld" { (b, a) } else { (a, b) };
        let Operand::Address(base, offset) = address else { return Ok(None) };
        let Operand::Symbol(symbol, more) = &**base else { return Ok(None) };
        let Some((row, bytes, start)) = self.variable_rows(symbol) else { return Ok(None) };
        let (element_bytes, signed) = element(opcode[opcode.len() - 1])?;
        let values = match value {
            Operand::Vector(values) => &values[..],
            value => std::slice::from_ref(value),
        };
        let first = u64::try_from(offset + more).ok().filter(|f| f + element_bytes * values.len() as u64 <= bytes);
        let Some(first) = first else {
            return Err(format!("bytes {offset} and on of a parameter of {bytes} bytes"));
        };
        let mut moves = Vec::new();
        for (i, value) in values.iter().enumerate() {
            let at = start + first + element_bytes * i as u64;
            let register = if opcode[0] == "ld" {
                self.operands.target_row(value)?
            } else {
                self.operands.source_row(value, element_bytes as u32 * 8)?
            };
            let width = self.operands.width(value).unwrap_or(64);
            moves.push((register, row + (at / 8) as u32, at % 8 * 8, u64::MAX >> (64 - width)));
        }
        let bits = element_bytes as u32 * 8;
        let keep = u64::MAX >> (64 - bits);
        let fill = move |value: u64| if signed { (value << (64 - bits)) as i64 >> (64 - bits) } else { value as i64 };
        Ok(Some(Op::Compute(if opcode[0] == "ld" {
            Box::new(move |frame, mask| {
                for &(register, row, shift, all) in &moves {
                    let values = frame.b64[row as usize].map(|word| fill(word >> shift & keep) as u64 & all);
                    frame.set_values(register, mask, values);
                }
            })
        } else {
            Box::new(move |frame, mask| {
                for &(register, row, shift, _) in &moves {
                    let values = frame.values(register);
                    let row = &mut frame.b64[row as usize];
                    for lane in lanes_of(mask) {
                        row[lane] = row[lane] & !(keep << shift) | (values[lane] & keep) << shift;
                    }
                }
            })
        })))
    }

    /// A call's copies between frames.
    pub(super) fn call(&mut self, returns: &[Operand], name: &str, arguments: &[Operand]) -> Result<Op, String> {
        if name == "vprintf"
            && let [format, values] = arguments
        {
            let [format, values] = [format, values].map(|operand| self.argument_row(operand));
            let target = returns.first().map(|operand| self.argument_row(operand)).transpose()?;
            let target = target.unwrap_or_else(|| self.operands.rows64(1));
            return Ok(Op::Print(Reg::new(format?), Reg::new(values?), Row::B64(target)));
        }
        if name == "__assertfail"
            && let [message, file, line, function, ..] = arguments
        {
            let mut rows = [message, file, line, function].map(|operand| self.argument_row(operand)).into_iter();
            let mut next = || rows.next().unwrap_or(Ok(0)).map(Reg::new);
            return Ok(Op::AssertFail([next()?, next()?, next()?, next()?]));
        }
        let index = *self.symbols.functions.get(name).ok_or_else(|| format!("{name} has no body in this module"))?;
        let callee = self.module.functions.iter().find(|f| f.name == name && f.body.is_some());
        let callee = callee.ok_or_else(|| format!("{name} is not there"))?;
        if callee.is_kernel {
            return Err(format!("{name} is a kernel"));
        }
        let (parameters, results) = signature(callee);
        let first = register_rows(callee);
        let mut copies = |operands: &[Operand], variables: &[Variable], rows: &[u32]| {
            if operands.len() != variables.len() {
                return Err(format!("{name} takes {} here, found {}", variables.len(), operands.len()));
            }
            let mut copies = Vec::new();
            for ((operand, variable), row) in operands.iter().zip(variables).zip(rows) {
                let here = self.argument_row(operand)?;
                if self.argument_bytes(operand) != Some(variable.bytes) {
                    return Err(format!("{name} takes {} bytes as {}", variable.bytes, variable.name));
                }
                copies.extend((0..variable.bytes.div_ceil(8) as u32).map(|i| (here + i, first + row + i)));
            }
            Ok(copies)
        };
        let arguments = copies(arguments, &callee.parameters, &parameters)?;
        let returns = copies(returns, &callee.returns, &results)?;
        Ok(Op::Call(Call { function: index, arguments, returns }))
    }

    fn argument_row(&mut self, operand: &Operand) -> Result<u32, String> {
        match operand {
            Operand::Symbol(symbol, 0) => {
                self.variable_rows(symbol).map(|v| v.0).ok_or_else(|| format!("{symbol:?} is not in parameter space"))
            }
            other => Err(format!("expected a variable in parameter space, found {other:?}")),
        }
    }

    fn argument_bytes(&self, operand: &Operand) -> Option<u64> {
        match operand {
            Operand::Symbol(symbol, 0) => self.variable_rows(symbol).map(|rows| rows.1),
            _ => None,
        }
    }

    /// (first row, bytes, byte in the first row) of a variable in parameter space.
    fn variable_rows(&self, symbol: &Symbol) -> Option<(u32, u64, u64)> {
        let rows = &self.parameters;
        match symbol {
            Symbol::Parameter(i) if self.function.is_kernel => {
                Some((rows.parameters[*i], self.function.parameters[*i].bytes, rows.offsets[*i] % 8))
            }
            Symbol::Parameter(i) => Some((rows.parameters[*i], self.function.parameters[*i].bytes, 0)),
            Symbol::Return(i) => Some((rows.returns[*i], self.function.returns[*i].bytes, 0)),
            Symbol::Local(i) => {
                let variable = &self.body.variables[*i];
                (variable.space == Space::Param).then(|| (rows.locals[*i], variable.bytes, 0))
            }
            Symbol::Module(_) => None,
        }
    }
}

/// Rows of 64 bits that a function's registers take: its parameters come after them.
fn register_rows(function: &ast::Function) -> u32 {
    use ast::Type::{B64, F64, S64, U64};
    let registers = function.body.iter().flat_map(|body| &body.registers);
    registers.filter(|(_, ty)| matches!(ty, B64 | U64 | S64 | F64)).count() as u32
}
