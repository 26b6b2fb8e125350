//! Graphs: recorded work, launched as a whole.

use std::ffi::{c_char, c_ulonglong};
use std::ptr::without_provenance_mut;
use std::sync::Arc;

use cudarc::driver::sys::{
    CUgraph, CUgraphExec, CUgraphInstantiate_flags, CUgraphNode,
    CUresult::{self, CUDA_ERROR_INVALID_VALUE, CUDA_ERROR_NOT_SUPPORTED},
    CUstream,
};

use super::order::Clock;
use super::task::Task;
use super::{Answer, Driver, Out, call_bound, put, refuse};

/// A recorded piece of work.
#[derive(Clone)]
pub struct Node {
    /// What it does; kernel arguments are kept by value.
    pub task: Task,
    /// Nodes that are done before it starts; all have lower indices.
    pub after: Vec<usize>,
}

/// A graph.
#[derive(Clone)]
pub struct Graph {
    /// In the order of their recording.
    pub nodes: Arc<[Node]>,
}

/// A graph, ready to be launched.
pub struct Executable {
    nodes: Arc<[Node]>,
    /// The branch of every node. Branch 0 is the stream that the graph is launched on.
    branches: Vec<usize>,
    /// Lanes of the branches from 1 on.
    lanes: Vec<usize>,
    /// What the last launch did: the next one comes after it.
    last: Clock,
}

impl Graph {
    /// A graph of these nodes.
    pub fn new(nodes: Vec<Node>) -> Self {
        Self { nodes: nodes.into() }
    }

    /// How many nodes these nodes come after, themselves included.
    pub fn ancestors(&self, of: &[usize]) -> usize {
        let mut reached = vec![false; self.nodes.len()];
        let mut pending = of.to_vec();
        while let Some(node) = pending.pop() {
            if !std::mem::replace(&mut reached[node], true) {
                pending.extend(&self.nodes[node].after);
            }
        }
        reached.iter().filter(|&&reached| reached).count()
    }

    /// The branch of every node: that of a node before it which nobody else follows on the same branch, else a new one.
    fn branches(&self) -> Vec<usize> {
        let mut last: Vec<usize> = Vec::new();
        let mut branches: Vec<usize> = Vec::with_capacity(self.nodes.len());
        for (index, node) in self.nodes.iter().enumerate() {
            let continued = node.after.iter().map(|&before| (before, branches[before]));
            let branch = continued.filter(|&(before, branch)| last[branch] == before).map(|(_, branch)| branch).min();
            let branch = branch.unwrap_or(last.len());
            last.resize(last.len().max(branch + 1), index);
            last[branch] = index;
            branches.push(branch);
        }
        branches
    }
}

impl Driver {
    fn instantiate(&mut self, out: Out<'_, CUgraphExec>, graph: CUgraph, flags: c_ulonglong) -> Answer {
        if flags & c_ulonglong::from(CUgraphInstantiate_flags::CUDA_GRAPH_INSTANTIATE_FLAG_DEVICE_LAUNCH.0) != 0 {
            return refuse(CUDA_ERROR_INVALID_VALUE, "graphs that the device launches are not modelled");
        }
        let graph = self.graphs.get(graph.addr())?.clone();
        let branches = graph.branches();
        let count = branches.iter().max().copied().unwrap_or(0);
        let lanes =
            (1..=count).map(|branch| self.books.timeline.lane(format!("branch {branch} of a graph"))).collect();
        let executable = Executable { nodes: graph.nodes, branches, lanes, last: Clock::default() };
        put(out, without_provenance_mut(self.executables.insert(executable)))
    }

    fn launch_graph(&mut self, executable: CUgraphExec, stream: CUstream) -> Answer {
        let stream = self.stream(stream)?;
        if self.joined(stream)?.is_some() {
            return refuse(CUDA_ERROR_NOT_SUPPORTED, "the launch of a graph inside of a capture is not modelled");
        }
        self.legacy_allowed(stream)?;
        let Executable { nodes, branches, lanes, last } = self.executables.get(executable.addr())?;
        let (nodes, branches, lanes) = (nodes.clone(), branches.clone(), lanes.clone());
        let last = last.clone();
        let on = self.streams.enter(stream)?;
        let lane = on.lane;
        on.clock.join(&last);
        let start = on.clock.clone();
        let mut done: Vec<Clock> = Vec::with_capacity(nodes.len());
        let mut answer = Ok(());
        for (node, &branch) in nodes.iter().zip(&branches) {
            let mut clock = start.clone();
            node.after.iter().for_each(|&before| clock.join(&done[before]));
            let lane = branch.checked_sub(1).map_or(lane, |other| lanes[other]);
            let work = self.start_node(lane, &mut clock, &node.task);
            answer = answer.and(self.perform(&node.task, &work));
            done.push(clock);
        }
        let end = &mut self.streams.get_mut(stream)?.clock;
        done.iter().for_each(|clock| end.join(clock));
        self.executables.get_mut(executable.addr())?.last = end.clone();
        answer
    }
}

#[unsafe(no_mangle)]
pub extern "C" fn cuGraphInstantiateWithFlags(
    out: Out<'_, CUgraphExec>,
    graph: CUgraph,
    flags: c_ulonglong,
) -> CUresult {
    call_bound("cuGraphInstantiate", |driver| driver.instantiate(out, graph, flags))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuGraphInstantiate_v2(
    out: Out<'_, CUgraphExec>,
    graph: CUgraph,
    _error_node: Out<'_, CUgraphNode>,
    _log: Out<'_, c_char>,
    _log_bytes: usize,
) -> CUresult {
    call_bound("cuGraphInstantiate", |driver| driver.instantiate(out, graph, 0))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuGraphUpload(executable: CUgraphExec, stream: CUstream) -> CUresult {
    call_bound("cuGraphUpload", |driver| {
        driver.stream(stream)?;
        driver.executables.get(executable.addr()).map(drop)
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuGraphLaunch(executable: CUgraphExec, stream: CUstream) -> CUresult {
    call_bound("cuGraphLaunch", |driver| driver.launch_graph(executable, stream))
}

/// # Safety
/// `nodes` is null, or has room for `*count` handles.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuGraphGetNodes(
    graph: CUgraph,
    nodes: *mut CUgraphNode,
    count: Option<&mut usize>,
) -> CUresult {
    call_bound("cuGraphGetNodes", |driver| {
        let count = count.ok_or(CUDA_ERROR_INVALID_VALUE)?;
        let there = driver.graphs.get(graph.addr())?.nodes.len();
        if nodes.is_null() {
            *count = there;
            return Ok(());
        }
        for index in 0..*count {
            let node = if index < there { graph.addr() << 32 | (index + 1) } else { 0 };
            // SAFETY: the caller has room for `*count` handles.
            unsafe { nodes.add(index).write(without_provenance_mut(node)) };
        }
        *count = there.min(*count);
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuGraphDestroy(graph: CUgraph) -> CUresult {
    call_bound("cuGraphDestroy", |driver| driver.graphs.remove(graph.addr()).map(drop))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuGraphExecDestroy(executable: CUgraphExec) -> CUresult {
    call_bound("cuGraphExecDestroy", |driver| driver.executables.remove(executable.addr()).map(drop))
}
