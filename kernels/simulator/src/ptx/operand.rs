//! Operands.

use super::ast::{Operand, Symbol};
use super::function::Code;
use super::lexer::Token;
use super::number::Number;
use super::parse::SyntaxError;
use super::scope::{Name, Place};

/// Vectors in lists.
const MOST_NESTED: usize = 4;

/// Special registers, without what follows a dot.
const SPECIAL: &[&str] = &[
    "%aggr_smem_size",
    "%clock",
    "%clock64",
    "%clock_hi",
    "%cluster_ctaid",
    "%cluster_ctarank",
    "%cluster_nctaid",
    "%cluster_nctarank",
    "%clusterid",
    "%ctaid",
    "%current_graph_exec",
    "%dynamic_smem_size",
    "%globaltimer",
    "%globaltimer_hi",
    "%globaltimer_lo",
    "%gridid",
    "%is_explicit_cluster",
    "%laneid",
    "%lanemask_eq",
    "%lanemask_ge",
    "%lanemask_gt",
    "%lanemask_le",
    "%lanemask_lt",
    "%nclusterid",
    "%nctaid",
    "%nsmid",
    "%ntid",
    "%nwarpid",
    "%smid",
    "%tid",
    "%total_smem_size",
    "%warpid",
];

fn is_special(name: &str) -> bool {
    let families = ["%envreg", "%pm", "%reserved_smem_offset_"];
    name == "WARP_SZ" || SPECIAL.contains(&name) || families.iter().any(|family| name.starts_with(family))
}

impl<'a> Code<'_, 'a> {
    /// Those of the instruction that will have the index `instruction`, up to the `;`.
    pub fn operands(&mut self, opcode: &str, instruction: usize) -> Result<Vec<Operand>, SyntaxError> {
        let mut operands = Vec::new();
        if self.parser.cursor.peek() == Token::Mark(';') {
            return Ok(operands);
        }
        loop {
            let line = self.parser.cursor.line();
            let position = operands.len();
            let has_callee = operands.iter().any(|operand| !matches!(operand, Operand::List(_)));
            match (opcode, self.parser.cursor.peek()) {
                // Labels may follow: a number stands in until the scope knows them.
                ("bra", Token::Word(label)) => {
                    self.parser.cursor.advance()?;
                    self.scopes.mention(label, line, Place::Jump(instruction, position));
                    operands.push(Operand::Label(0));
                }
                ("brx", Token::Word(list)) if position > 0 => {
                    self.parser.cursor.advance()?;
                    self.scopes.mention(list, line, Place::List(instruction, position));
                    operands.push(Operand::Targets(0));
                }
                ("call", Token::Word(prototype)) if has_callee => {
                    self.parser.cursor.advance()?;
                    self.scopes.mention(prototype, line, Place::Call);
                }
                _ => operands.push(self.operand(0)?),
            }
            if !self.parser.cursor.eat(',')? {
                return Ok(operands);
            }
        }
    }

    /// One operand, `d|p` included.
    fn operand(&mut self, depth: usize) -> Result<Operand, SyntaxError> {
        let first = self.part(depth)?;
        if self.parser.cursor.eat('|')? {
            return Ok(Operand::Pair(Box::new(first), Box::new(self.part(depth)?)));
        }
        Ok(first)
    }

    fn part(&mut self, depth: usize) -> Result<Operand, SyntaxError> {
        if depth > MOST_NESTED {
            return Err(self.parser.cursor.error("operands are nested too deeply"));
        }
        match self.parser.cursor.peek() {
            Token::Word(_) => match self.name()? {
                Operand::Symbol(symbol, _) => Ok(Operand::Symbol(symbol, self.parser.cursor.offset()?)),
                operand => Ok(operand),
            },
            Token::Number(_) | Token::Mark('-') => self.number(),
            Token::Mark('!') => {
                self.parser.cursor.advance()?;
                self.predicate().map(Operand::Not)
            }
            Token::Mark('{') => self.list('}', depth).map(Operand::Vector),
            Token::Mark('(') => self.list(')', depth).map(Operand::List),
            Token::Mark('[') => self.address(depth),
            _ => Err(self.parser.cursor.expected("an operand")),
        }
    }

    fn number(&mut self) -> Result<Operand, SyntaxError> {
        Ok(match self.parser.cursor.number()? {
            Number::Integer(value) => Operand::Integer(value),
            Number::Float(bits) => Operand::Float(bits),
            Number::Double(bits) => Operand::Double(bits),
        })
    }

    /// `{%r1, %r2}`, `(a, b)`, `()`.
    fn list(&mut self, close: char, depth: usize) -> Result<Vec<Operand>, SyntaxError> {
        self.parser.cursor.advance()?;
        let mut operands = Vec::new();
        if self.parser.cursor.eat(close)? {
            return Ok(operands);
        }
        loop {
            operands.push(self.operand(depth + 1)?);
            if !self.parser.cursor.eat(',')? {
                self.parser.cursor.expect(close)?;
                return Ok(operands);
            }
        }
    }

    /// `[%rd1+8]`, `[%rd1, {%r1, %r2}]`.
    fn address(&mut self, depth: usize) -> Result<Operand, SyntaxError> {
        self.parser.cursor.advance()?;
        let mut base = match self.parser.cursor.peek() {
            Token::Word(_) => self.name()?,
            _ => Operand::Integer(self.parser.cursor.integer()?),
        };
        let offset = self.parser.cursor.offset()?;
        if self.parser.cursor.peek() == Token::Mark(',') {
            let mut parts = vec![base];
            while self.parser.cursor.eat(',')? {
                parts.push(self.operand(depth + 1)?);
            }
            base = Operand::List(parts);
        }
        self.parser.cursor.expect(']')?;
        Ok(Operand::Address(Box::new(base), offset))
    }

    /// What a name stands for; a symbol without its offset.
    fn name(&mut self) -> Result<Operand, SyntaxError> {
        let line = self.parser.cursor.line();
        let name = self.parser.cursor.word("a name")?;
        Ok(match self.scopes.find(name) {
            Some(Name::Register(index)) => Operand::Register(index),
            Some(Name::Variable(index)) => Operand::Symbol(Symbol::Local(index), 0),
            Some(Name::Parameter(index)) => Operand::Symbol(Symbol::Parameter(index), 0),
            Some(Name::Return(index)) => Operand::Symbol(Symbol::Return(index), 0),
            None if name == "_" => Operand::Sink,
            None if is_special(name) => {
                let Token::Dot(part) = self.parser.cursor.peek() else { return Ok(Operand::Special(name.into())) };
                self.parser.cursor.advance()?;
                Operand::Special(format!("{name}.{part}"))
            }
            None if name.starts_with('%') => {
                return Err(SyntaxError { line, message: format!("register `{name}` is not declared") });
            }
            None => {
                self.parser.await_symbol(name, line);
                Operand::Symbol(Symbol::Module(name.into()), 0)
            }
        })
    }
}
