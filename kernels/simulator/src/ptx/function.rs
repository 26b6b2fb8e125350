//! Functions: their heads, and the statements of their bodies.

use super::ast::{Body, Function, Instruction, Space, Type, Variable};
use super::cursor::Cursor;
use super::lexer::Token;
use super::parse::{Global, Parser, SyntaxError};
use super::scope::{Label, Name, Place, Scopes};
use super::variable::type_named;

/// Of a module: a range of registers asks for much with little text.
const MOST_REGISTERS: usize = 1 << 20;
/// Of a range's name, which each of its registers repeats.
const MOST_LETTERS: usize = 64;

/// A body that is being parsed.
pub(super) struct Code<'p, 'a> {
    pub parser: &'p mut Parser<'a>,
    pub scopes: Scopes<'a>,
    body: Body,
    /// The `.loc` in force.
    location: Option<(u32, u32)>,
}

impl<'a> Parser<'a> {
    /// `.entry` or `.func`, declared or defined.
    pub fn function(&mut self) -> Result<(), SyntaxError> {
        let is_kernel = self.cursor.advance()? == Token::Dot("entry");
        while self.cursor.peek() == Token::Dot("attribute") {
            self.cursor.advance()?;
            self.cursor.skip_balanced('(', ')')?;
        }
        let mut scopes = Scopes::new();
        let returns = self.parameters(&mut scopes, Name::Return)?;
        let line = self.cursor.line();
        let name = self.cursor.word("the name of a function")?;
        let parameters = self.parameters(&mut scopes, Name::Parameter)?;
        let max_threads = self.performance_directives()?;
        let mut function = Function { name: name.into(), is_kernel, returns, parameters, max_threads, body: None };
        // Known before its body is parsed: a function may call itself.
        let index = self.module.functions.len();
        match self.symbols.get(name) {
            None => {
                self.symbols.insert(name, Global::Function(index));
                self.module.functions.push(function.clone());
            }
            Some(Global::Function(_)) => {}
            Some(Global::Variable(_)) => return Err(twice(name, line)),
        }
        if self.cursor.eat(';')? {
            return Ok(());
        }
        self.cursor.expect('{')?;
        function.body = Some(Code { parser: self, scopes, body: Body::default(), location: None }.body()?);
        match self.symbols.get(name) {
            Some(&Global::Function(known)) if self.module.functions[known].body.is_none() => {
                self.module.functions[known] = function;
                Ok(())
            }
            _ => Err(twice(name, line)),
        }
    }

    /// `(.param .b32 a, .param .b64 b)`; nothing at all is an empty list.
    fn parameters(&mut self, scopes: &mut Scopes<'a>, name: fn(usize) -> Name) -> Result<Vec<Variable>, SyntaxError> {
        let mut parameters = Vec::new();
        if !self.cursor.eat('(')? || self.cursor.eat(')')? {
            return Ok(parameters);
        }
        loop {
            self.cursor.expect_dot("param")?;
            let declaration = self.declaration(Space::Param)?;
            let line = self.cursor.line();
            let word = self.cursor.word("the name of a parameter")?;
            scopes.declare(word, name(parameters.len())).ok_or_else(|| twice(word, line))?;
            parameters.push(self.variable(&declaration, word)?);
            if !self.cursor.eat(',')? {
                self.cursor.expect(')')?;
                return Ok(parameters);
            }
        }
    }

    /// What stands before the body: `.maxntid 256, 1, 1` counts, the rest advises the compiler of a real device.
    fn performance_directives(&mut self) -> Result<Option<[u32; 3]>, SyntaxError> {
        let cursor = &mut self.cursor;
        let mut max_threads = None;
        while let Token::Dot(name) = cursor.peek() {
            cursor.advance()?;
            match name {
                "maxntid" | "reqntid" => {
                    let mut sizes = [cursor.integer32()?, 1, 1];
                    for size in &mut sizes[1..] {
                        if cursor.eat(',')? {
                            *size = cursor.integer32()?;
                        }
                    }
                    max_threads = Some(sizes);
                }
                "pragma" => cursor.skip_statement()?,
                _ => skip_arguments(cursor)?,
            }
        }
        Ok(max_threads)
    }
}

fn skip_arguments(cursor: &mut Cursor) -> Result<(), SyntaxError> {
    while !matches!(cursor.peek(), Token::Dot(_) | Token::Mark('{' | ';') | Token::End) {
        cursor.advance()?;
    }
    Ok(())
}

fn twice(name: &str, line: u32) -> SyntaxError {
    SyntaxError { line, message: format!("`{name}` is declared twice") }
}

impl<'a> Code<'_, 'a> {
    /// Statements through the brace that closes the body.
    fn body(mut self) -> Result<Body, SyntaxError> {
        loop {
            match self.parser.cursor.peek() {
                Token::Mark('}') => {
                    let is_last = !self.scopes.is_nested();
                    self.scopes.close(&mut self.body)?;
                    self.parser.cursor.advance()?;
                    if is_last {
                        return Ok(self.body);
                    }
                }
                Token::Mark('{') => {
                    let opened = self.scopes.open();
                    opened.ok_or_else(|| self.parser.cursor.error("blocks are nested too deeply"))?;
                    self.parser.cursor.advance()?;
                }
                // Inline assembly ends its statements more than once.
                Token::Mark(';') => self.parser.cursor.advance().map(drop)?,
                Token::Dot(name) => self.directive(name)?,
                _ => self.instruction_or_label()?,
            }
        }
    }

    fn directive(&mut self, name: &str) -> Result<(), SyntaxError> {
        match name {
            "reg" => self.registers(),
            "local" => self.variables(Space::Local),
            "shared" => self.variables(Space::Shared),
            "param" => self.variables(Space::Param),
            "loc" => self.location(),
            "pragma" => self.parser.cursor.skip_statement(),
            _ => Err(self.parser.cursor.expected("a statement")),
        }
    }

    /// `.reg .b32 %r<10>, t;`
    fn registers(&mut self) -> Result<(), SyntaxError> {
        let cursor = &mut self.parser.cursor;
        cursor.advance()?;
        let Token::Dot(name) = cursor.peek() else { return Err(cursor.expected("the type of a register")) };
        let ty = type_named(name).ok_or_else(|| cursor.expected("the type of a register"))?;
        cursor.advance()?;
        loop {
            let line = cursor.line();
            let name = cursor.word("the name of a register")?;
            let room = MOST_REGISTERS - self.parser.registers;
            let range = if cursor.eat('<')? { Some(cursor.integer()?) } else { None };
            let count = usize::try_from(range.unwrap_or(1)).ok().filter(|&count| count <= room);
            let count =
                count.ok_or_else(|| cursor.error(format!("more than {MOST_REGISTERS} registers in a module")))?;
            let first = self.body.registers.len();
            if range.is_some() {
                cursor.expect('>')?;
                if name.len() > MOST_LETTERS {
                    return Err(cursor.error(format!("the name of a range has {MOST_LETTERS} letters at most")));
                }
                self.scopes.declare_range(name, first, count).ok_or_else(|| twice(name, line))?;
                self.body.registers.extend((0..count).map(|index| (format!("{name}{index}"), ty)));
            } else {
                self.scopes.declare(name, Name::Register(first)).ok_or_else(|| twice(name, line))?;
                self.body.registers.push((name.into(), ty));
            }
            self.parser.registers += count;
            if !cursor.eat(',')? {
                return cursor.expect(';');
            }
        }
    }

    /// `.shared .align 4 .b8 tile[512], other[4];`
    fn variables(&mut self, space: Space) -> Result<(), SyntaxError> {
        self.parser.cursor.advance()?;
        let declaration = self.parser.declaration(space)?;
        loop {
            let line = self.parser.cursor.line();
            let name = self.parser.cursor.word("the name of a variable")?;
            let index = self.body.variables.len();
            self.scopes.declare(name, Name::Variable(index)).ok_or_else(|| twice(name, line))?;
            self.body.variables.push(self.parser.variable(&declaration, name)?);
            if !self.parser.cursor.eat(',')? {
                return self.parser.cursor.expect(';');
            }
        }
    }

    /// `.loc 1 18 29, function_name $L__info_string0, inlined_at 1 5 3`: the first three numbers count.
    fn location(&mut self) -> Result<(), SyntaxError> {
        let cursor = &mut self.parser.cursor;
        cursor.advance()?;
        self.location = Some((cursor.integer32()?, cursor.integer32()?));
        cursor.integer32()?;
        while cursor.eat(',')? {
            match cursor.advance()? {
                Token::Word("function_name") => {
                    cursor.word("a label")?;
                    cursor.offset()?;
                }
                Token::Word("inlined_at") => {
                    for _ in 0..3 {
                        cursor.integer32()?;
                    }
                }
                other => return Err(cursor.error(format!("expected `function_name` or `inlined_at`, found {other}"))),
            }
        }
        Ok(())
    }

    fn instruction_or_label(&mut self) -> Result<(), SyntaxError> {
        let line = self.parser.cursor.line();
        let guard = self.guard()?;
        let name = self.parser.cursor.word("a statement")?;
        if guard.is_none() && self.parser.cursor.eat(':')? {
            let meaning = self.labelled()?;
            return self.scopes.declare_label(name, meaning).ok_or_else(|| twice(name, line));
        }
        let mut opcode = vec![name.to_owned()];
        while let Token::Dot(part) = self.parser.cursor.peek() {
            opcode.push(part.to_owned());
            self.parser.cursor.advance()?;
        }
        let operands = self.operands(name, self.body.instructions.len())?;
        self.parser.cursor.expect(';')?;
        self.body.instructions.push(Instruction { guard, opcode, operands, location: self.location, line });
        Ok(())
    }

    /// `@!%p1`.
    fn guard(&mut self) -> Result<Option<(usize, bool)>, SyntaxError> {
        if !self.parser.cursor.eat('@')? {
            return Ok(None);
        }
        let negated = self.parser.cursor.eat('!')?;
        Ok(Some((self.predicate()?, negated)))
    }

    /// What follows `label:`, where that is no instruction.
    fn labelled(&mut self) -> Result<Label, SyntaxError> {
        match self.parser.cursor.peek() {
            Token::Dot("callprototype" | "calltargets") => {
                self.parser.cursor.skip_statement()?;
                Ok(Label::Prototype)
            }
            Token::Dot("branchtargets") => {
                let list = self.body.targets.len();
                self.body.targets.push(Vec::new());
                loop {
                    self.parser.cursor.advance()?;
                    let line = self.parser.cursor.line();
                    let label = self.parser.cursor.word("a label")?;
                    self.scopes.mention(label, line, Place::Target(list, self.body.targets[list].len()));
                    self.body.targets[list].push(0);
                    if self.parser.cursor.peek() != Token::Mark(',') {
                        self.parser.cursor.expect(';')?;
                        return Ok(Label::Targets(list));
                    }
                }
            }
            _ => Ok(Label::Instruction(self.body.instructions.len())),
        }
    }

    /// Takes a predicate register.
    pub fn predicate(&mut self) -> Result<usize, SyntaxError> {
        let line = self.parser.cursor.line();
        let name = self.parser.cursor.word("a predicate register")?;
        match self.scopes.find(name) {
            Some(Name::Register(index)) if self.body.registers[index].1 == Type::Pred => Ok(index),
            _ => Err(SyntaxError { line, message: format!("`{name}` is not declared as a predicate register") }),
        }
    }
}
