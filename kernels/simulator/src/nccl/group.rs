//! Groups of calls: those between `ncclGroupStart` and `ncclGroupEnd` are handed to their streams together.

use std::cell::RefCell;
use std::sync::Arc;

use cudarc::driver::sys::CUstream;
use cudarc::nccl::sys::ncclResult_t;

use super::Error;
use super::comm::Comm;
use super::operation::{Buffer, Collective, Transfers};
use crate::driver::library::{LibraryCall, submit};

/// What a call does.
pub enum Action {
    /// A collective.
    Collective(Collective),
    /// Sends to a rank.
    Send(usize, Buffer),
    /// Receives from a rank.
    Receive(usize, Buffer),
}

/// A call whose arguments are sound.
pub struct Call {
    /// The communicator.
    pub comm: Arc<Comm>,
    /// Where its work goes.
    pub stream: CUstream,
    /// What it does.
    pub action: Action,
}

#[derive(Default)]
struct Group {
    depth: usize,
    calls: Vec<Call>,
    error: Option<Error>,
}

thread_local! {
    static GROUP: RefCell<Group> = RefCell::default();
}

/// `ncclGroupStart`.
pub fn start() {
    GROUP.with_borrow_mut(|group| group.depth += 1);
}

/// `ncclGroupEnd`: the outermost one runs the calls, or none of them if one was refused.
///
/// # Errors
/// The first one of the calls; or there is no group.
pub fn end() -> Result<(), Error> {
    let whole = GROUP.with_borrow_mut(|group| {
        group.depth = group.depth.checked_sub(1).ok_or_else(|| Error::usage("there is no ncclGroupStart"))?;
        Ok::<_, Error>(if group.depth == 0 { std::mem::take(group) } else { Group::default() })
    })?;
    whole.error.map_or_else(|| run(whole.calls), Err)
}

/// Runs a call, or keeps it for the end of the group.
///
/// # Errors
/// Why it was refused, or what failed.
pub fn call(call: Result<Call, Error>) -> Result<(), Error> {
    let alone = GROUP.with_borrow_mut(|group| match call {
        Ok(call) if group.depth == 0 => Ok(Some(call)),
        Ok(call) => {
            group.calls.push(call);
            Ok(None)
        }
        Err(error) => {
            if group.depth > 0 {
                group.error.get_or_insert(error.clone());
            }
            Err(error)
        }
    })?;
    run(alone.into_iter().collect())
}

/// Runs calls in an order that all ranks agree on, however each has written them down: communicators by their ids, in each
/// first the collectives, then the transfers, all of them together.
fn run(mut calls: Vec<Call>) -> Result<(), Error> {
    calls.sort_by(|a, b| a.comm.id.cmp(&b.comm.id));
    for of_comm in calls.chunk_by(|a, b| a.comm.id == b.comm.id) {
        let comm = &of_comm[0].comm;
        let mut transfers = Transfers::default();
        let mut stream_of_transfers = None;
        for Call { stream, action, .. } in of_comm {
            match action {
                Action::Collective(collective) => {
                    if let Some(work) = collective.into_call(comm.clone()) {
                        hand_over(comm, *stream, work)?;
                    }
                    continue;
                }
                Action::Send(peer, buffer) => transfers.sends.push((*peer, *buffer)),
                Action::Receive(peer, buffer) => transfers.receives.push((*peer, *buffer)),
            }
            if *stream_of_transfers.get_or_insert(*stream) != *stream {
                return Err(Error::usage("transfers of a group on several streams are not modelled"));
            }
        }
        if let Some(stream) = stream_of_transfers {
            hand_over(comm, stream, transfers.into_call(comm.clone()))?;
        }
    }
    Ok(())
}

/// Hands work to a stream. What goes wrong there is the communicator's error.
fn hand_over(comm: &Comm, stream: CUstream, work: LibraryCall) -> Result<(), Error> {
    if let Some(error) = comm.error() {
        return Err(error);
    }
    let name = work.name;
    if let Err(code) = submit(stream, work) {
        let message = format!("{name} cannot use its memory or stream: {code:?}");
        comm.fail(Error { result: ncclResult_t::ncclUnhandledCudaError, message });
    }
    comm.error().map_or(Ok(()), Err)
}
