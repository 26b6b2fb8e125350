//! Calls of device functions, and returns from them.

use super::block::{Block, Stop};
use super::code::{Call, Op};
use super::lower::LOCAL_BASE;
use super::registers::{LANES, Row};
use super::step::Next;
use super::warp::{CallFrame, Group, Warp};
use crate::findings::Kind;

/// Bytes of the stack that a call takes beside its local variables: without them a recursion could be endless.
const RETURN: u64 = 16;

impl Block<'_> {
    pub(super) fn call(&mut self, warp: &mut Warp, group: &Group, call: &Call) -> Result<Next, Stop> {
        let from = Some((group.frame, group.pc));
        // lanes that come later to a call that others are in share its frame, or they could never meet there
        let known = warp.frames.iter().position(|frame| frame.as_ref().is_some_and(|frame| frame.caller == from));
        let frame = match known {
            Some(frame) => frame,
            None => self.push_callee(warp, group, call.function)?,
        };
        warp.frame(frame).lanes |= group.lanes;
        for &(here, there) in &call.arguments {
            let values = warp.frame(group.frame).registers.b64[here as usize];
            warp.set(frame, Row::B64(there), group.lanes, values);
        }
        Ok(Next::Group(Group { lanes: group.lanes, pc: 0, frame, released: None }))
    }

    /// A frame for a function that a group calls.
    fn push_callee(&self, warp: &mut Warp, group: &Group, function: usize) -> Result<usize, Stop> {
        let functions = &self.grid.launch.program.functions;
        let callee = &functions[function];
        let caller = warp.frame(group.frame);
        let (depth, local) = (caller.depth + 1, caller.local + functions[caller.function].local + RETURN);
        if local + callee.local > self.local_size {
            let message = format!("calls nest {depth} deep and need more than {} bytes of stack", self.local_size);
            self.fault(Kind::OutOfBounds, warp, group, group.lanes.trailing_zeros(), None, message);
            return Err(Stop);
        }
        let mut registers = callee.layout.frame.clone();
        for (name, row) in &callee.layout.specials {
            registers.b32[*row as usize] = match name.as_str() {
                LOCAL_BASE => [local as u32; LANES],
                name => self.position(warp.index).special(name).unwrap_or_default(),
            };
        }
        let caller = Some((group.frame, group.pc));
        Ok(warp.push_frame(CallFrame { registers, function, caller, depth, lanes: 0, local }))
    }

    /// Lanes return from a function, or out of the kernel.
    pub(super) fn leave(&mut self, warp: &mut Warp, group: &Group) -> Result<Next, Stop> {
        let lanes = group.lanes;
        let Some((caller, pc)) = warp.frame(group.frame).caller else { return self.exit(warp, lanes) };
        let functions = &self.grid.launch.program.functions;
        let function = warp.frame(caller).function;
        if let Op::Call(call) = &functions[function].code[pc].op {
            for &(here, there) in &call.returns {
                let values = warp.frame(group.frame).registers.b64[there as usize];
                warp.set(caller, Row::B64(here), lanes, values);
            }
        }
        let frame = warp.frame(group.frame);
        frame.lanes &= !lanes;
        if frame.lanes == 0 {
            warp.frames[group.frame] = None;
        }
        Ok(Next::Group(Group { lanes, pc: pc + 1, frame: caller, released: None }))
    }
}
