//! What ranks do that goes well.

use cudarc::driver::CudaSlice;
use cudarc::driver::sys::CUgraphInstantiate_flags as Flags;
use cudarc::driver::sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_RELAXED;
use cudarc::nccl::{Comm, Id, ReduceOp};
use half::bf16;

use crate::ranks::Rank;

/// Elements of the larger messages: more than a socket holds.
const MANY: usize = 1 << 18;

/// A value that differs by rank and index, and whose sums over ranks are exact.
fn value(rank: usize, index: usize) -> f32 {
    (index % 1000) as f32 + (1 << (10 + rank)) as f32
}

fn values(rank: usize, len: usize) -> Vec<f32> {
    (0..len).map(|index| value(rank, index)).collect()
}

/// The sum over all ranks.
fn sums(ranks: usize, len: usize) -> Vec<f32> {
    (0..len).map(|index| (0..ranks).map(|rank| value(rank, index)).sum()).collect()
}

/// Every collective, with its result.
pub fn every_collective(it: &Rank) {
    let Rank { rank, ranks, stream, .. } = it;
    let (rank, ranks) = (*rank, *ranks);
    let comm = it.comm();
    let host = |slice: &CudaSlice<f32>| stream.clone_dtoh(slice).unwrap();
    for len in [1, 7, MANY] {
        let own = stream.clone_htod(&values(rank, len)).unwrap();
        let mut out = stream.alloc_zeros::<f32>(len).unwrap();

        comm.all_reduce(&own, &mut out, &ReduceOp::Sum).unwrap();
        assert_eq!(host(&out), sums(ranks, len), "all_reduce");
        comm.all_reduce(&own, &mut out, &ReduceOp::Max).unwrap();
        assert_eq!(host(&out), values(ranks - 1, len), "maximum");
        let mut own = own;
        comm.all_reduce_in_place(&mut own, &ReduceOp::Sum).unwrap();
        assert_eq!(host(&own), sums(ranks, len), "in place");

        let own = stream.clone_htod(&values(rank, len)).unwrap();
        let mut reduced = (rank == 1).then(|| stream.alloc_zeros::<f32>(len).unwrap());
        comm.reduce(&own, reduced.as_mut(), &ReduceOp::Sum, 1).unwrap();
        assert!(reduced.is_none_or(|reduced| host(&reduced) == sums(ranks, len)), "reduce");

        comm.broadcast((rank == 1).then_some(&own), &mut out, 1).unwrap();
        assert_eq!(host(&out), values(1, len), "broadcast");

        let mut all = stream.alloc_zeros::<f32>(ranks * len).unwrap();
        comm.all_gather(&own, &mut all).unwrap();
        assert_eq!(host(&all), (0..ranks).flat_map(|rank| values(rank, len)).collect::<Vec<_>>(), "all_gather");

        let all = stream.clone_htod(&values(rank, ranks * len)).unwrap();
        comm.reduce_scatter(&all, &mut out, &ReduceOp::Sum).unwrap();
        assert_eq!(host(&out), sums(ranks, ranks * len)[rank * len..][..len], "reduce_scatter");
    }
}

/// Sums depend on the order of ranks, and are the same everywhere.
pub fn rounding(it: &Rank) {
    let comm = it.comm();
    let mut single = it.stream.clone_htod(&[[1e8f32, 1.0, -1e8][it.rank]; 5]).unwrap();
    comm.all_reduce_in_place(&mut single, &ReduceOp::Sum).unwrap();
    assert_eq!(it.stream.clone_dtoh(&single).unwrap(), [0.0; 5]);
    let mut short = it.stream.clone_htod(&[bf16::from_f32([256.0, 1.0, 1.0][it.rank]); 3]).unwrap();
    comm.all_reduce_in_place(&mut short, &ReduceOp::Sum).unwrap();
    assert_eq!(it.stream.clone_dtoh(&short).unwrap(), [bf16::from_f32(256.0); 3]);
    let mut whole = it.stream.clone_htod(&[[3i32, 4, 7][it.rank]; 2]).unwrap();
    comm.all_reduce_in_place(&mut whole, &ReduceOp::Avg).unwrap();
    assert_eq!(it.stream.clone_dtoh(&whole).unwrap(), [4; 2]);
}

/// Everyone sends to the next and receives from the one before, which only a group can do.
pub fn ring(it: &Rank) {
    let comm = it.comm();
    let own = it.stream.clone_htod(&values(it.rank, MANY)).unwrap();
    let mut other = it.stream.alloc_zeros::<f32>(MANY).unwrap();
    let (next, previous) = ((it.rank + 1) % it.ranks, (it.rank + it.ranks - 1) % it.ranks);
    let mut group = comm.group();
    group.send(own.slice(..), next as i32).unwrap();
    group.recv(other.slice_mut(..), previous as i32).unwrap();
    drop(group);
    assert_eq!(it.stream.clone_dtoh(&other).unwrap(), values(previous, MANY));
}

/// Two communicators and a transfer in one group, which each rank writes down in another order.
pub fn groups_in_any_order(it: &Rank) {
    let first = it.comm();
    let mut id = it.stream.clone_htod(Id::new().unwrap().internal()).unwrap();
    first.broadcast_in_place(&mut id, 0).unwrap();
    let id = Id::uninit(it.stream.clone_dtoh(&id).unwrap().try_into().unwrap());
    let comms = [first, Comm::from_rank(it.stream.clone(), it.rank, it.ranks, id).unwrap()];
    let mut sums = [3.0f32, 5.0].map(|x| it.stream.clone_htod(&[x]).unwrap());
    let mut sent = it.stream.clone_htod(&[it.rank as f32]).unwrap();
    cudarc::nccl::group_start().unwrap();
    if it.rank == 1 {
        comms[1].recv(&mut sent, 0).unwrap();
        comms[1].all_reduce_in_place(&mut sums[1], &ReduceOp::Sum).unwrap();
        comms[0].all_reduce_in_place(&mut sums[0], &ReduceOp::Prod).unwrap();
    } else {
        comms[0].all_reduce_in_place(&mut sums[0], &ReduceOp::Prod).unwrap();
        comms[1].all_reduce_in_place(&mut sums[1], &ReduceOp::Sum).unwrap();
        comms[1].send(&sent, 1).unwrap();
    }
    cudarc::nccl::group_end().unwrap();
    assert_eq!(sums.map(|sum| it.stream.clone_dtoh(&sum).unwrap()), [vec![9.0], vec![10.0]]);
    assert_eq!(it.stream.clone_dtoh(&sent).unwrap(), [0.0]);
}

/// A captured all-reduce happens again at every replay.
pub fn replay(it: &Rank) {
    // SAFETY: everything here is used on one stream.
    unsafe { it.stream.context().disable_event_tracking() };
    let comm = it.comm();
    let mut sum = it.stream.clone_htod(&[1.0f32, 10.0]).unwrap();
    it.stream.begin_capture(CU_STREAM_CAPTURE_MODE_RELAXED).unwrap();
    comm.all_reduce_in_place(&mut sum, &ReduceOp::Sum).unwrap();
    let graph = it.stream.end_capture(Flags::CUDA_GRAPH_INSTANTIATE_FLAG_AUTO_FREE_ON_LAUNCH).unwrap().unwrap();
    assert_eq!(it.stream.clone_dtoh(&sum).unwrap(), [1.0, 10.0]);
    graph.launch().unwrap();
    graph.launch().unwrap();
    let grown = (it.ranks * it.ranks) as f32;
    assert_eq!(it.stream.clone_dtoh(&sum).unwrap(), [grown, 10.0 * grown]);
}
