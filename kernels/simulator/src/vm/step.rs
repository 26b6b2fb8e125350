//! A warp runs until none of its lanes can go on.

use super::block::{Block, Stop, list};
use super::code::{Barrier, Collective, Op, Strength};
use super::registers::{LANES, Mask, Predicate, Reg, lanes_of};
use super::warp::{Group, Wait, Warp};
use crate::findings::Kind;

/// Instructions after which other groups, and other warps, get their turn.
const TURN: u32 = 2000;

/// What a strong access takes of a turn: threads that spin do little else, and what they wait for has to come.
const SPIN: u32 = 100;

/// How the run of a group ended.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ended {
    /// It waits, makes way, or is no more.
    Early,
    /// Its turn was over.
    Over,
    /// Its turn was over, and much of it went into strong accesses.
    Spun,
}

/// What becomes of the group that ran an instruction.
pub(super) enum Next {
    /// It goes on with the next instruction, or at this one.
    Step,
    At(usize),
    /// It is some other group now.
    Group(Group),
    /// It waits, or is no more.
    Gone,
}

impl Block<'_> {
    /// Runs `warp` until all of its lanes wait or have exited, or its turn is over.
    pub(super) fn run_warp(&mut self, warp: &mut Warp) -> Result<(), Stop> {
        let (mut turns, mut last) = (0, Ended::Early);
        loop {
            let pick =
                if self.grid.options.seed != 0 || turns % 2 == 1 { Some(self.random() as usize) } else { None };
            let Some(group) = warp.take_ready(pick) else { return Ok(()) };
            let others = !warp.ready.is_empty();
            // what a spinning group waits for may take others a whole turn, and they need not wait for it to come along
            let yields = self.grid.options.seed == 0 && last != Ended::Spun;
            let ended = self.run_group(warp, group, yields)?;
            if ended != Ended::Early {
                // a spinning group must let others go on, whatever the schedule
                (turns, last) = (turns + 1, ended);
                if !others || turns > 2 {
                    return Ok(());
                }
            }
        }
    }

    /// Runs a group, and those that it meets; if it `yields`, to those behind it.
    fn run_group(&mut self, warp: &mut Warp, mut group: Group, yields: bool) -> Result<Ended, Stop> {
        let functions = &self.grid.launch.program.functions;
        let seeded = self.grid.options.seed != 0;
        let (mut turn, mut ended) = (TURN, Ended::Over);
        loop {
            // a seed parts lanes, and lets them meet again by chance only
            if !warp.ready.is_empty() && (!seeded || turn.is_multiple_of(64)) {
                warp.absorb(&mut group);
                if yields && turn < TURN && warp.is_ahead(&group) {
                    warp.make_ready(group);
                    return Ok(Ended::Early);
                }
            }
            turn = turn.saturating_sub(1);
            if turn == 0 {
                warp.make_ready(group);
                return Ok(ended);
            }
            if seeded && turn.is_multiple_of(16) && self.part(warp, &mut group) {
                return Ok(Ended::Early);
            }
            let frame = warp.frames[group.frame].as_mut().expect("a group's frame is not free");
            let Some(instruction) = functions[frame.function].code.get(group.pc) else {
                match self.leave(warp, &group)? {
                    Next::Group(next) => group = next,
                    _ => return Ok(Ended::Early),
                }
                continue;
            };
            let active = match instruction.guard {
                None => group.lanes,
                Some(guard) => group.lanes & guard.get(&frame.registers),
            };
            warp.steps += 1;
            self.instructions += u64::from(active.count_ones());
            if warp.steps > self.grid.options.limit {
                let message = format!("the warp ran {} instructions", warp.steps - 1);
                self.fault(Kind::EndlessLoop, warp, &group, group.lanes.trailing_zeros(), None, message);
                return Err(Stop);
            }
            if active == 0 {
                group.pc += 1;
                continue;
            }
            if let Op::Compute(compute) = &instruction.op {
                compute(&mut frame.registers, active);
                group.pc += 1;
                continue;
            }
            if matches!(&instruction.op, Op::Atomic(_))
                || matches!(&instruction.op, Op::Load(access) if access.strength.0 != Strength::Weak)
            {
                turn = turn.saturating_sub(SPIN).max(1);
                ended = Ended::Spun;
            }
            match self.step(warp, &mut group, active, &instruction.op, instruction.guard)? {
                Next::Step => group.pc += 1,
                Next::At(pc) => group.pc = pc,
                Next::Group(next) => group = next,
                Next::Gone => return Ok(Ended::Early),
            }
        }
    }

    /// Parts a group at random; true if it has to make way for another.
    fn part(&mut self, warp: &mut Warp, group: &mut Group) -> bool {
        let random = self.random();
        let some = random as Mask & group.lanes;
        if random >> 60 != 0 || some == 0 || some == group.lanes {
            return false;
        }
        warp.ready.push(Group { lanes: group.lanes & !some, ..group.clone() });
        warp.ready.push(Group { lanes: some, ..group.clone() });
        true
    }

    /// Any instruction but those that only compute.
    fn step(
        &mut self,
        warp: &mut Warp,
        group: &mut Group,
        active: Mask,
        op: &Op,
        guard: Option<Predicate>,
    ) -> Result<Next, Stop> {
        match op {
            Op::Compute(_) => {}
            Op::Branch(target) => return Ok(branch(warp, group, active, *target)),
            Op::BranchTable(index, targets) => {
                let indices = warp.frame(group.frame).registers.b32[index.index as usize];
                for lane in lanes_of(active) {
                    let Some(&pc) = targets.get(indices[lane] as usize) else {
                        let message = format!("branch {} of {}", indices[lane], targets.len());
                        self.fault(Kind::OutOfBounds, warp, group, lane as u32, None, message);
                        return Err(Stop);
                    };
                    warp.make_ready(Group { lanes: 1 << lane, pc, ..group.clone() });
                }
                if group.lanes != active {
                    warp.make_ready(Group { lanes: group.lanes & !active, pc: group.pc + 1, ..group.clone() });
                }
                return Ok(next_ready(warp));
            }
            Op::Load(access) => self.load(warp, group, active, access)?,
            Op::Store(access) => self.store(warp, group, active, access)?,
            Op::Atomic(atomic) => self.atomic(warp, group, active, atomic)?,
            Op::Fence(scope) => {
                for lane in lanes_of(active) {
                    self.clocks.fence(warp.index * LANES as u32 + lane as u32, *scope);
                }
            }
            Op::CopyAsync(copy) => self.copy_async(warp, group, active, copy)?,
            Op::CommitCopies => self.copies.commit(warp.index, active),
            Op::WaitCopies(groups) => self.wait_copies(warp, group, active, *groups)?,
            Op::Clock(row) => warp.set(group.frame, *row, active, [warp.steps; LANES]),
            Op::Print(format, values, target) => self.print(warp, group, active, (*format, *values), *target)?,
            Op::AssertFail(operands) => {
                self.assert_fail(warp, group, active, operands)?;
                return Err(Stop);
            }
            Op::Trap => {
                self.fault(Kind::Assertion, warp, group, active.trailing_zeros(), None, "trap".to_owned());
                return Err(Stop);
            }
            Op::Exit
            | Op::Return
            | Op::Call(_)
            | Op::Barrier(_)
            | Op::WarpSync(_)
            | Op::Collective(_)
            | Op::LoadMatrix(..)
            | Op::StoreMatrix(..) => {
                // those without the guard go on by themselves
                if guard.is_some() && active != group.lanes {
                    warp.make_ready(Group { lanes: group.lanes & !active, pc: group.pc + 1, ..group.clone() });
                    group.lanes = active;
                }
                return self.step_together(warp, group, op);
            }
        }
        Ok(Next::Step)
    }

    /// An instruction at which lanes meet or part for good.
    fn step_together(&mut self, warp: &mut Warp, group: &mut Group, op: &Op) -> Result<Next, Stop> {
        match op {
            Op::Return => self.leave(warp, group),
            Op::Exit => self.exit(warp, group.lanes),
            Op::Call(call) => self.call(warp, group, call),
            Op::Barrier(barrier) => self.barrier(warp, group, barrier),
            Op::WarpSync(members) => self.warp_sync(warp, group, *members),
            Op::Collective(collective) => self.collective(warp, group, collective),
            Op::LoadMatrix(address, rows, transposed) => {
                let Some(group) = self.whole_warp(warp, group)? else { return Ok(next_ready(warp)) };
                self.load_matrix(warp, &group, *address, rows, *transposed)?;
                Ok(Next::Group(Group { pc: group.pc + 1, ..group }))
            }
            Op::StoreMatrix(address, rows, transposed) => {
                let Some(group) = self.whole_warp(warp, group)? else { return Ok(next_ready(warp)) };
                self.store_matrix(warp, &group, *address, rows, *transposed)?;
                Ok(Next::Group(Group { pc: group.pc + 1, ..group }))
            }
            _ => Ok(Next::Step),
        }
    }

    fn barrier(&mut self, warp: &mut Warp, group: &mut Group, barrier: &Barrier) -> Result<Next, Stop> {
        if let Some(result) = group.released.take() {
            self.finish_barrier(warp, group, barrier, result);
            return Ok(Next::Step);
        }
        let goes_on = self.arrive(warp, group.clone(), barrier);
        if self.grid.stopped() {
            return Err(Stop);
        }
        self.take_back_released(warp);
        Ok(goes_on.map_or(Next::Gone, Next::Group))
    }

    /// Groups of the running warp among those that a barrier let go.
    fn take_back_released(&mut self, warp: &mut Warp) {
        let this = warp.index;
        let own = self.barriers.released.extract_if(.., |(index, _)| *index == this);
        own.for_each(|(_, group)| warp.make_ready(group));
    }

    fn warp_sync(&mut self, warp: &mut Warp, group: &mut Group, members: Reg<u32>) -> Result<Next, Stop> {
        let members = self.members(warp, group, members)?;
        let complete = warp.park(group.clone(), Wait::WarpSync(members));
        self.release_synced(warp, complete);
        Ok(next_ready(warp))
    }

    fn release_synced(&mut self, warp: &mut Warp, groups: Vec<Group>) {
        let members = groups.iter().fold(0, |all, group| all | group.lanes);
        if members != 0 {
            self.clocks.join_lanes(warp.index, members);
        }
        for group in groups {
            warp.make_ready(Group { pc: group.pc + 1, ..group });
        }
    }

    fn collective(&mut self, warp: &mut Warp, group: &mut Group, collective: &Collective) -> Result<Next, Stop> {
        let gathered = match collective.members {
            Some(register) => {
                let members = self.members(warp, group, register)?;
                gather(warp, group, members)
            }
            None => self.whole_warp(warp, group)?,
        };
        let Some(group) = gathered else { return Ok(next_ready(warp)) };
        let faulty = (collective.run)(&mut warp.frame(group.frame).registers, group.lanes);
        if faulty != 0 {
            let message = format!("lanes {} read a lane that takes no part", list(faulty));
            self.fault(Kind::DivergentWarp, warp, &group, faulty.trailing_zeros(), None, message);
        }
        Ok(Next::Group(Group { pc: group.pc + 1, ..group }))
    }

    /// The member mask of the first lane; lanes with another one come back on their own.
    fn members(&mut self, warp: &mut Warp, group: &mut Group, register: Reg<u32>) -> Result<Mask, Stop> {
        let masks = warp.frame(group.frame).registers.b32[register.index as usize];
        let members = masks[group.lanes.trailing_zeros() as usize];
        let same =
            lanes_of(group.lanes).filter(|&lane| masks[lane] == members).fold(0, |mask, lane| mask | 1 << lane);
        if same != group.lanes {
            warp.make_ready(Group { lanes: group.lanes & !same, ..group.clone() });
            group.lanes = same;
        }
        if same & !members != 0 {
            let outside = same & !members;
            let message = format!("lanes {} are not among the members {members:#010x} that they name", list(outside));
            self.fault(Kind::DivergentWarp, warp, group, outside.trailing_zeros(), None, message);
            return Err(Stop);
        }
        Ok(members)
    }

    /// The group with all lanes of the warp, once they are there.
    fn whole_warp(&mut self, warp: &mut Warp, group: &Group) -> Result<Option<Group>, Stop> {
        if warp.exited != 0 {
            let message = format!("lanes {} of the warp have exited, and all have to take part", list(warp.exited));
            self.fault(Kind::DivergentWarp, warp, group, group.lanes.trailing_zeros(), None, message);
            return Err(Stop);
        }
        Ok(gather(warp, group, warp.lanes))
    }

    /// Lanes end; others may have waited for that.
    pub(super) fn exit(&mut self, warp: &mut Warp, lanes: Mask) -> Result<Next, Stop> {
        warp.exited |= lanes;
        for (groups, wait) in warp.completed_by_exit() {
            match wait {
                Wait::Collective(_) => groups.into_iter().for_each(|group| warp.make_ready(group)),
                Wait::WarpSync(_) => self.release_synced(warp, groups),
            }
        }
        self.complete_barriers(warp);
        self.take_back_released(warp);
        Ok(Next::Gone)
    }
}

/// The group with all `members` that run, once they are there; until then it waits.
fn gather(warp: &mut Warp, group: &Group, members: Mask) -> Option<Group> {
    if members & warp.live() == group.lanes {
        return Some(group.clone());
    }
    warp.park(group.clone(), Wait::Collective(members)).pop()
}

/// What runs next instead of a group that waits.
fn next_ready(warp: &mut Warp) -> Next {
    warp.take_ready(None).map_or(Next::Gone, Next::Group)
}

/// Lanes that jump part from those that do not.
fn branch(warp: &mut Warp, group: &Group, taken: Mask, target: usize) -> Next {
    let rest = group.lanes & !taken;
    if rest == 0 {
        return Next::At(target);
    }
    warp.make_ready(Group { lanes: rest, pc: group.pc + 1, ..group.clone() });
    Next::Group(Group { lanes: taken, pc: target, ..group.clone() })
}
