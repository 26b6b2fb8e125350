//! A stand-in for NCCL between processes of one machine: each is a rank, with a simulated device of its own.
//!
//! ```text
//! communicators, collectives     C entry points
//! group                          what waits for ncclGroupEnd
//! operation                      what a call reads, sends, receives and writes
//! reduce                         arithmetic
//! comm, mesh, inbox, rendezvous  ranks and the sockets between them
//! ```
//!
//! | | allowed | else |
//! |---|---|---|
//! | element types | (u)int8, (u)int32, (u)int64, float16, bfloat16, float32, float64 | `ncclInvalidArgument` |
//! | operators | sum, prod, min, max, avg | `ncclInvalidArgument` |
//! | pointers | not null where the rank sends or receives, multiples of the element's size | `ncclInvalidArgument` |
//! | buffers | in place as documented, or apart | `ncclInvalidArgument` |
//! | roots, peers | a rank; a peer is another rank | `ncclInvalidArgument` |
//! | configuration | blocking | `ncclInvalidArgument` |
//! | ranks | one a process (it has one device); `ncclCommInitAll` takes one device | `ncclInvalidUsage` |
//! | calls | the same on every rank: function, count, type, operator, root | `ncclInvalidUsage` on all ranks |
//! | sends | wait until they are received, unless they are grouped with what waits for them | `ncclRemoteError` |
//! | other ranks | there: one that ended, left, failed or keeps the others waiting is named | `ncclRemoteError` |
//!
//! A refused call says why on the standard error stream and in `ncclGetLastError`. A communicator with an error stays so:
//! a captured call that fails when its graph is replayed shows in `ncclCommGetAsyncError`. What is not an entry point here
//! (`ncclCommSplit`, `ncclRedOpCreatePreMulSum`, registration, windows) is not modelled.

mod collectives;
mod comm;
mod communicators;
mod group;
mod inbox;
mod mesh;
mod operation;
mod reduce;
mod rendezvous;

use std::cell::RefCell;
use std::ffi::CString;
use std::sync::{Mutex, MutexGuard, PoisonError};

use cudarc::nccl::sys::ncclResult_t;

use crate::vendor::Refusal;

/// Why a call was refused, or failed.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Error {
    result: ncclResult_t,
    message: String,
}

impl Error {
    /// An argument that is never allowed.
    fn argument(message: impl Into<String>) -> Self {
        Self { result: ncclResult_t::ncclInvalidArgument, message: message.into() }
    }

    /// A call that does not fit this process, or those of the other ranks.
    fn usage(message: impl Into<String>) -> Self {
        Self { result: ncclResult_t::ncclInvalidUsage, message: message.into() }
    }

    /// Another rank's doing.
    fn remote(message: impl Into<String>) -> Self {
        Self { result: ncclResult_t::ncclRemoteError, message: message.into() }
    }
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Invalid(message) | Refusal::Unsupported(message) => Self::argument(message),
            Refusal::Failed(code) => {
                Self { result: ncclResult_t::ncclUnhandledCudaError, message: format!("{code:?}") }
            }
        }
    }
}

thread_local! {
    /// What `ncclGetLastError` says.
    static LAST_ERROR: RefCell<CString> = RefCell::default();
}

/// The C answer to a call of `function`.
fn answer(function: &str, result: Result<(), Error>) -> ncclResult_t {
    let Err(Error { result, message }) = result else { return ncclResult_t::ncclSuccess };
    let message = format!("{function}: {message}");
    eprintln!("simulator: {message}");
    LAST_ERROR.set(CString::new(message.replace('\0', "")).unwrap_or_default());
    result
}

/// Locks what no panic can leave half done.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
