//! What has come from another rank.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::lock;

/// What a rank tells another.
#[derive(Debug, PartialEq, Eq)]
pub enum Message {
    /// Its part of a call: how it calls, and its elements.
    Part(String, Vec<u8>),
    /// That it received what was sent to it.
    Taken,
    /// That it destroyed its communicator.
    Left,
    /// That it cannot go on, and why.
    Failed(String),
}

impl Message {
    /// Writes it: a byte for the kind, the lengths of text and data, then both.
    pub fn write(&self, to: &mut impl Write) -> io::Result<()> {
        let (kind, text, data): (u8, &str, &[u8]) = match self {
            Self::Part(call, data) => (0, call, data),
            Self::Taken => (1, "", &[]),
            Self::Left => (2, "", &[]),
            Self::Failed(why) => (3, why, &[]),
        };
        let lengths = [text.len() as u64, data.len() as u64].map(u64::to_le_bytes);
        to.write_all(&[&[kind], lengths.as_flattened(), text.as_bytes()].concat())?;
        to.write_all(data)
    }

    /// Reads what `write` wrote.
    pub fn read(from: &mut impl Read) -> io::Result<Self> {
        let mut bytes = |count: u64| {
            let mut bytes = Vec::new();
            from.by_ref().take(count).read_to_end(&mut bytes)?;
            if (bytes.len() as u64) < count { Err(io::Error::from(io::ErrorKind::UnexpectedEof)) } else { Ok(bytes) }
        };
        let header = bytes(17)?;
        let length = |at: usize| u64::from_le_bytes(std::array::from_fn(|i| header[at + i]));
        let text = String::from_utf8_lossy(&bytes(length(1))?).into_owned();
        let data = bytes(length(9))?;
        Ok(match header[0] {
            0 => Self::Part(text, data),
            1 => Self::Taken,
            2 => Self::Left,
            _ => Self::Failed(text),
        })
    }
}

/// Messages of one rank that wait to be read, filled by a thread: writing to another rank therefore never waits for what
/// its program does.
#[derive(Debug, Default)]
pub struct Inbox {
    state: Mutex<State>,
    changed: Condvar,
}

/// See [`Inbox`].
#[derive(Debug, Default)]
pub struct State {
    /// Parts of calls: how it calls, and its elements.
    pub parts: VecDeque<(String, Vec<u8>)>,
    /// How many of the parts sent to it were received and not yet waited for.
    pub taken: u64,
    /// Why nothing more will come.
    closed: Option<String>,
}

impl Inbox {
    /// Reads from `stream` until it ends.
    pub fn fill(&self, mut stream: UnixStream) {
        let why = loop {
            match Message::read(&mut stream) {
                Ok(Message::Part(call, data)) => lock(&self.state).parts.push_back((call, data)),
                Ok(Message::Taken) => lock(&self.state).taken += 1,
                Ok(Message::Left) => break "left the communicator".to_owned(),
                Ok(Message::Failed(why)) => break format!("failed ({why})"),
                Err(_) => break "ended".to_owned(),
            }
            self.changed.notify_all();
        };
        self.close(why);
    }

    /// Nothing more will come. The first reason stays.
    pub fn close(&self, why: String) {
        lock(&self.state).closed.get_or_insert(why);
        self.changed.notify_all();
    }

    /// What `find` finds, as soon as it does.
    ///
    /// # Errors
    /// Why it will not: the rank's predicate, as in "rank 1 ended".
    pub fn wait<T>(&self, patience: Duration, mut find: impl FnMut(&mut State) -> Option<T>) -> Result<T, String> {
        let deadline = Instant::now() + patience;
        let mut state = lock(&self.state);
        loop {
            if let Some(found) = find(&mut state) {
                return Ok(found);
            }
            if let Some(why) = &state.closed {
                return Err(why.clone());
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(format!("kept this one waiting for {} s (MDETR_SIM_PATIENCE)", patience.as_secs()));
            }
            state = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Message;

    #[test]
    fn messages_survive_the_wire_and_torn_ones_are_errors() {
        for message in [
            Message::Part("ncclAllReduce of 3 uint8".into(), vec![1, 2, 3]),
            Message::Part(String::new(), Vec::new()),
            Message::Taken,
            Message::Left,
            Message::Failed("über".into()),
        ] {
            let mut wire = Vec::new();
            message.write(&mut wire).unwrap();
            assert_eq!(Message::read(&mut &wire[..]).unwrap(), message);
            assert!(Message::read(&mut &wire[..wire.len() - 1]).is_err(), "{message:?}");
        }
    }
}
