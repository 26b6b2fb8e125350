//! How the ranks of a communicator find each other: each listens at a socket in the temporary folder that the unique id
//! and its rank name, and calls those below it.

use std::collections::BTreeMap;
use std::ffi::c_char;
use std::hash::{BuildHasher, RandomState};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use cudarc::nccl::sys::ncclUniqueId;

use super::Error;

/// The longest path that a socket can have everywhere, less room for the rank.
const LONGEST: usize = 90;

/// Names a communicator that there has never been.
///
/// # Errors
/// If the temporary folder's path is too long for a socket.
pub fn unique_id() -> Result<ncclUniqueId, Error> {
    let random = RandomState::new().hash_one(std::process::id());
    let path = std::env::temp_dir().join(format!("mdetr-nccl-{random:016x}"));
    match path.to_str() {
        Some(text) if text.len() <= LONGEST => {
            let mut internal = [0; 128];
            text.bytes().zip(&mut internal).for_each(|(byte, to)| *to = byte as c_char);
            Ok(ncclUniqueId { internal })
        }
        _ => Err(Error::usage(format!("{path:?} has no name for a socket: set TMPDIR to a shorter folder"))),
    }
}

/// The beginning of the sockets' paths.
///
/// # Errors
/// If the id was not made by [`unique_id`].
pub fn base(id: &ncclUniqueId) -> Result<String, Error> {
    let bytes: Vec<u8> = id.internal.iter().map(|&c| c as u8).take_while(|&c| c != 0).collect();
    match String::from_utf8(bytes) {
        Ok(text) if text.contains("mdetr-nccl-") && text.len() <= LONGEST => Ok(text),
        _ => Err(Error::argument("the unique id is not one of ncclGetUniqueId's")),
    }
}

/// Another rank: a socket to its process.
#[derive(Debug)]
pub struct Link {
    /// The socket.
    pub stream: UnixStream,
    /// The process's id.
    pub process: u64,
}

/// Connects a rank to all others, by rank.
///
/// # Errors
/// Names the ranks that did not come, or what they were told otherwise.
pub fn meet(base: &str, rank: usize, ranks: usize, patience: Duration) -> Result<BTreeMap<usize, Link>, Error> {
    let party = Party { base, rank, ranks, patience, deadline: Instant::now() + patience };
    let listener = party.listen()?;
    let mut links = BTreeMap::new();
    for lower in 0..rank {
        links.insert(lower, party.call(lower)?);
    }
    while links.len() + 1 < ranks {
        let missing = (rank + 1..ranks).filter(|other| !links.contains_key(other));
        let (other, link) = party.answer(&listener, missing)?;
        if links.insert(other, link).is_some() {
            return Err(Error::usage(format!("two processes are rank {other}")));
        }
    }
    Ok(links)
}

struct Party<'a> {
    base: &'a str,
    rank: usize,
    ranks: usize,
    patience: Duration,
    deadline: Instant,
}

/// A socket that others call, and its file, which goes when it is dropped.
struct Listener(UnixListener, PathBuf);

impl Drop for Listener {
    fn drop(&mut self) {
        // It is of no more use; should it stay, nothing will have its name again.
        let _ = std::fs::remove_file(&self.1);
    }
}

impl Party<'_> {
    fn path(&self, rank: usize) -> PathBuf {
        PathBuf::from(format!("{}.{rank}", self.base))
    }

    fn listen(&self) -> Result<Listener, Error> {
        let path = self.path(self.rank);
        let bound = UnixListener::bind(&path).map_err(|e| match e.kind() {
            ErrorKind::AddrInUse => Error::usage(format!("two processes are rank {}", self.rank)),
            _ => self.trouble(&path, &e),
        })?;
        bound.set_nonblocking(true).map_err(|e| self.trouble(&path, &e))?;
        Ok(Listener(bound, path))
    }

    fn trouble(&self, path: &Path, error: &io::Error) -> Error {
        Error {
            result: cudarc::nccl::sys::ncclResult_t::ncclSystemError,
            message: format!("{}: {error}", path.display()),
        }
    }

    /// Waits a moment.
    fn pause(&self, missing: impl FnOnce() -> String) -> Result<(), Error> {
        if Instant::now() >= self.deadline {
            let waited = self.patience.as_secs();
            return Err(Error::remote(format!("{} did not come within {waited} s (MDETR_SIM_PATIENCE)", missing())));
        }
        std::thread::sleep(Duration::from_millis(1));
        Ok(())
    }

    /// Calls a lower rank.
    fn call(&self, lower: usize) -> Result<Link, Error> {
        let mut stream = loop {
            match UnixStream::connect(self.path(lower)) {
                Ok(stream) => break stream,
                Err(_) => self.pause(|| format!("rank {lower}"))?,
            }
        };
        let greeted = self.say_hello(&mut stream).and_then(|()| self.hear_hello(&mut stream));
        let [other, ranks, process] = greeted.map_err(|e| Error::remote(format!("rank {lower} hung up: {e}")))?;
        self.check(other, ranks, process)?;
        Ok(Link { stream, process })
    }

    /// Waits for the call of a higher rank.
    fn answer(&self, listener: &Listener, missing: impl Iterator<Item = usize>) -> Result<(usize, Link), Error> {
        let missing: Vec<String> = missing.map(|rank| format!("rank {rank}")).collect();
        loop {
            let Ok((mut stream, _)) = listener.0.accept() else {
                self.pause(|| missing.join(", "))?;
                continue;
            };
            // Who says nothing sensible is no rank; should it be one, it is missed in time.
            let Ok([other, ranks, process]) = self.hear_hello(&mut stream) else { continue };
            let said = self.say_hello(&mut stream);
            self.check(other, ranks, process)?;
            said.map_err(|e| Error::remote(format!("rank {other} hung up: {e}")))?;
            return Ok((other as usize, Link { stream, process }));
        }
    }

    fn say_hello(&self, stream: &mut UnixStream) -> io::Result<()> {
        let words = [self.rank as u64, self.ranks as u64, std::process::id().into()];
        stream.write_all(words.map(u64::to_le_bytes).as_flattened())
    }

    fn hear_hello(&self, stream: &mut UnixStream) -> io::Result<[u64; 3]> {
        let left = self.deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
        stream.set_nonblocking(false)?;
        stream.set_read_timeout(Some(left))?;
        let mut words = [[0; 8]; 3];
        stream.read_exact(words.as_flattened_mut())?;
        stream.set_read_timeout(None)?;
        Ok(words.map(u64::from_le_bytes))
    }

    /// Whether another rank belongs to the party.
    fn check(&self, other: u64, ranks: u64, process: u64) -> Result<(), Error> {
        let own = self.rank;
        if ranks != self.ranks as u64 {
            let told = format!("rank {other} was told of {ranks} ranks, rank {own} of {}", self.ranks);
            return Err(Error::usage(told));
        }
        if process == u64::from(std::process::id()) {
            return Err(Error::usage(format!(
                "ranks {other} and {own} are both of process {process}: it has one device"
            )));
        }
        Ok(())
    }
}
