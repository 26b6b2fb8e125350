//! Python's pickles (protocols 2 to 5, PEP 307 and 3154) as data. Nothing is imported, called or run: a call stays a
//! record of what was to be called with what.
//!
//! Objects lie in one arena and refer to each other by index, so that shared and cyclic objects cost nothing, nesting
//! needs no stack, and memory is bounded by the length of the pickle.

use std::collections::HashMap;

use anyhow::{Context, Result, bail, ensure};

use super::value::Value;

/// An index into a [`Pickle`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ObjectId(u32);

/// A Python object.
#[derive(Clone, Debug)]
pub enum Object {
    None,
    Bool(bool),
    Int(i128),
    Float(f64),
    Text(String),
    /// Bytes, which nothing here reads.
    Bytes,
    /// A list or a set.
    List(Vec<ObjectId>),
    Tuple(Vec<ObjectId>),
    Dict(Vec<(ObjectId, ObjectId)>),
    /// A class or function: `module.name`.
    Global(String),
    Call(Box<Call>),
    /// What the pickle's owner keeps elsewhere, by this name: PyTorch's storages.
    Persistent(ObjectId),
}

/// `callee(*args)`, and what is set on the result.
#[derive(Clone, Debug)]
pub struct Call {
    pub callee: ObjectId,
    pub args: ObjectId,
    pub state: Option<ObjectId>,
    pub items: Vec<(ObjectId, ObjectId)>,
}

/// The objects of a pickle.
#[derive(Debug)]
pub struct Pickle {
    objects: Vec<Object>,
    root: ObjectId,
}

impl Pickle {
    /// Reads the pickle at the beginning of `bytes` and moves `bytes` behind it. Errors name the byte.
    pub fn read(bytes: &mut &[u8]) -> Result<Pickle> {
        let length = bytes.len();
        let mut machine =
            Machine { rest: bytes, objects: Vec::new(), stack: Vec::new(), marks: Vec::new(), memo: HashMap::new() };
        loop {
            let at = length - machine.rest.len();
            if machine.step().with_context(|| format!("its pickle is broken at byte {at}"))? == Step::Stop {
                break;
            }
        }
        let root = machine.pop().context("its pickle is empty")?;
        *bytes = machine.rest;
        Ok(Pickle { objects: machine.objects, root })
    }

    /// The object that was pickled.
    pub fn root(&self) -> Value<'_> {
        self.at(self.root)
    }

    pub(super) fn at(&self, id: ObjectId) -> Value<'_> {
        Value { pickle: self, id }
    }

    pub(super) fn object(&self, id: ObjectId) -> &Object {
        &self.objects[id.0 as usize]
    }

    /// The names of everything that is kept outside of the pickle.
    pub fn persistent(&self) -> impl Iterator<Item = Value<'_>> {
        self.objects.iter().filter_map(|object| match object {
            Object::Persistent(name) => Some(self.at(*name)),
            _ => None,
        })
    }
}

#[derive(PartialEq)]
enum Step {
    Continue,
    Stop,
}

/// The pickle machine: a stack of objects, marks on it, and a memo of objects that come again.
struct Machine<'a> {
    rest: &'a [u8],
    objects: Vec<Object>,
    stack: Vec<ObjectId>,
    marks: Vec<usize>,
    memo: HashMap<u64, ObjectId>,
}

impl<'a> Machine<'a> {
    fn step(&mut self) -> Result<Step> {
        let opcode = self.take(1)?[0];
        match opcode {
            b'.' => return Ok(Step::Stop),
            0x80 => {
                let protocol = self.take(1)?[0];
                ensure!((2..=5).contains(&protocol), "protocol {protocol} is none of 2 to 5");
            }
            0x95 => _ = self.take(8)?, // a frame's length
            b'(' => self.marks.push(self.stack.len()),
            b'0' => _ = self.pop()?,
            b'1' => _ = self.pop_mark()?,
            b'2' => {
                let top = self.top()?;
                self.stack.push(top);
            }
            b'N' | 0x88 | 0x89 | b'J' | b'K' | b'M' | 0x8a | b'G' => self.number(opcode)?,
            b'X' | 0x8c | 0x8d | b'T' | b'U' | b'B' | b'C' | 0x8e | 0x96 => self.text(opcode)?,
            b']' | b')' | b'}' | 0x8f | b'l' | b't' | 0x85..=0x87 | b'd' | 0x91 => self.container(opcode)?,
            b'a' | b'e' | b's' | b'u' | 0x90 => self.fill(opcode)?,
            b'c' | 0x93 | b'R' | 0x81 | 0x92 | b'b' | b'Q' => self.call(opcode)?,
            b'q' | b'r' | 0x94 | b'h' | b'j' => self.remember(opcode)?,
            _ => bail!("opcode 0x{opcode:02x} is none of those that PyTorch writes"),
        }
        Ok(Step::Continue)
    }

    fn number(&mut self, opcode: u8) -> Result<()> {
        let object = match opcode {
            b'N' => Object::None,
            0x88 => Object::Bool(true),
            0x89 => Object::Bool(false),
            b'J' => Object::Int(i32::from_le_bytes(self.array()?).into()),
            b'K' | b'M' => Object::Int(self.unsigned(if opcode == b'K' { 1 } else { 2 })?.into()),
            b'G' => Object::Float(f64::from_be_bytes(self.array()?)),
            _ => {
                let n = self.take(1)?[0].into();
                let bytes = self.take(n)?;
                ensure!(n <= 16, "an integer of {n} bytes");
                let sign = if bytes.last().is_some_and(|b| b & 0x80 != 0) { 0xff } else { 0 };
                let mut wide = [sign; 16];
                wide[..n].copy_from_slice(bytes);
                Object::Int(i128::from_le_bytes(wide))
            }
        };
        self.push(object)
    }

    fn text(&mut self, opcode: u8) -> Result<()> {
        let width = match opcode {
            0x8c | b'U' | b'C' => 1,
            0x8d | 0x8e | 0x96 => 8,
            _ => 4,
        };
        let n = self.unsigned(width)?;
        let bytes = self.take(n.try_into()?)?;
        let is_text = matches!(opcode, b'X' | 0x8c | 0x8d | b'T' | b'U');
        self.push(match std::str::from_utf8(bytes) {
            Ok(text) if is_text => Object::Text(text.into()),
            _ => Object::Bytes,
        })
    }

    fn container(&mut self, opcode: u8) -> Result<()> {
        let object = match opcode {
            b']' | 0x8f => Object::List(Vec::new()),
            b')' => Object::Tuple(Vec::new()),
            b'}' => Object::Dict(Vec::new()),
            b'l' | 0x91 => Object::List(self.pop_mark()?),
            b't' => Object::Tuple(self.pop_mark()?),
            b'd' => Object::Dict(pairs(&self.pop_mark()?)?),
            _ => {
                let n = usize::from(opcode - 0x84);
                ensure!(self.stack.len() >= n, "the stack is empty");
                Object::Tuple(self.stack.split_off(self.stack.len() - n))
            }
        };
        self.push(object)
    }

    /// Elements and items of the container below them.
    fn fill(&mut self, opcode: u8) -> Result<()> {
        let elements = match opcode {
            b'a' => vec![self.pop()?],
            b's' => {
                let value = self.pop()?;
                vec![self.pop()?, value]
            }
            _ => self.pop_mark()?,
        };
        let of_items = matches!(opcode, b's' | b'u');
        let ObjectId(container) = self.top()?;
        match &mut self.objects[container as usize] {
            Object::List(list) if !of_items => list.extend(elements),
            Object::Dict(items) if of_items => items.extend(pairs(&elements)?),
            Object::Call(call) if of_items => call.items.extend(pairs(&elements)?),
            Object::Call(_) => {} // elements of a class that nothing here reads
            _ => bail!("elements of an object that takes none"),
        }
        Ok(())
    }

    fn call(&mut self, opcode: u8) -> Result<()> {
        let object = match opcode {
            b'c' => Object::Global(format!("{}.{}", self.line()?, self.line()?)),
            0x93 => {
                let [name, module] = [self.pop()?, self.pop()?].map(|id| self.objects[id.0 as usize].clone());
                let (Object::Text(name), Object::Text(module)) = (name, module) else {
                    bail!("a class without a name")
                };
                Object::Global(format!("{module}.{name}"))
            }
            b'Q' => Object::Persistent(self.pop()?),
            b'b' => {
                let state = self.pop()?;
                let ObjectId(top) = self.top()?;
                // PyTorch sets attributes of dictionaries too (`_metadata`): they are left out.
                if let Object::Call(call) = &mut self.objects[top as usize] {
                    call.state = Some(state);
                }
                return Ok(());
            }
            _ => {
                if opcode == 0x92 {
                    self.pop()?; // keyword arguments
                }
                let args = self.pop()?;
                let callee = self.pop()?;
                Object::Call(Box::new(Call { callee, args, state: None, items: Vec::new() }))
            }
        };
        self.push(object)
    }

    fn remember(&mut self, opcode: u8) -> Result<()> {
        let index = match opcode {
            0x94 => self.memo.len() as u64,
            b'q' | b'h' => self.unsigned(1)?,
            _ => self.unsigned(4)?,
        };
        if matches!(opcode, b'h' | b'j') {
            let id = *self.memo.get(&index).with_context(|| format!("the memo has no {index}"))?;
            self.stack.push(id);
        } else {
            let top = self.top()?;
            self.memo.insert(index, top);
        }
        Ok(())
    }

    fn push(&mut self, object: Object) -> Result<()> {
        self.stack.push(ObjectId(self.objects.len().try_into()?));
        self.objects.push(object);
        Ok(())
    }

    /// The top of the stack, above the last mark.
    fn top(&self) -> Result<ObjectId> {
        let floor = self.marks.last().copied().unwrap_or(0);
        ensure!(self.stack.len() > floor, "the stack is empty");
        Ok(self.stack[self.stack.len() - 1])
    }

    fn pop(&mut self) -> Result<ObjectId> {
        let top = self.top()?;
        self.stack.pop();
        Ok(top)
    }

    fn pop_mark(&mut self) -> Result<Vec<ObjectId>> {
        let mark = self.marks.pop().context("the stack has no mark")?;
        Ok(self.stack.split_off(mark.min(self.stack.len())))
    }

    fn take(&mut self, n: usize) -> Result<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(n).context("it ends too early")?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        Ok(self.take(N)?.try_into()?)
    }

    fn unsigned(&mut self, width: usize) -> Result<u64> {
        let mut wide = [0; 8];
        wide[..width].copy_from_slice(self.take(width)?);
        Ok(u64::from_le_bytes(wide))
    }

    fn line(&mut self) -> Result<&'a str> {
        let end = self.rest.iter().position(|&b| b == b'\n').context("it ends too early")?;
        let line = self.take(end + 1)?;
        Ok(std::str::from_utf8(&line[..end])?)
    }
}

fn pairs(elements: &[ObjectId]) -> Result<Vec<(ObjectId, ObjectId)>> {
    let (pairs, rest) = elements.as_chunks::<2>();
    ensure!(rest.is_empty(), "a key without a value");
    Ok(pairs.iter().map(|&[key, value]| (key, value)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn broken_pickles_are_errors() {
        let cases: [(&[u8], &str); 14] = [
            (b"", "at byte 0"),
            (b"\x80\x02", "at byte 2: it ends too early"),
            (b"\x80\x07N.", "protocol 7"),
            (b".", "empty"),
            (b"0.", "at byte 0: the stack is empty"),
            (b"t.", "no mark"),
            (b"(0.", "at byte 1: the stack is empty"),
            (b"h\x07.", "the memo has no 7"),
            (b"X\xff\xff\xff\xffabc", "ends too early"),
            (b"(K\x01d.", "a key without a value"),
            (b"K\x01K\x02a.", "an object that takes none"),
            (b"\x8a\x20aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa.", "an integer of 32 bytes"),
            (b"N)\x93.", "a class without a name"),
            (b"I1\n.", "opcode 0x49"),
        ];
        for (bytes, expected) in cases {
            let error = format!("{:#}", Pickle::read(&mut &*bytes).unwrap_err());
            assert!(error.contains(expected), "{bytes:?}: {error}");
        }
    }

    #[test]
    fn nesting_sharing_and_cycles_cost_nothing() {
        let lists = |n: usize| [b"]".repeat(n), b"a".repeat(n - 1), b".".to_vec()].concat();
        let deep = lists(1_000_000);
        assert!(Pickle::read(&mut &*deep).unwrap().root().json().is_err());
        let mut laughs = b"]q\x00".to_vec(); // lists that each hold the one before many times
        for i in 0..50 {
            laughs.extend([&[b']', b'q', i + 1, b'('], &*[b'h', i].repeat(200), b"e"].concat());
        }
        laughs.push(b'.');
        assert!(Pickle::read(&mut &*laughs).unwrap().root().json().is_err());
        let own_element = b"]q\x00h\x00a.";
        assert!(Pickle::read(&mut &own_element[..]).unwrap().root().json().is_err());
    }
}
