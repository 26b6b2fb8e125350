//! C entry points: collectives, sends and receives, groups.

use std::ffi::{c_int, c_void};

use cudarc::nccl::sys::{cudaStream_t, ncclComm_t, ncclResult_t};

use super::comm::Comm;
use super::group::{self, Action, Call};
use super::operation::{Buffer, Collective, Kind};
use super::reduce::{Datatype, Operator};
use super::{Error, answer};

/// A rank as C passes it; one that is negative is beyond all ranks.
fn rank(raw: c_int) -> usize {
    usize::try_from(raw).unwrap_or(usize::MAX)
}

/// The call of a collective.
fn collective(
    kind: Result<Kind, Error>,
    [send, receive]: [*const c_void; 2],
    count: usize,
    datatype: u32,
    comm: ncclComm_t,
    stream: cudaStream_t,
) -> Result<(), Error> {
    let sound = || {
        let comm = Comm::find(comm)?;
        let pointers = [send.addr() as u64, receive.addr() as u64];
        let action = Action::Collective(Collective::new(kind?, count, Datatype::new(datatype)?, pointers, &comm)?);
        Ok(Call { comm, stream: stream.cast(), action })
    };
    group::call(sound())
}

/// The call of a send or a receive.
fn transfer(
    action: fn(usize, Buffer) -> Action,
    buffer: *const c_void,
    count: usize,
    datatype: u32,
    peer: c_int,
    comm: ncclComm_t,
    stream: cudaStream_t,
) -> Result<(), Error> {
    let sound = || {
        let comm = Comm::find(comm)?;
        let buffer = Buffer { address: buffer.addr() as u64, count, datatype: Datatype::new(datatype)? };
        buffer.check("buffer")?;
        if rank(peer) >= comm.ranks() || rank(peer) == comm.rank() {
            let (own, ranks) = (comm.rank(), comm.ranks());
            return Err(Error::argument(format!("peer {peer} is no other rank: this one is {own} of {ranks}")));
        }
        Ok(Call { comm, stream: stream.cast(), action: action(rank(peer), buffer) })
    };
    group::call(sound())
}

#[unsafe(no_mangle)]
extern "C" fn ncclAllReduce(
    send: *const c_void,
    receive: *mut c_void,
    count: usize,
    datatype: u32,
    operator: u32,
    comm: ncclComm_t,
    stream: cudaStream_t,
) -> ncclResult_t {
    let kind = Operator::new(operator).map(Kind::AllReduce);
    answer("ncclAllReduce", collective(kind, [send, receive], count, datatype, comm, stream))
}

#[unsafe(no_mangle)]
extern "C" fn ncclReduce(
    send: *const c_void,
    receive: *mut c_void,
    count: usize,
    datatype: u32,
    operator: u32,
    root: c_int,
    comm: ncclComm_t,
    stream: cudaStream_t,
) -> ncclResult_t {
    let kind = Operator::new(operator).map(|operator| Kind::Reduce(operator, rank(root)));
    answer("ncclReduce", collective(kind, [send, receive], count, datatype, comm, stream))
}

#[unsafe(no_mangle)]
extern "C" fn ncclBroadcast(
    send: *const c_void,
    receive: *mut c_void,
    count: usize,
    datatype: u32,
    root: c_int,
    comm: ncclComm_t,
    stream: cudaStream_t,
) -> ncclResult_t {
    let kind = Ok(Kind::Broadcast(rank(root)));
    answer("ncclBroadcast", collective(kind, [send, receive], count, datatype, comm, stream))
}

#[unsafe(no_mangle)]
extern "C" fn ncclAllGather(
    send: *const c_void,
    receive: *mut c_void,
    count: usize,
    datatype: u32,
    comm: ncclComm_t,
    stream: cudaStream_t,
) -> ncclResult_t {
    answer("ncclAllGather", collective(Ok(Kind::AllGather), [send, receive], count, datatype, comm, stream))
}

#[unsafe(no_mangle)]
extern "C" fn ncclReduceScatter(
    send: *const c_void,
    receive: *mut c_void,
    count: usize,
    datatype: u32,
    operator: u32,
    comm: ncclComm_t,
    stream: cudaStream_t,
) -> ncclResult_t {
    let kind = Operator::new(operator).map(Kind::ReduceScatter);
    answer("ncclReduceScatter", collective(kind, [send, receive], count, datatype, comm, stream))
}

#[unsafe(no_mangle)]
extern "C" fn ncclSend(
    buffer: *const c_void,
    count: usize,
    datatype: u32,
    peer: c_int,
    comm: ncclComm_t,
    stream: cudaStream_t,
) -> ncclResult_t {
    answer("ncclSend", transfer(Action::Send, buffer, count, datatype, peer, comm, stream))
}

#[unsafe(no_mangle)]
extern "C" fn ncclRecv(
    buffer: *mut c_void,
    count: usize,
    datatype: u32,
    peer: c_int,
    comm: ncclComm_t,
    stream: cudaStream_t,
) -> ncclResult_t {
    answer("ncclRecv", transfer(Action::Receive, buffer, count, datatype, peer, comm, stream))
}

#[unsafe(no_mangle)]
extern "C" fn ncclGroupStart() -> ncclResult_t {
    group::start();
    ncclResult_t::ncclSuccess
}

#[unsafe(no_mangle)]
extern "C" fn ncclGroupEnd() -> ncclResult_t {
    answer("ncclGroupEnd", group::end())
}
