//! The names of a function's body: a block `{ ... }` opens a scope, whose registers, variables and labels hide outer ones.

use std::collections::HashMap;

use super::ast::{Body, Operand};
use super::parse::SyntaxError;

/// Blocks in blocks.
const MOST_SCOPES: usize = 64;

/// Of a register's number.
const MOST_DIGITS: usize = 8;

/// What a declared name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Name {
    /// Of [`Body::registers`].
    Register(usize),
    /// Of [`Body::variables`].
    Variable(usize),
    /// Of the function's parameters.
    Parameter(usize),
    /// Of the function's returned values.
    Return(usize),
}

/// What a label stands before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Label {
    /// The instruction of that index.
    Instruction(usize),
    /// `.branchtargets`, of [`Body::targets`].
    Targets(usize),
    /// `.callprototype` or `.calltargets`.
    Prototype,
}

/// Where a label is named; it may be declared further down.
struct Mention<'a> {
    label: &'a str,
    line: u32,
    place: Place,
}

/// What a mentioned label is needed for.
#[derive(Clone, Copy, Debug)]
pub enum Place {
    /// A jump's operand, by instruction and position.
    Jump(usize, usize),
    /// The operand of `brx` that names a list, by instruction and position.
    List(usize, usize),
    /// An entry of a list of [`Body::targets`].
    Target(usize, usize),
    /// A call's prototype.
    Call,
}

#[derive(Default)]
struct Scope<'a> {
    names: HashMap<&'a str, Name>,
    /// `%r<10>`: the first register, and how many there are.
    ranges: HashMap<&'a str, (usize, usize)>,
    labels: HashMap<&'a str, Label>,
    mentions: Vec<Mention<'a>>,
}

/// The open scopes, innermost last; that of the function stays.
pub struct Scopes<'a>(Vec<Scope<'a>>);

impl<'a> Scopes<'a> {
    /// That of a function.
    pub fn new() -> Self {
        Self(vec![Scope::default()])
    }

    /// Whether a block is open.
    pub fn is_nested(&self) -> bool {
        self.0.len() > 1
    }

    /// Opens a block; `None` if too many are open.
    pub fn open(&mut self) -> Option<()> {
        (self.0.len() < MOST_SCOPES).then(|| self.0.push(Scope::default()))
    }

    /// Closes the innermost scope: its labels are settled, names that it did not declare are left to the outer one.
    pub fn close(&mut self, body: &mut Body) -> Result<(), SyntaxError> {
        let Some(scope) = self.0.pop() else { return Ok(()) };
        for mention in scope.mentions {
            match (scope.labels.get(mention.label), self.0.last_mut()) {
                (Some(&label), _) => mention.settle(label, body)?,
                (None, Some(outer)) => outer.mentions.push(mention),
                (None, None) => return Err(mention.error("is not declared")),
            }
        }
        Ok(())
    }

    fn innermost(&mut self) -> &mut Scope<'a> {
        self.0.last_mut().expect("the function's scope stays open while its body is parsed")
    }

    /// Declares a name; `None` if the scope has it.
    pub fn declare(&mut self, name: &'a str, meaning: Name) -> Option<()> {
        let scope = self.innermost();
        (scope.find(name).is_none() && scope.names.insert(name, meaning).is_none()).then_some(())
    }

    /// Declares `%r<10>`; `None` if the scope has it.
    pub fn declare_range(&mut self, prefix: &'a str, first: usize, count: usize) -> Option<()> {
        self.innermost().ranges.insert(prefix, (first, count)).is_none().then_some(())
    }

    /// Declares a label; `None` if the scope has it.
    pub fn declare_label(&mut self, label: &'a str, meaning: Label) -> Option<()> {
        self.innermost().labels.insert(label, meaning).is_none().then_some(())
    }

    /// Notes that a label is named.
    pub fn mention(&mut self, label: &'a str, line: u32, place: Place) {
        self.innermost().mentions.push(Mention { label, line, place });
    }

    /// What a name stands for in the innermost scope that declares it.
    pub fn find(&self, name: &str) -> Option<Name> {
        self.0.iter().rev().find_map(|scope| scope.find(name))
    }
}

impl Scope<'_> {
    fn find(&self, name: &str) -> Option<Name> {
        self.names.get(name).copied().or_else(|| {
            // `%r12` may be the twelfth of `%r`, or the second of `%r1`.
            let digits = name.bytes().rev().take(MOST_DIGITS).take_while(u8::is_ascii_digit).count();
            (name.len() - digits..name.len()).find_map(|split| {
                let (prefix, number) = name.split_at(split);
                let &(first, count) = self.ranges.get(prefix)?;
                let number = number.parse().ok().filter(|_| number == "0" || !number.starts_with('0'));
                number.filter(|&n: &usize| n < count).map(|n| Name::Register(first + n))
            })
        })
    }
}

impl Mention<'_> {
    fn error(&self, problem: &str) -> SyntaxError {
        SyntaxError { line: self.line, message: format!("label `{}` {problem}", self.label) }
    }

    fn settle(&self, label: Label, body: &mut Body) -> Result<(), SyntaxError> {
        match (self.place, label) {
            (Place::Jump(instruction, position), Label::Instruction(index)) => {
                body.instructions[instruction].operands[position] = Operand::Label(index);
            }
            (Place::List(instruction, position), Label::Targets(list)) => {
                body.instructions[instruction].operands[position] = Operand::Targets(list);
            }
            (Place::Target(list, position), Label::Instruction(index)) => body.targets[list][position] = index,
            (Place::Call, Label::Prototype) => {}
            _ => return Err(self.error("stands before something else than is needed here")),
        }
        Ok(())
    }
}
