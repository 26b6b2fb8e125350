//! The ranks of a communicator, each connected to each.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::inbox::{Inbox, Message};
use super::rendezvous::{Link, meet};
use super::{Error, lock};

/// One rank's view of the others.
#[derive(Debug)]
pub struct Mesh {
    /// This process's rank.
    pub rank: usize,
    /// How many ranks there are.
    pub ranks: usize,
    peers: BTreeMap<usize, Peer>,
    patience: Duration,
}

#[derive(Debug)]
struct Peer {
    process: u64,
    stream: Mutex<UnixStream>,
    inbox: Arc<Inbox>,
}

impl Mesh {
    /// Meets the other ranks at the sockets that begin with `base`.
    ///
    /// # Errors
    /// Names the ranks that do not come within `patience`.
    pub fn connect(base: &str, rank: usize, ranks: usize, patience: Duration) -> Result<Self, Error> {
        let links = meet(base, rank, ranks, patience)?;
        let peers = links.into_iter().map(|(rank, link)| Ok((rank, Peer::new(link, patience)?)));
        let peers = peers.collect::<std::io::Result<_>>().map_err(|e| Error::remote(e.to_string()))?;
        Ok(Self { rank, ranks, peers, patience })
    }

    /// Gives every rank this one's part of a call, and returns everyone's, by rank.
    ///
    /// # Errors
    /// Names the rank that does not call, or calls otherwise.
    pub fn exchange(&self, call: &str, part: Vec<u8>) -> Result<Vec<Vec<u8>>, Error> {
        let message = Message::Part(call.to_owned(), part);
        for &other in self.peers.keys() {
            self.post(other, &message)?;
        }
        let others = self.peers.keys().map(|&other| self.take(other, call));
        let mut parts = others.collect::<Result<Vec<_>, _>>()?;
        let Message::Part(_, own) = message else { unreachable!("made above") };
        parts.insert(self.rank, own);
        Ok(parts)
    }

    /// Sends to one rank, without waiting until it receives.
    ///
    /// # Errors
    /// If there is no such rank.
    pub fn send(&self, to: usize, call: &str, part: Vec<u8>) -> Result<(), Error> {
        self.post(to, &Message::Part(call.to_owned(), part))
    }

    /// Waits until a rank has received what was sent to it.
    ///
    /// # Errors
    /// Names the rank if it does not.
    pub fn wait_until_taken(&self, by: usize, call: &str) -> Result<(), Error> {
        let taken = self.peer(by)?.inbox.wait(self.patience, |state| {
            state.taken = state.taken.checked_sub(1)?;
            Some(())
        });
        taken.map_err(|why| self.missing(by, call, &why))
    }

    /// Receives from one rank.
    ///
    /// # Errors
    /// Names the rank that does not send, or sends something else.
    pub fn receive(&self, from: usize, call: &str) -> Result<Vec<u8>, Error> {
        let part = self.take(from, call)?;
        self.post(from, &Message::Taken)?;
        Ok(part)
    }

    /// Tells the others that this rank cannot go on.
    pub fn fail(&self, why: &str) {
        self.tell(&Message::Failed(why.to_owned()));
    }

    /// Parts from the others; whatever waits for them here stops.
    pub fn leave(&self) {
        self.tell(&Message::Left);
        for peer in self.peers.values() {
            peer.inbox.close("was left by this one".to_owned());
            // It may be closed already.
            let _ = lock(&peer.stream).shutdown(Shutdown::Both);
        }
    }

    fn tell(&self, message: &Message) {
        for peer in self.peers.values() {
            peer.post(message);
        }
    }

    fn peer(&self, rank: usize) -> Result<&Peer, Error> {
        self.peers.get(&rank).ok_or_else(|| Error::argument(format!("rank {rank} is no other rank")))
    }

    fn post(&self, to: usize, message: &Message) -> Result<(), Error> {
        self.peer(to)?.post(message);
        Ok(())
    }

    /// The next part of a rank, which must be of the same call.
    fn take(&self, from: usize, call: &str) -> Result<Vec<u8>, Error> {
        let next = self.peer(from)?.inbox.wait(self.patience, |state| state.parts.pop_front());
        let (theirs, part) = next.map_err(|why| self.missing(from, call, &why))?;
        if theirs != call {
            return Err(Error::usage(format!("rank {from} calls {theirs}, rank {} {call}", self.rank)));
        }
        Ok(part)
    }

    fn missing(&self, rank: usize, call: &str, why: &str) -> Error {
        let process = self.peers.get(&rank).map_or(0, |peer| peer.process);
        Error::remote(format!("rank {rank} (process {process}) {why}, in {call}"))
    }
}

impl Peer {
    fn new(link: Link, patience: Duration) -> std::io::Result<Self> {
        let inbox = Arc::new(Inbox::default());
        let (reading, filled) = (link.stream.try_clone()?, inbox.clone());
        std::thread::Builder::new().name("nccl".into()).spawn(move || filled.fill(reading))?;
        link.stream.set_write_timeout(Some(patience))?;
        Ok(Self { process: link.process, stream: Mutex::new(link.stream), inbox })
    }

    /// Writes to it. If it is gone, whoever waits for it says so.
    fn post(&self, message: &Message) {
        let written = message.write(&mut *lock(&self.stream));
        if written.is_err_and(|e| e.kind() == ErrorKind::WouldBlock) {
            self.inbox.close("reads nothing".to_owned());
        }
    }
}
