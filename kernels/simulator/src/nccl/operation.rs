//! What a call reads, sends, receives and writes.

use std::ops::Range;
use std::sync::Arc;

use super::Error;
use super::comm::Comm;
use super::mesh::Mesh;
use super::reduce::{Datatype, Operator};
use crate::driver::library::{LibraryCall, Region};
use crate::memory::Memory;

/// The collectives, each with the operator or the root that it takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Everyone gets the reduction of all.
    AllReduce(Operator),
    /// The root gets the reduction of all.
    Reduce(Operator, usize),
    /// Everyone gets the root's elements.
    Broadcast(usize),
    /// Everyone gets everyone's elements, by rank.
    AllGather,
    /// Everyone gets the slice of its rank of the reduction of all.
    ReduceScatter(Operator),
}

/// Elements in device memory.
#[derive(Clone, Copy, Debug)]
pub struct Buffer {
    /// Of the first.
    pub address: u64,
    /// How many.
    pub count: usize,
    /// Their type.
    pub datatype: Datatype,
}

/// A collective as a rank calls it.
#[derive(Clone, Copy, Debug)]
pub struct Collective {
    name: &'static str,
    kind: Kind,
    count: usize,
    send: Buffer,
    receive: Buffer,
}

/// Sends and receives that progress together; each with the other rank.
#[derive(Clone, Debug, Default)]
pub struct Transfers {
    /// What this rank sends.
    pub sends: Vec<(usize, Buffer)>,
    /// What it receives.
    pub receives: Vec<(usize, Buffer)>,
}

impl Buffer {
    fn bytes(&self) -> u64 {
        (self.count * self.datatype.bytes) as u64
    }

    fn range(&self) -> Range<u64> {
        self.address..self.address.saturating_add(self.bytes())
    }

    fn regions(&self) -> impl Iterator<Item = Region> {
        let bytes = self.bytes();
        (bytes > 0).then_some(Region { address: self.address, rows: 1, row_bytes: bytes, pitch: bytes }).into_iter()
    }

    /// Whether it can be used; `what` is the argument's name.
    ///
    /// # Errors
    /// If it is null, misaligned or larger than memory.
    pub fn check(&self, what: &str) -> Result<(), Error> {
        let Self { address, count, datatype: Datatype { name, bytes, .. } } = self;
        if count.checked_mul(*bytes).is_none_or(|bytes| bytes > isize::MAX as usize) {
            return Err(Error::argument(format!("{what}: {count} elements of {name} are more than there is")));
        }
        if *count > 0 && *address == 0 {
            return Err(Error::argument(format!("{what} is null, expected {count} elements of {name}")));
        }
        if !address.is_multiple_of(*bytes as u64) {
            return Err(Error::argument(format!(
                "{what} is {address:#x}, not a multiple of {bytes}, as {name} needs"
            )));
        }
        Ok(())
    }

    fn describe(&self, call: &str) -> String {
        format!("{call} of {} {}", self.count, self.datatype.name)
    }

    fn read(&self, memory: &Memory) -> Result<Vec<u8>, Error> {
        if self.count == 0 {
            return Ok(Vec::new());
        }
        let (allocation, offset) = memory.find(self.address, self.bytes()).map_err(|_| self.gone())?;
        Ok(allocation.read(offset, self.bytes()))
    }

    fn write(&self, memory: &Memory, content: &[u8]) -> Result<(), Error> {
        if self.count > 0 {
            let (allocation, offset) = memory.find(self.address, self.bytes()).map_err(|_| self.gone())?;
            allocation.write(offset, content);
        }
        Ok(())
    }

    fn gone(&self) -> Error {
        Error::argument(format!("there are no {} bytes at {:#x}", self.bytes(), self.address))
    }
}

impl Collective {
    /// The call of a rank: `count` as the function takes it.
    ///
    /// # Errors
    /// What of the arguments is not allowed.
    pub fn new(kind: Kind, count: usize, datatype: Datatype, pointers: [u64; 2], comm: &Comm) -> Result<Self, Error> {
        let (rank, ranks) = (comm.rank(), comm.ranks());
        let all = count.saturating_mul(ranks);
        let only_on = |root: usize| if root == rank { count } else { 0 };
        let (name, sent, received) = match kind {
            Kind::AllReduce(_) => ("ncclAllReduce", count, count),
            Kind::Reduce(_, root) => ("ncclReduce", count, only_on(root)),
            Kind::Broadcast(root) => ("ncclBroadcast", only_on(root), count),
            Kind::AllGather => ("ncclAllGather", count, all),
            Kind::ReduceScatter(_) => ("ncclReduceScatter", all, count),
        };
        if let Kind::Reduce(_, root) | Kind::Broadcast(root) = kind
            && root >= ranks
        {
            return Err(Error::argument(format!("root {root} of {ranks} ranks")));
        }
        let [send, receive] = [(pointers[0], sent), (pointers[1], received)].map(|(address, count)| Buffer {
            address,
            count,
            datatype,
        });
        send.check("sendbuff")?;
        receive.check("recvbuff")?;

        let (s, r) = (send.range(), receive.range());
        let own_slice = rank as u64 * (count * datatype.bytes) as u64;
        let in_place = match kind {
            Kind::AllGather => s.start == r.start + own_slice,
            Kind::ReduceScatter(_) => r.start == s.start + own_slice,
            _ => s.start == r.start,
        };
        if s.start.max(r.start) < s.end.min(r.end) && !in_place {
            return Err(Error::argument(format!(
                "sendbuff {s:#x?} and recvbuff {r:#x?} overlap, and are not in place"
            )));
        }
        Ok(Self { name, kind, count, send, receive })
    }

    /// What must be the same on every rank.
    fn describe(&self) -> String {
        let call = Buffer { count: self.count, ..self.send }.describe(self.name);
        match self.kind {
            Kind::AllReduce(operator) | Kind::ReduceScatter(operator) => format!("{call} by {operator:?}"),
            Kind::Reduce(operator, root) => format!("{call} by {operator:?} to rank {root}"),
            Kind::Broadcast(root) => format!("{call} from rank {root}"),
            Kind::AllGather => call,
        }
    }

    /// What `rank` receives, if it does, given what every rank sends.
    fn result(&self, rank: usize, parts: &[Vec<u8>]) -> Vec<u8> {
        let reduce = |operator, range: Range<usize>| {
            let parts: Vec<&[u8]> = parts.iter().map(|part| &part[range.clone()]).collect();
            self.receive.datatype.reduce(operator, &parts)
        };
        match self.kind {
            Kind::AllReduce(operator) | Kind::Reduce(operator, _) => reduce(operator, 0..parts[0].len()),
            Kind::Broadcast(root) => parts[root].clone(),
            Kind::AllGather => parts.concat(),
            Kind::ReduceScatter(operator) => {
                let slice = self.receive.bytes() as usize;
                reduce(operator, rank * slice..(rank + 1) * slice)
            }
        }
    }

    fn run(&self, mesh: &Mesh, memory: &Memory) -> Result<(), Error> {
        let parts = mesh.exchange(&self.describe(), self.send.read(memory)?)?;
        self.receive.write(memory, &self.result(mesh.rank, &parts))
    }

    /// As work for a stream; `None` if there is nothing to do.
    pub fn into_call(self, comm: Arc<Comm>) -> Option<LibraryCall> {
        (self.count > 0).then(|| LibraryCall {
            name: self.name,
            reads: self.send.regions().collect(),
            writes: self.receive.regions().collect(),
            run: Arc::new(move |memory| comm.run(|mesh| self.run(mesh, memory))),
        })
    }
}

impl Transfers {
    fn run(&self, mesh: &Mesh, memory: &Memory) -> Result<(), Error> {
        for (to, buffer) in &self.sends {
            mesh.send(*to, &buffer.describe("a transfer"), buffer.read(memory)?)?;
        }
        for (from, buffer) in &self.receives {
            buffer.write(memory, &mesh.receive(*from, &buffer.describe("a transfer"))?)?;
        }
        self.sends.iter().try_for_each(|(to, buffer)| mesh.wait_until_taken(*to, &buffer.describe("ncclSend")))
    }

    /// As work for a stream.
    pub fn into_call(self, comm: Arc<Comm>) -> LibraryCall {
        let regions = |buffers: &[(usize, Buffer)]| buffers.iter().flat_map(|(_, buffer)| buffer.regions()).collect();
        LibraryCall {
            name: if self.receives.is_empty() { "ncclSend" } else { "ncclRecv" },
            reads: regions(&self.sends),
            writes: regions(&self.receives),
            run: Arc::new(move |memory| comm.run(|mesh| self.run(mesh, memory))),
        }
    }
}
