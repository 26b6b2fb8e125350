//! What ranks do that goes wrong, and what the others are told.

use std::ffi::{CStr, c_void};
use std::ptr::null_mut;

use cudarc::nccl::sys::{self, ncclResult_t};
use cudarc::nccl::{Comm, Id, ReduceOp, result};

use crate::ranks::Rank;

/// Checks the last error of this thread.
#[track_caller]
fn expect<T>(answer: Result<T, result::NcclError>, code: ncclResult_t, words: &[&str]) {
    // SAFETY: a string that lives until the next error of this thread.
    let said = unsafe { CStr::from_ptr(sys::ncclGetLastError(null_mut())) }.to_str().unwrap();
    match answer {
        Ok(_) => panic!("no error, expected {words:?}"),
        Err(error) => assert_eq!(error.0, code, "{said}"),
    }
    assert!(words.iter().all(|word| said.contains(word)), "{said}, expected {words:?}");
}

/// Rank 1 ends without a word.
pub fn death(it: &Rank) {
    let comm = it.comm();
    let mut sum = it.stream.clone_htod(&[1.0f32]).unwrap();
    comm.all_reduce_in_place(&mut sum, &ReduceOp::Sum).unwrap();
    if it.rank == 1 {
        std::process::exit(0);
    }
    let words = ["ncclAllReduce of 1 float32 by Sum", "rank 1 (process", "ended"];
    expect(comm.all_reduce_in_place(&mut sum, &ReduceOp::Sum), ncclResult_t::ncclRemoteError, &words);
    // It stays so.
    expect(comm.broadcast_in_place(&mut sum, 0), ncclResult_t::ncclRemoteError, &words);
}

/// Rank 1 destroys its communicator.
pub fn leaving(it: &Rank) {
    let comm = it.comm();
    let mut sum = it.stream.clone_htod(&[1.0f32]).unwrap();
    if it.rank == 1 {
        return;
    }
    let answer = comm.all_reduce_in_place(&mut sum, &ReduceOp::Sum);
    expect(answer, ncclResult_t::ncclRemoteError, &["rank 1", "left the communicator"]);
}

/// The ranks do not call the same.
pub fn mismatch(it: &Rank) {
    let comm = it.comm();
    let mut sum = it.stream.clone_htod(&vec![1.0f32; 2 + it.rank]).unwrap();
    let answer = comm.all_reduce_in_place(&mut sum, &ReduceOp::Sum);
    let other = format!("rank {} calls ncclAllReduce of {} float32", 1 - it.rank, 3 - it.rank);
    expect(answer, ncclResult_t::ncclInvalidUsage, &[&other]);
}

/// Rank 1 reduces more than it has.
pub fn out_of_bounds(it: &Rank) {
    let comm = it.comm();
    let mut sum = it.stream.clone_htod(&[1.0f32; 4]).unwrap();
    if it.rank == 0 {
        let answer = comm.all_reduce_in_place(&mut sum, &ReduceOp::Sum);
        expect(answer, ncclResult_t::ncclRemoteError, &["rank 1", "failed", "ILLEGAL_ADDRESS"]);
    } else {
        // SAFETY: lengthened on purpose, and used on the device only.
        let mut longer = unsafe { it.stream.upgrade_device_ptr::<f32>(sum.leak(), 5) };
        let answer = comm.all_reduce_in_place(&mut longer, &ReduceOp::Sum);
        expect(answer, ncclResult_t::ncclUnhandledCudaError, &["ncclAllReduce", "ILLEGAL_ADDRESS"]);
    }
}

/// Rank 2 never comes.
pub fn late_rank(it: &Rank) {
    if it.rank < 2 {
        let comm = Comm::from_rank(it.stream.clone(), it.rank, it.ranks, it.id);
        expect(comm, ncclResult_t::ncclRemoteError, &["rank 2 did not come within 1 s"]);
    }
}

/// Both send first and receive then, without a group.
pub fn late_receive(it: &Rank) {
    let comm = it.comm();
    let own = it.stream.clone_htod(&[1.0f32]).unwrap();
    let answer = comm.send(&own, 1 - it.rank as i32);
    expect(answer, ncclResult_t::ncclRemoteError, &["ncclSend of 1 float32", "kept this one waiting for 1 s"]);
}

/// The ranks are told of different numbers.
pub fn different_worlds(it: &Rank) {
    let comm = Comm::from_rank(it.stream.clone(), it.rank, it.ranks + it.rank, it.id);
    expect(comm, ncclResult_t::ncclInvalidUsage, &["ranks, rank"]);
}

/// What one rank alone is refused.
pub fn refusals(it: &Rank) {
    use ncclResult_t::{ncclInvalidArgument as argument, ncclInvalidUsage as usage};
    let comm = it.comm();
    let unsound = |words: &[&str], code, call: &dyn Fn(sys::ncclComm_t) -> ncclResult_t| {
        let mut raw = null_mut();
        // SAFETY: a place for the result, and a communicator of this process alone.
        unsafe { result::comm_init_all(&mut raw, 1, &0).unwrap() };
        expect(call(raw).result(), code, words);
        // SAFETY: just made.
        unsafe { result::comm_destroy(raw).unwrap() };
        // SAFETY: a handle that is void now, which is found out.
        expect(unsafe { result::comm_destroy(raw) }, argument, &["is not a communicator that lives"]);
    };
    let all_reduce = |send: usize, receive: usize, count: usize, datatype: u32| {
        move |comm| {
            // SAFETY: one of C's enumerations of the same size; the entry point takes any number.
            let datatype = unsafe { std::mem::transmute::<u32, sys::ncclDataType_t>(datatype) };
            let (send, receive) = (send as *const c_void, receive as *mut c_void);
            // SAFETY: device addresses are not dereferenced here.
            unsafe { sys::ncclAllReduce(send, receive, count, datatype, sys::ncclRedOp_t::ncclSum, comm, null_mut()) }
        }
    };
    unsound(&["sendbuff is null"], argument, &all_reduce(0, 256, 4, 7));
    unsound(&["recvbuff is null"], argument, &all_reduce(256, 0, 4, 7));
    unsound(&["0x102", "multiple of 4"], argument, &all_reduce(0x102, 0x200, 4, 7));
    unsound(&["overlap"], argument, &all_reduce(0x100, 0x104, 4, 7));
    unsound(&["more than there is"], argument, &all_reduce(0x100, 0x100, usize::MAX / 2, 7));
    unsound(&["type 10"], argument, &all_reduce(0x100, 0x100, 4, 10));
    // SAFETY: never dereferenced, the root is refused.
    let root = |comm| unsafe {
        let buffer = 256 as *mut c_void;
        sys::ncclBroadcast(buffer, buffer, 4, sys::ncclDataType_t::ncclInt8, 1, comm, null_mut())
    };
    unsound(&["root 1 of 1"], argument, &root);
    // SAFETY: never dereferenced, the peer is refused.
    let peer = |comm| unsafe { sys::ncclSend(256 as _, 4, sys::ncclDataType_t::ncclInt8, 0, comm, null_mut()) };
    unsound(&["peer 0 is no other rank"], argument, &peer);
    expect(result::group_end(), usage, &["there is no ncclGroupStart"]);
    expect(Comm::from_rank(it.stream.clone(), 1, 1, it.id), argument, &["rank 1 of 1"]);
    expect(Comm::from_rank(it.stream.clone(), 0, 1, Id::uninit([0; 128])), argument, &["unique id"]);
    // SAFETY: a place for two results, and two devices.
    let two = unsafe { result::comm_init_all([null_mut(); 2].as_mut_ptr(), 2, [0, 1].as_ptr()) };
    expect(two, usage, &["2 devices"]);
    // A refused call spoils its group.
    result::group_start().unwrap();
    let own = it.stream.clone_htod(&[1.0f32]).unwrap();
    expect(comm.send(&own, 0), argument, &["peer 0"]);
    expect(result::group_end(), argument, &["ncclGroupEnd: peer 0"]);
    assert_eq!((comm.rank(), comm.world_size()), (0, 1));
    assert!(result::get_nccl_version().unwrap() >= 21_800);
}

/// Two threads of a process are two ranks.
pub fn one_process(it: &Rank) {
    let join = |rank| Comm::from_rank(it.stream.clone(), rank, 2, it.id);
    std::thread::scope(|scope| {
        let other = scope.spawn(|| expect(join(1), ncclResult_t::ncclInvalidUsage, &["both of process"]));
        expect(join(0), ncclResult_t::ncclInvalidUsage, &["both of process"]);
        other.join().unwrap();
    });
}
