//! Block and named barriers.

use super::block::{Block, list};
use super::clocks::Given;
use super::code::{Barrier, BarrierKind};
use super::registers::{LANES, Mask, Reg, lanes_of};
use super::warp::{Group, Warp};
use crate::findings::Kind;

/// Barriers of a block, by the hardware's count.
const BARRIERS: usize = 16;

#[derive(Debug, Default)]
struct State {
    /// By warp.
    arrived: Vec<Mask>,
    waited: Vec<Mask>,
    /// Arrivals; a warp that comes as a whole counts 32 where the number of threads is given.
    count: u32,
    /// Threads that it waits for; without it all that run.
    threads: Option<u32>,
    /// Groups that wait, with their warps.
    waiting: Vec<(u32, Group)>,
    /// By threads that do not wait.
    given: Given,
    /// Lanes that arrived with the predicate.
    votes: u32,
    aligned: bool,
}

/// The barriers of a block.
#[derive(Debug, Default)]
pub(super) struct Barriers {
    states: Vec<State>,
    /// Groups that may go on, with their warps.
    pub released: Vec<(u32, Group)>,
}

impl Barriers {
    /// Nobody is there yet.
    pub fn new(warps: usize) -> Self {
        let state = || State { arrived: vec![0; warps], waited: vec![0; warps], ..State::default() };
        Self { states: (0..BARRIERS).map(|_| state()).collect(), released: Vec::new() }
    }

    /// (barrier, arrived, expected, warp, group) of all that wait.
    pub fn into_waiting(self) -> impl Iterator<Item = (usize, u32, String, u32, Group)> {
        self.states.into_iter().enumerate().flat_map(|(id, state)| {
            let expected = state.threads.map_or_else(|| "all".to_owned(), |threads| threads.to_string());
            state.waiting.into_iter().map(move |(warp, group)| (id, state.count, expected.clone(), warp, group))
        })
    }
}

impl Block<'_> {
    /// Lanes arrive at a barrier. Returns the group if it goes on at once; groups that a completed barrier lets go are in
    /// [`Barriers::released`].
    pub(super) fn arrive(&mut self, warp: &mut Warp, mut group: Group, barrier: &Barrier) -> Option<Group> {
        let registers = &warp.frame(group.frame).registers;
        let value = |register: Reg<u32>, lane: usize| registers.b32[register.index as usize][lane];
        let leader = group.lanes.trailing_zeros() as usize;
        let id = value(barrier.id, leader);
        let threads = barrier.threads.map(|register| value(register, leader)).filter(|threads| *threads > 0);
        // lanes at another barrier come back on their own
        let same = lanes_of(group.lanes).filter(|&lane| value(barrier.id, lane) == id);
        let lanes = same.fold(0, |mask, lane| mask | 1 << lane);
        let predicate = match barrier.kind {
            BarrierKind::Count(p, _) | BarrierKind::All(p, _) | BarrierKind::Any(p, _) => p.get(registers),
            _ => 0,
        };
        if lanes != group.lanes {
            warp.make_ready(Group { lanes: group.lanes & !lanes, ..group.clone() });
            group.lanes = lanes;
        }
        let lane = leader as u32;
        let Some(state) = self.barriers.states.get(id as usize) else {
            self.fault(Kind::DivergentBarrier, warp, &group, lane, None, format!("there is no barrier {id}"));
            self.grid.stop();
            return None;
        };
        let index = warp.index as usize;
        if barrier.aligned {
            let elsewhere = state.waiting.iter().find(|(w, g)| *w == warp.index && g.pc != group.pc);
            if let Some((_, other)) = elsewhere {
                let message = format!(
                    "lanes {} of the warp are at this barrier, lanes {} at another one",
                    list(lanes),
                    list(other.lanes)
                );
                self.fault(Kind::DivergentBarrier, warp, &group, lane, None, message);
            }
        }
        let state = &mut self.barriers.states[id as usize];
        state.arrived[index] |= lanes;
        state.count += lanes.count_ones();
        state.votes += (predicate & lanes).count_ones();
        state.threads = threads;
        state.aligned |= barrier.aligned;
        let goes_on = if matches!(barrier.kind, BarrierKind::Arrive) {
            let mut arrived = vec![0; state.arrived.len()];
            arrived[index] = lanes;
            self.clocks.give(&arrived, &mut state.given);
            group.pc += 1;
            Some(group)
        } else {
            state.waited[index] |= lanes;
            match state.waiting.iter_mut().find(|(w, other)| *w == warp.index && other.is_beside(&group)) {
                Some((_, known)) => known.lanes |= lanes,
                None => state.waiting.push((warp.index, group)),
            }
            None
        };
        self.complete_barrier(id as usize, warp);
        goes_on
    }

    /// Completes barriers that waited for lanes which have exited.
    pub(super) fn complete_barriers(&mut self, running: &Warp) {
        for id in 0..BARRIERS {
            if self.barriers.states[id].count > 0 {
                self.complete_barrier(id, running);
            }
        }
    }

    fn complete_barrier(&mut self, id: usize, running: &Warp) {
        let warps: Vec<(Mask, Mask)> = (0..self.warps.len())
            .map(|index| if index == running.index as usize { running } else { &self.warps[index] })
            .map(|warp| (warp.lanes, warp.live()))
            .collect();
        let live: u32 = warps.iter().map(|(_, live)| live.count_ones()).sum();
        let state = &self.barriers.states[id];
        // the last warp of a block may lack lanes, and counts as a whole all the same
        let missing: u32 = match state.threads {
            None => 0,
            Some(_) => {
                let whole = warps.iter().zip(&state.arrived).filter(|((lanes, _), arrived)| lanes == *arrived);
                whole.map(|((lanes, _), _)| LANES as u32 - lanes.count_ones()).sum()
            }
        };
        if state.count + missing < state.threads.unwrap_or(live) || state.count == 0 {
            return;
        }
        let nobody = || vec![0; warps.len()];
        let fresh = State { waited: nobody(), arrived: nobody(), ..State::default() };
        let state = std::mem::replace(&mut self.barriers.states[id], fresh);
        if state.aligned {
            for (index, ((lanes, _), arrived)) in warps.iter().zip(&state.arrived).enumerate() {
                if *arrived != 0 && arrived != lanes {
                    self.report_partial_warp(&state, index as u32, lanes & !arrived, running);
                }
            }
        }
        // only a barrier without a number of threads waits for others to exit
        let everyone = warps.iter().map(|(lanes, live)| if state.threads.is_none() { live } else { lanes });
        if everyone.zip(&state.waited).all(|(everyone, waited)| waited & everyone == *everyone) {
            self.clocks.join_all();
        } else {
            self.clocks.join(&state.waited, state.given);
        }
        let released = state
            .waiting
            .into_iter()
            .map(|(warp, group)| (warp, Group { released: Some((state.votes, state.count)), ..group }));
        self.barriers.released.extend(released);
    }

    fn report_partial_warp(&self, state: &State, index: u32, absent: Mask, running: &Warp) {
        let Some((_, group)) = state.waiting.iter().find(|(warp, _)| *warp == index) else { return };
        let warp = if index == running.index { running } else { &self.warps[index as usize] };
        let message = format!("lanes {} of the warp do not reach this barrier", list(absent));
        self.fault(Kind::DivergentBarrier, warp, group, group.lanes.trailing_zeros(), None, message);
    }

    /// What a released group gets from its barrier.
    pub(super) fn finish_barrier(&self, warp: &mut Warp, group: &Group, barrier: &Barrier, (votes, all): (u32, u32)) {
        let registers = &mut warp.frame(group.frame).registers;
        let truth = |condition: bool| if condition { Mask::MAX } else { 0 };
        match barrier.kind {
            BarrierKind::Sync | BarrierKind::Arrive => {}
            BarrierKind::Count(_, target) => {
                use super::registers::Lane;
                u32::set(registers, target, group.lanes, [votes; LANES]);
            }
            BarrierKind::All(_, target) => registers.set_predicate(target, group.lanes, truth(votes == all)),
            BarrierKind::Any(_, target) => registers.set_predicate(target, group.lanes, truth(votes > 0)),
        }
    }
}
