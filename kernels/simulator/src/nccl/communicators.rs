//! C entry points: versions, errors, and the life of communicators.

use std::ffi::{CStr, c_char, c_int};
use std::mem::MaybeUninit;

use cudarc::nccl::sys::{ncclComm_t, ncclResult_t, ncclUniqueId};

use super::comm::Comm;
use super::mesh::Mesh;
use super::{Error, LAST_ERROR, answer, rendezvous};
use crate::options::options;

/// NCCL 2.30.0, whose interface this is.
const VERSION: c_int = 2_30_00;
/// What begins a configuration.
const CONFIG_MAGIC: u32 = 0xcafe_beef;
/// A field of a configuration that the program did not set.
const UNDEFINED: c_int = c_int::MIN;

/// Where a caller wants a result: C's `T *`, which may be null.
type Out<'a, T> = Option<&'a mut MaybeUninit<T>>;

/// The beginning of a configuration, the same in every version.
#[repr(C)]
struct ConfigHead {
    size: usize,
    magic: u32,
    version: u32,
    blocking: c_int,
}

/// Hands a result out.
fn put<T>(out: Out<'_, T>, value: T) -> Result<(), Error> {
    out.ok_or_else(|| Error::argument("null, expected a place for the result"))?.write(value);
    Ok(())
}

fn init_rank(ranks: c_int, id: &ncclUniqueId, rank: c_int) -> Result<ncclComm_t, Error> {
    let (Ok(own), Ok(all)) = (usize::try_from(rank), usize::try_from(ranks)) else {
        return Err(Error::argument(format!("rank {rank} of {ranks}")));
    };
    if own >= all {
        return Err(Error::argument(format!("rank {rank} of {ranks}")));
    }
    let id = rendezvous::base(id)?;
    let mesh = Mesh::connect(&id, own, all, options().patience)?;
    Ok(Comm::create(id, mesh))
}

/// Whether what a configuration asks for is modelled.
fn check_config(config: Option<&ConfigHead>) -> Result<(), Error> {
    match config {
        Some(ConfigHead { magic, .. }) if *magic != CONFIG_MAGIC => {
            Err(Error::argument(format!("config begins with {magic:#x}: it was not initialized")))
        }
        Some(ConfigHead { blocking, .. }) if *blocking != 1 && *blocking != UNDEFINED => {
            let message = format!("config.blocking is {blocking}: only blocking communicators are modelled");
            Err(Error::argument(message))
        }
        _ => Ok(()),
    }
}

#[unsafe(no_mangle)]
extern "C" fn ncclGetVersion(version: Out<'_, c_int>) -> ncclResult_t {
    answer("ncclGetVersion", put(version, VERSION))
}

#[unsafe(no_mangle)]
extern "C" fn ncclGetUniqueId(id: Out<'_, ncclUniqueId>) -> ncclResult_t {
    answer("ncclGetUniqueId", rendezvous::unique_id().and_then(|new| put(id, new)))
}

#[unsafe(no_mangle)]
extern "C" fn ncclCommInitRank(
    comm: Out<'_, ncclComm_t>,
    ranks: c_int,
    id: ncclUniqueId,
    rank: c_int,
) -> ncclResult_t {
    answer("ncclCommInitRank", init_rank(ranks, &id, rank).and_then(|new| put(comm, new)))
}

#[unsafe(no_mangle)]
extern "C" fn ncclCommInitRankConfig(
    comm: Out<'_, ncclComm_t>,
    ranks: c_int,
    id: ncclUniqueId,
    rank: c_int,
    config: Option<&ConfigHead>,
) -> ncclResult_t {
    let new = check_config(config).and_then(|()| init_rank(ranks, &id, rank));
    answer("ncclCommInitRankConfig", new.and_then(|new| put(comm, new)))
}

#[unsafe(no_mangle)]
extern "C" fn ncclCommInitAll(comms: Out<'_, ncclComm_t>, devices: c_int, list: Option<&c_int>) -> ncclResult_t {
    let new = match (devices, list) {
        (1, None | Some(0)) => rendezvous::unique_id().and_then(|id| init_rank(1, &id, 0)),
        _ => Err(Error::usage(format!("{devices} devices: a process has one, device 0"))),
    };
    answer("ncclCommInitAll", new.and_then(|new| put(comms, new)))
}

/// Nothing waits: every call is done when it returns.
#[unsafe(no_mangle)]
extern "C" fn ncclCommFinalize(comm: ncclComm_t) -> ncclResult_t {
    answer("ncclCommFinalize", Comm::find(comm).map(drop))
}

#[unsafe(no_mangle)]
extern "C" fn ncclCommDestroy(comm: ncclComm_t) -> ncclResult_t {
    answer("ncclCommDestroy", Comm::destroy(comm))
}

#[unsafe(no_mangle)]
extern "C" fn ncclCommAbort(comm: ncclComm_t) -> ncclResult_t {
    answer("ncclCommAbort", Comm::destroy(comm))
}

#[unsafe(no_mangle)]
extern "C" fn ncclCommCount(comm: ncclComm_t, count: Out<'_, c_int>) -> ncclResult_t {
    answer("ncclCommCount", Comm::find(comm).and_then(|comm| put(count, comm.ranks() as c_int)))
}

#[unsafe(no_mangle)]
extern "C" fn ncclCommCuDevice(comm: ncclComm_t, device: Out<'_, c_int>) -> ncclResult_t {
    answer("ncclCommCuDevice", Comm::find(comm).and_then(|_| put(device, 0)))
}

#[unsafe(no_mangle)]
extern "C" fn ncclCommUserRank(comm: ncclComm_t, rank: Out<'_, c_int>) -> ncclResult_t {
    answer("ncclCommUserRank", Comm::find(comm).and_then(|comm| put(rank, comm.rank() as c_int)))
}

#[unsafe(no_mangle)]
extern "C" fn ncclCommGetAsyncError(comm: ncclComm_t, error: Out<'_, ncclResult_t>) -> ncclResult_t {
    let result = |comm: &Comm| comm.error().map_or(ncclResult_t::ncclSuccess, |error| error.result);
    answer("ncclCommGetAsyncError", Comm::find(comm).and_then(|comm| put(error, result(&comm))))
}

#[unsafe(no_mangle)]
extern "C" fn ncclGetErrorString(result: u32) -> *const c_char {
    use ncclResult_t as r;
    const KNOWN: [(r, &CStr); 9] = [
        (r::ncclSuccess, c"success"),
        (r::ncclUnhandledCudaError, c"a call of the driver failed"),
        (r::ncclSystemError, c"a call of the system failed"),
        (r::ncclInternalError, c"a defect of the library"),
        (r::ncclInvalidArgument, c"an argument is not allowed"),
        (r::ncclInvalidUsage, c"the call is not allowed here"),
        (r::ncclRemoteError, c"another rank failed"),
        (r::ncclInProgress, c"still in progress"),
        (r::ncclTimeout, c"waited too long"),
    ];
    KNOWN.iter().find(|(known, _)| *known as u32 == result).map_or(c"unknown result code", |(_, text)| text).as_ptr()
}

/// What went wrong last on this thread; valid until something else does.
#[unsafe(no_mangle)]
extern "C" fn ncclGetLastError(_comm: ncclComm_t) -> *const c_char {
    LAST_ERROR.with_borrow(|message| message.as_ptr())
}
