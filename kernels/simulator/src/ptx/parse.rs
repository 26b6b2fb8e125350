//! The parser of modules: `.version` through the last definition.

use std::collections::HashMap;
use std::{error, fmt};

use super::ast::{Module, Space};
use super::cursor::Cursor;
use super::lexer::Token;

/// Text that is not PTX.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SyntaxError {
    /// Line of the text, from 1.
    pub line: u32,
    /// What was expected, and what is there.
    pub message: String,
}

impl fmt::Display for SyntaxError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PTX line {}: {}", self.line, self.message)
    }
}

impl error::Error for SyntaxError {}

/// Parses a module.
///
/// # Errors
/// Names the line; never panics, whatever the text.
pub fn parse(source: &str) -> Result<Module, SyntaxError> {
    let mut parser = Parser {
        cursor: Cursor::new(source)?,
        module: Module::default(),
        symbols: HashMap::new(),
        awaited: HashMap::new(),
        registers: 0,
        initialized: 0,
    };
    parser.header()?;
    while parser.cursor.peek() != Token::End {
        parser.definition()?;
    }
    parser.check_awaited()?;
    Ok(parser.module)
}

/// The state of parsing a module.
pub(super) struct Parser<'a> {
    pub cursor: Cursor<'a>,
    pub module: Module,
    /// What the module's names stand for.
    pub symbols: HashMap<&'a str, Global>,
    /// Names met before their declaration, and the line of the first.
    awaited: HashMap<&'a str, u32>,
    /// Registers of all functions so far.
    pub registers: usize,
    /// Initial bytes of all variables so far.
    pub initialized: u64,
}

/// What a name of the module stands for.
#[derive(Clone, Copy)]
pub(super) enum Global {
    /// An index of [`Module::variables`].
    Variable(usize),
    /// An index of [`Module::functions`].
    Function(usize),
}

impl<'a> Parser<'a> {
    /// `.version 8.8`, `.target sm_80`, `.address_size 64`.
    fn header(&mut self) -> Result<(), SyntaxError> {
        let cursor = &mut self.cursor;
        cursor.expect_dot("version")?;
        let version = match cursor.peek() {
            Token::Number(text) => text.split_once('.').and_then(|(a, b)| Some((a.parse().ok()?, b.parse().ok()?))),
            _ => None,
        };
        self.module.version = version.ok_or_else(|| cursor.expected("a version such as `8.8`"))?;
        cursor.advance()?;
        cursor.expect_dot("target")?;
        self.module.target = cursor.word("a target such as `sm_80`")?.into();
        while cursor.eat(',')? {
            cursor.word("a property of the target")?;
        }
        cursor.expect_dot("address_size")?;
        cursor.integer_that("an address size of 64", |bits| (bits == 64).then_some(()))
    }

    /// Whatever stands at the top level.
    fn definition(&mut self) -> Result<(), SyntaxError> {
        let mut external = false;
        loop {
            let Token::Dot(name) = self.cursor.peek() else { return Err(self.cursor.expected("a directive")) };
            match name {
                "visible" | "weak" | "common" => {}
                "extern" => external = true,
                "entry" | "func" => return self.function(),
                "global" => return self.globals(Space::Global, external),
                "const" => return self.globals(Space::Const, external),
                "shared" => return self.globals(Space::Shared, external),
                "file" => return self.file(),
                "section" => return self.section(),
                "pragma" => return self.cursor.skip_statement(),
                _ => return Err(self.cursor.expected("the directive of a variable, a function, or a file")),
            }
            self.cursor.advance()?;
        }
    }

    /// `.global .align 4 .u32 a, b[2] = {1};`
    fn globals(&mut self, space: Space, external: bool) -> Result<(), SyntaxError> {
        self.cursor.advance()?;
        let declaration = self.declaration(space)?;
        loop {
            let line = self.cursor.line();
            let name = self.cursor.word("the name of a variable")?;
            let mut variable = self.variable(&declaration, name)?;
            variable.external = external;
            let index = self.module.variables.len();
            match self.symbols.get(name) {
                None => {
                    self.symbols.insert(name, Global::Variable(index));
                    self.module.variables.push(variable);
                }
                Some(&Global::Variable(known)) if self.module.variables[known].external => {
                    self.module.variables[known] = variable;
                }
                Some(Global::Variable(_)) if variable.external => {}
                Some(_) => return Err(SyntaxError { line, message: format!("`{name}` is declared twice") }),
            }
            if !self.cursor.eat(',')? {
                return self.cursor.expect(';');
            }
        }
    }

    /// `.file 1 "kernel.cu"`, with a time and a size or without.
    fn file(&mut self) -> Result<(), SyntaxError> {
        let cursor = &mut self.cursor;
        cursor.advance()?;
        let index = cursor.integer32()?;
        let Token::Text(path) = cursor.peek() else { return Err(cursor.expected("a path in quotes")) };
        cursor.advance()?;
        while cursor.eat(',')? {
            cursor.integer()?;
        }
        self.module.files.insert(index, path.into());
        Ok(())
    }

    /// `.section .debug_info { ... }`: of no use here.
    fn section(&mut self) -> Result<(), SyntaxError> {
        self.cursor.advance()?;
        self.cursor.advance()?;
        self.cursor.skip_balanced('{', '}')
    }

    /// Notes that the module must declare a name somewhere.
    pub fn await_symbol(&mut self, name: &'a str, line: u32) {
        if !self.symbols.contains_key(name) {
            self.awaited.entry(name).or_insert(line);
        }
    }

    fn check_awaited(&self) -> Result<(), SyntaxError> {
        let missing = self.awaited.iter().filter(|(name, _)| !self.symbols.contains_key(*name));
        match missing.min_by_key(|&(name, line)| (line, name)) {
            Some((name, &line)) => Err(SyntaxError { line, message: format!("`{name}` is not declared") }),
            None => Ok(()),
        }
    }
}
