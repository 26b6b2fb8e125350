//! Text to tokens. Tokens borrow the text: a module of some megabytes costs no allocation here.

use std::fmt;

use super::parse::SyntaxError;

/// A token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Token<'a> {
    /// A name: `ld`, `%r1`, `$L__BB0_2`, `_`.
    Word(&'a str),
    /// `.global`, `.shared::cta`, without the dot: directives, types and parts of an opcode.
    Dot(&'a str),
    /// As written, see [`super::number`].
    Number(&'a str),
    /// Between the quotes, escapes as written.
    Text(&'a str),
    /// Punctuation.
    Mark(char),
    /// The end of the text.
    End,
}

impl fmt::Display for Token<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Token::Word(text) | Token::Number(text) => write!(f, "`{text}`"),
            Token::Dot(text) => write!(f, "`.{text}`"),
            Token::Text(text) => write!(f, "\"{text}\""),
            Token::Mark(mark) => write!(f, "`{mark}`"),
            Token::End => f.write_str("the end of the text"),
        }
    }
}

/// Yields the tokens of a text.
pub struct Lexer<'a> {
    source: &'a str,
    position: usize,
    /// Of the token yielded last.
    pub line: u32,
}

impl<'a> Lexer<'a> {
    /// At the start of a text.
    pub fn new(source: &'a str) -> Self {
        Self { source, position: 0, line: 1 }
    }

    /// The token after white space and comments.
    pub fn token(&mut self) -> Result<Token<'a>, SyntaxError> {
        self.skip_blank()?;
        let start = self.position;
        match self.byte(0) {
            None => Ok(Token::End),
            Some(b'.') => self.dot(),
            Some(b'"') => self.text(),
            Some(b'0'..=b'9') => Ok(self.number()),
            Some(byte) if is_word(byte) || byte == b'%' => {
                self.position += 1;
                Ok(Token::Word(self.word_from(start)))
            }
            Some(byte) if byte.is_ascii_punctuation() => {
                self.position += 1;
                Ok(Token::Mark(char::from(byte)))
            }
            Some(_) => {
                let found = self.source[start..].chars().next().unwrap_or_default();
                Err(self.error(format!("{found:?} has no place in PTX")))
            }
        }
    }

    fn byte(&self, ahead: usize) -> Option<u8> {
        self.source.as_bytes().get(self.position + ahead).copied()
    }

    fn error(&self, message: String) -> SyntaxError {
        SyntaxError { line: self.line, message }
    }

    fn skip_blank(&mut self) -> Result<(), SyntaxError> {
        loop {
            match (self.byte(0), self.byte(1)) {
                (Some(b'\n'), _) => {
                    self.line = self.line.saturating_add(1);
                    self.position += 1;
                }
                (Some(b' ' | b'\t' | b'\r' | b'\x0b' | b'\x0c'), _) => self.position += 1,
                (Some(b'/'), Some(b'/')) => {
                    let rest = &self.source[self.position..];
                    self.position += rest.find('\n').unwrap_or(rest.len());
                }
                (Some(b'/'), Some(b'*')) => {
                    let rest = &self.source[self.position + 2..];
                    let end = rest.find("*/").ok_or_else(|| self.error("this comment has no end".into()))?;
                    self.count_lines(&rest[..end]);
                    self.position += end + 4;
                }
                _ => return Ok(()),
            }
        }
    }

    fn count_lines(&mut self, text: &str) {
        let lines = text.bytes().filter(|&byte| byte == b'\n').count();
        self.line = self.line.saturating_add(u32::try_from(lines).unwrap_or(u32::MAX));
    }

    /// The text from `start` through the letters that follow.
    fn word_from(&mut self, start: usize) -> &'a str {
        while self.byte(0).is_some_and(is_word) {
            self.position += 1;
        }
        &self.source[start..self.position]
    }

    /// `.global`, and `.shared::cta` whole.
    fn dot(&mut self) -> Result<Token<'a>, SyntaxError> {
        self.position += 1;
        let start = self.position;
        let mut text = self.word_from(start);
        while self.byte(0) == Some(b':') && self.byte(1) == Some(b':') && self.byte(2).is_some_and(is_word) {
            self.position += 2;
            text = self.word_from(start);
        }
        if text.is_empty() { Err(self.error("expected a name after `.`".into())) } else { Ok(Token::Dot(text)) }
    }

    /// `"..."`; a backslash keeps the next character from ending it.
    fn text(&mut self) -> Result<Token<'a>, SyntaxError> {
        let rest = &self.source[self.position + 1..];
        let mut escaped = false;
        let end = rest.bytes().position(|byte| {
            let ends = byte == b'"' && !escaped;
            escaped = byte == b'\\' && !escaped;
            ends
        });
        let end = end.ok_or_else(|| self.error("this string has no end".into()))?;
        self.count_lines(&rest[..end]);
        self.position += end + 2;
        Ok(Token::Text(&rest[..end]))
    }

    /// Letters are part of it, so that `12ab` is one wrong number and not two right tokens.
    fn number(&mut self) -> Token<'a> {
        let start = self.position;
        let mut text = self.word_from(start);
        if self.byte(0) == Some(b'.') && self.byte(1).is_some_and(|byte| byte.is_ascii_digit()) {
            self.position += 1;
            text = self.word_from(start);
        }
        let is_exponent =
            text.strip_suffix(['e', 'E']).is_some_and(|t| t.bytes().all(|b| matches!(b, b'0'..=b'9' | b'.')));
        if is_exponent && matches!(self.byte(0), Some(b'+' | b'-')) {
            self.position += 1;
            text = self.word_from(start);
        }
        Token::Number(text)
    }
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'$')
}
