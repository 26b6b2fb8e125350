//! Declarations of variables and parameters, and their initial bytes.

use super::ast::{Space, Type, Variable};
use super::lexer::Token;
use super::number::Number;
use super::parse::{Parser, SyntaxError};

/// No larger than any memory, so that sums of sizes and alignments cannot overflow.
const MOST_BYTES: u64 = 1 << 48;
const MOST_ALIGNMENT: u64 = 1 << 16;
/// Of all variables of a module: `{{1}, {1}}` in an array of long rows asks for much with little text.
const MOST_INITIAL_BYTES: u64 = 1 << 26;
/// Of an array; braces nest no deeper.
const MOST_DIMENSIONS: usize = 8;

/// What the names of a declaration share: `.global .align 4 .b8`.
pub(super) struct Declaration {
    space: Space,
    ty: Type,
    align: Option<u64>,
    /// 4 for `.v4`.
    lanes: u64,
}

/// `.f32` without the dot.
pub(super) fn type_named(name: &str) -> Option<Type> {
    Some(match name {
        "pred" => Type::Pred,
        "b8" => Type::B8,
        "b16" => Type::B16,
        "b32" => Type::B32,
        "b64" => Type::B64,
        "b128" => Type::B128,
        "u8" => Type::U8,
        "u16" => Type::U16,
        "u32" => Type::U32,
        "u64" => Type::U64,
        "s8" => Type::S8,
        "s16" => Type::S16,
        "s32" => Type::S32,
        "s64" => Type::S64,
        "f16" => Type::F16,
        "f16x2" => Type::F16x2,
        "bf16" => Type::Bf16,
        "bf16x2" => Type::Bf16x2,
        "f32" => Type::F32,
        "f64" => Type::F64,
        _ => return None,
    })
}

/// The bytes of an element that a literal initializes.
fn element(ty: Type, number: Number) -> Option<u64> {
    match (ty, number) {
        (Type::F32 | Type::B32, Number::Float(bits)) => Some(bits.into()),
        (Type::F32, Number::Double(bits)) => Some((f64::from_bits(bits) as f32).to_bits().into()),
        (Type::F64 | Type::B64, Number::Double(bits)) => Some(bits),
        (
            Type::Pred | Type::B128 | Type::F16 | Type::F16x2 | Type::Bf16 | Type::Bf16x2 | Type::F32 | Type::F64,
            _,
        ) => None,
        (_, Number::Integer(value)) => Some(value),
        _ => None,
    }
}

/// What an element of the first dimension takes.
fn row_bytes(ty: Type, inner: &[u64]) -> u64 {
    inner.iter().product::<u64>() * ty.bytes()
}

impl<'a> Parser<'a> {
    /// What stands between the state space and the name.
    pub fn declaration(&mut self, space: Space) -> Result<Declaration, SyntaxError> {
        let (mut ty, mut align, mut lanes, mut is_pointer) = (None, None, 1, false);
        while let Token::Dot(name) = self.cursor.peek() {
            self.cursor.advance()?;
            match name {
                "align" => {
                    let what = "an alignment (a power of two up to 65536)";
                    let read = |n: u64| (n.is_power_of_two() && n <= MOST_ALIGNMENT).then_some(n);
                    let value = self.cursor.integer_that(what, read)?;
                    // That of a pointer's target says nothing about the pointer.
                    align = if is_pointer { align } else { Some(value) };
                }
                "attribute" => self.cursor.skip_balanced('(', ')')?,
                "v2" => lanes = 2,
                "v4" => lanes = 4,
                "ptr" if ty.is_some() => is_pointer = true,
                "global" | "const" | "shared" | "local" if is_pointer => {}
                _ => match type_named(name) {
                    Some(named) if ty.is_none() => ty = Some(named),
                    _ => return Err(self.cursor.error(format!("`.{name}` has no place in a declaration"))),
                },
            }
        }
        let ty = ty.ok_or_else(|| self.cursor.expected("a type"))?;
        Ok(Declaration { space, ty, align, lanes })
    }

    /// What follows the name: `[2][3] = {1, 2}`.
    pub fn variable(&mut self, declaration: &Declaration, name: &str) -> Result<Variable, SyntaxError> {
        let &Declaration { space, ty, align, lanes } = declaration;
        let mut extents = self.extents()?;
        if lanes > 1 {
            extents.push(lanes);
        }
        let is_open = matches!(extents[..], [0, ..]);
        let bytes = extents[usize::from(is_open)..].iter().try_fold(ty.bytes(), |bytes, &n| bytes.checked_mul(n));
        let bytes = bytes.filter(|&bytes| bytes <= MOST_BYTES);
        let bytes = bytes.ok_or_else(|| self.cursor.error(format!("`{name}` is larger than any memory")))?;
        let mut variable = Variable {
            space,
            ty,
            name: name.into(),
            align: align.unwrap_or(ty.bytes() * lanes),
            bytes: if is_open { 0 } else { bytes },
            initial: Vec::new(),
            relocations: Vec::new(),
            external: false,
        };
        if self.cursor.peek() == Token::Mark('=') {
            self.initializer(&mut variable, &extents)?;
        }
        Ok(variable)
    }

    /// `[2][3]`; an open first dimension is 0, and no other one is.
    fn extents(&mut self) -> Result<Vec<u64>, SyntaxError> {
        let mut extents = Vec::new();
        while self.cursor.eat('[')? {
            if extents.len() == MOST_DIMENSIONS {
                return Err(self.cursor.error(format!("an array has {MOST_DIMENSIONS} dimensions at most")));
            }
            let is_first = extents.is_empty();
            let is_open = is_first && self.cursor.peek() == Token::Mark(']');
            let read = |extent: u64| (is_first || extent > 0).then_some(extent);
            extents.push(if is_open { 0 } else { self.cursor.integer_that("an extent above 0", read)? });
            self.cursor.expect(']')?;
        }
        Ok(extents)
    }

    fn initializer(&mut self, variable: &mut Variable, extents: &[u64]) -> Result<(), SyntaxError> {
        if !matches!(variable.space, Space::Global | Space::Const) {
            return Err(self.cursor.error("only `.global` and `.const` variables have initial values"));
        }
        self.cursor.expect('=')?;
        match extents {
            [] => self.value(variable),
            [0, inner @ ..] => {
                self.values(variable, extents, MOST_BYTES)?;
                let row = row_bytes(variable.ty, inner);
                variable.bytes = (variable.initial.len() as u64).next_multiple_of(row);
                Ok(())
            }
            _ => self.values(variable, extents, variable.bytes),
        }
    }

    /// `{1, 2}`, `{{1, 2}, {3, 4}}`, or flat for an array of several dimensions: behind what is there, up to `end`.
    fn values(&mut self, variable: &mut Variable, extents: &[u64], end: u64) -> Result<(), SyntaxError> {
        let row = row_bytes(variable.ty, &extents[1..]);
        let start = variable.initial.len() as u64;
        let mut position = start;
        self.cursor.expect('{')?;
        while !self.cursor.eat('}')? {
            self.pad(variable, position)?;
            if extents.len() > 1 && self.cursor.peek() == Token::Mark('{') {
                if !(position - start).is_multiple_of(row) {
                    return Err(self.cursor.error("a row begins inside of another"));
                }
                self.values(variable, &extents[1..], position + row)?;
                position += row;
            } else {
                self.value(variable)?;
                position = variable.initial.len() as u64;
            }
            if position > end {
                return Err(self.cursor.error(format!("the initializer does not fit `{}`", variable.name)));
            }
            if !self.cursor.eat(',')? {
                return self.cursor.expect('}');
            }
        }
        Ok(())
    }

    /// Zeros through `position`.
    fn pad(&mut self, variable: &mut Variable, position: u64) -> Result<(), SyntaxError> {
        let length = variable.initial.len() as u64;
        self.initialized += position.saturating_sub(length) + variable.ty.bytes();
        if self.initialized > MOST_INITIAL_BYTES {
            return Err(self.cursor.error(format!("more than {MOST_INITIAL_BYTES} initial bytes in a module")));
        }
        variable.initial.resize(position.max(length) as usize, 0);
        Ok(())
    }

    /// One element: a number, or a symbol's address.
    fn value(&mut self, variable: &mut Variable) -> Result<(), SyntaxError> {
        let ty = variable.ty;
        if let Token::Word(_) = self.cursor.peek() {
            if ty.bytes() != 8 {
                return Err(self.cursor.expected("a number (an address takes 8 bytes)"));
            }
            let (symbol, offset) = self.address_constant()?;
            variable.relocations.push((variable.initial.len() as u64, symbol, offset));
            variable.initial.extend([0; 8]);
            return Ok(());
        }
        let (line, found) = (self.cursor.line(), self.cursor.peek());
        let number = self.cursor.number()?;
        if ty.bytes() == 1 && number == Number::Integer(0xff) && self.cursor.peek() == Token::Mark('(') {
            return self.address_bytes(variable);
        }
        let bits = element(ty, number);
        let message = || format!("expected a value of type {ty:?}, found {found}");
        let bits = bits.ok_or_else(|| SyntaxError { line, message: message() })?;
        variable.initial.extend_from_slice(&bits.to_le_bytes()[..ty.bytes() as usize]);
        Ok(())
    }

    /// `symbol+8`, `generic(symbol)+8`: symbol and offset. Of what can be named here, generic addresses are the same.
    fn address_constant(&mut self) -> Result<(String, i64), SyntaxError> {
        let line = self.cursor.line();
        let mut name = self.cursor.word("a symbol")?;
        if name == "generic" && self.cursor.eat('(')? {
            name = self.cursor.word("a symbol")?;
            self.cursor.expect(')')?;
        }
        self.await_symbol(name, line);
        Ok((name.into(), self.cursor.offset()?))
    }

    /// `0xFF(generic(s)), 0xFF00(generic(s)), ...` behind the first mask: an address in a packed structure.
    fn address_bytes(&mut self, variable: &mut Variable) -> Result<(), SyntaxError> {
        let first = self.masked_address()?;
        for byte in 1..8 {
            self.cursor.expect(',')?;
            let mask = 0xff_u64 << (8 * byte);
            self.cursor.integer_that(&format!("the mask {mask:#X}"), |value| (value == mask).then_some(()))?;
            if self.masked_address()? != first {
                return Err(self.cursor.error("expected eight bytes of one address"));
            }
        }
        let (symbol, offset) = first;
        variable.relocations.push((variable.initial.len() as u64, symbol, offset));
        variable.initial.extend([0; 8]);
        Ok(())
    }

    fn masked_address(&mut self) -> Result<(String, i64), SyntaxError> {
        self.cursor.expect('(')?;
        let address = self.address_constant()?;
        self.cursor.expect(')')?;
        Ok(address)
    }
}
