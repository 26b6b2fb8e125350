//! A place in the token stream, and the questions that every part of the parser asks there.

use super::lexer::{Lexer, Token};
use super::number::Number;
use super::parse::SyntaxError;

/// Looks one token ahead.
pub struct Cursor<'a> {
    lexer: Lexer<'a>,
    next: Token<'a>,
}

impl<'a> Cursor<'a> {
    /// At the first token.
    pub fn new(source: &'a str) -> Result<Self, SyntaxError> {
        let mut lexer = Lexer::new(source);
        let next = lexer.token()?;
        Ok(Self { lexer, next })
    }

    /// The token ahead.
    pub fn peek(&self) -> Token<'a> {
        self.next
    }

    /// Line of the token ahead.
    pub fn line(&self) -> u32 {
        self.lexer.line
    }

    /// Takes the token ahead; the end is never passed.
    pub fn advance(&mut self) -> Result<Token<'a>, SyntaxError> {
        let token = self.next;
        if token != Token::End {
            self.next = self.lexer.token()?;
        }
        Ok(token)
    }

    /// An error about the token ahead.
    pub fn error(&self, message: impl Into<String>) -> SyntaxError {
        SyntaxError { line: self.line(), message: message.into() }
    }

    /// The error that the token ahead is something else.
    pub fn expected(&self, what: &str) -> SyntaxError {
        self.error(format!("expected {what}, found {}", self.next))
    }

    /// Takes a mark if it is ahead.
    pub fn eat(&mut self, mark: char) -> Result<bool, SyntaxError> {
        let found = self.next == Token::Mark(mark);
        if found {
            self.advance()?;
        }
        Ok(found)
    }

    /// Takes a mark that must be ahead.
    pub fn expect(&mut self, mark: char) -> Result<(), SyntaxError> {
        if self.eat(mark)? { Ok(()) } else { Err(self.expected(&format!("`{mark}`"))) }
    }

    /// Takes a directive that must be ahead.
    pub fn expect_dot(&mut self, name: &str) -> Result<(), SyntaxError> {
        if self.next != Token::Dot(name) {
            return Err(self.expected(&format!("`.{name}`")));
        }
        self.advance().map(drop)
    }

    /// Takes a name.
    pub fn word(&mut self, what: &str) -> Result<&'a str, SyntaxError> {
        let Token::Word(word) = self.next else { return Err(self.expected(what)) };
        self.advance()?;
        Ok(word)
    }

    /// Takes a number, signed or not.
    pub fn number(&mut self) -> Result<Number, SyntaxError> {
        let negative = self.eat('-')?;
        let Token::Number(text) = self.next else { return Err(self.expected("a number")) };
        let number = Number::read(text).ok_or_else(|| self.error(format!("`{text}` is not a number of 64 bits")))?;
        self.advance()?;
        Ok(if negative { number.negate() } else { number })
    }

    /// Takes an integer.
    pub fn integer(&mut self) -> Result<u64, SyntaxError> {
        self.integer_that("an integer", Some)
    }

    /// Takes an integer of 32 bits without a sign.
    pub fn integer32(&mut self) -> Result<u32, SyntaxError> {
        self.integer_that("an integer of 32 bits", |value| u32::try_from(value).ok())
    }

    /// Takes an integer that `read` accepts.
    pub fn integer_that<T>(&mut self, what: &str, read: impl Fn(u64) -> Option<T>) -> Result<T, SyntaxError> {
        let (line, found) = (self.line(), self.next);
        let value = match self.number()? {
            Number::Integer(value) => read(value),
            _ => None,
        };
        value.ok_or_else(|| SyntaxError { line, message: format!("expected {what}, found {found}") })
    }

    /// Takes `+8`, `-8`, `+-8`, any number of them: their sum, 0 for none.
    pub fn offset(&mut self) -> Result<i64, SyntaxError> {
        let mut sum = 0_i64;
        loop {
            let negative = self.next == Token::Mark('-');
            if !negative && !self.eat('+')? {
                return Ok(sum);
            }
            sum = sum.wrapping_add(self.integer()?.cast_signed());
        }
    }

    /// Takes everything through the `close` that belongs to the `open` ahead.
    pub fn skip_balanced(&mut self, open: char, close: char) -> Result<(), SyntaxError> {
        let start = self.line();
        self.expect(open)?;
        let mut depth = 1_usize;
        while depth > 0 {
            match self.advance()? {
                Token::Mark(mark) if mark == open => depth += 1,
                Token::Mark(mark) if mark == close => depth -= 1,
                Token::End => return Err(self.error(format!("the `{open}` of line {start} is not closed"))),
                _ => {}
            }
        }
        Ok(())
    }

    /// Takes everything through the next `;`.
    pub fn skip_statement(&mut self) -> Result<(), SyntaxError> {
        loop {
            match self.peek() {
                Token::Mark(';') => return self.advance().map(drop),
                Token::End | Token::Mark('{' | '}') => return Err(self.expected("`;`")),
                _ => self.advance()?,
            };
        }
    }
}
