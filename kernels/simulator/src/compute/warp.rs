//! What lanes of a warp tell each other: `shfl`, `vote`, `match`, `redux`, `elect`, `activemask`.

use super::lowering::{Lowered, Lowering, compute, each};
use crate::ptx::ast::Operand;
use crate::vm::code::{Collective, Op};
use crate::vm::registers::{Frame, LANES, Lane, Mask, Reg, lanes_of};

/// An instruction across lanes; the member mask is operand `members`.
fn collective(
    it: &mut Lowering<'_, '_>,
    members: usize,
    run: impl Fn(&mut Frame, Mask) -> Mask + Send + Sync + 'static,
) -> Lowered {
    it.expect(members + 1)?;
    it.require("sync")?;
    Ok(Op::Collective(Collective { members: Some(it.source(members)?), run: Box::new(run) }))
}

/// `shfl.sync.bfly.b32 d|p, a, b, c, members`.
pub(super) fn shuffle(it: &mut Lowering<'_, '_>) -> Lowered {
    let mode =
        it.choose(&[("up", Mode::Up), ("down", Mode::Down), ("bfly", Mode::Butterfly), ("idx", Mode::Index)])?;
    it.require("b32")?;
    let (d, p) = it.pair_target()?;
    let d = it.operands.target::<u32>(d)?;
    let p = p.map(|p| it.operands.predicate_target(p)).transpose()?;
    let (a, b, c) = (it.source::<u32>(1)?, it.source::<u32>(2)?, it.source::<u32>(3)?);
    collective(it, 4, move |frame, present| {
        let (a, b, c) = (u32::get(frame, a), u32::get(frame, b), u32::get(frame, c));
        let (mut values, mut inside, mut faulty) = (a, 0, 0);
        for lane in lanes_of(present) {
            let from = mode.source(lane as u32, b[lane], c[lane]);
            if let Some(from) = from {
                values[lane] = a[from as usize];
                inside |= 1 << lane;
                faulty |= (!present >> from & 1) << lane;
            }
        }
        u32::set(frame, d, present, values);
        if let Some(p) = p {
            frame.set_predicate(p, present, inside);
        }
        faulty
    })
}

#[derive(Clone, Copy)]
enum Mode {
    Up,
    Down,
    Butterfly,
    Index,
}

impl Mode {
    /// The lane that `lane` reads, unless that is outside of its segment: then it keeps its own value.
    fn source(self, lane: u32, b: u32, c: u32) -> Option<u32> {
        let (b, clamp, segments) = (b & 31, c & 31, c >> 8 & 31);
        let first = lane & segments;
        let last = first | (clamp & !segments);
        let from = match self {
            Self::Up => lane.wrapping_sub(b),
            Self::Down => lane + b,
            Self::Butterfly => lane ^ b,
            Self::Index => first | (b & !segments),
        };
        let inside = match self {
            // the end of the segment is at its start here, and lanes before the first are negative
            Self::Up => from as i32 >= last as i32,
            _ => from <= last,
        };
        inside.then_some(from)
    }
}

/// `vote.sync.ballot.b32 d, p, members`, and `.all`, `.any`, `.uni`.
pub(super) fn vote(it: &mut Lowering<'_, '_>) -> Lowered {
    let ty = it.ty();
    let ballot = it.take("ballot");
    let a = it.predicate(1)?;
    match (ballot, ty) {
        (true, "b32") => {
            let d = it.target::<u32>()?;
            collective(it, 2, move |frame, present| {
                let value = a.get(frame) & present;
                u32::set(frame, d, present, [value; LANES]);
                0
            })
        }
        (false, "pred") => {
            let test: fn(Mask, Mask) -> bool = it.choose(&[
                ("all", (|value, present| value == present) as fn(Mask, Mask) -> bool),
                ("any", |value, _| value != 0),
                ("uni", |value, present| value == 0 || value == present),
            ])?;
            let d = it.predicate_target()?;
            collective(it, 2, move |frame, present| {
                let value = test(a.get(frame) & present, present);
                frame.set_predicate(d, present, if value { Mask::MAX } else { 0 });
                0
            })
        }
        _ => it.unmodelled(ty),
    }
}

/// `match.sync.any.b32 d, a, members` and `match.sync.all.b32 d|p, a, members`.
pub(super) fn matching(it: &mut Lowering<'_, '_>) -> Lowered {
    match it.ty() {
        "b32" => matching_of::<u32>(it),
        "b64" => matching_of::<u64>(it),
        ty => it.unmodelled(ty),
    }
}

fn matching_of<T: Lane + PartialEq>(it: &mut Lowering<'_, '_>) -> Lowered {
    let all = it.choose(&[("all", true), ("any", false)])?;
    let a = it.source::<T>(1)?;
    let (d, p) = it.pair_target()?;
    let d = it.operands.target::<u32>(d)?;
    let p = p.map(|p| it.operands.predicate_target(p)).transpose()?;
    if p.is_some() && !all {
        return Err("only .all has a predicate".into());
    }
    collective(it, 2, move |frame, present| {
        let a = T::get(frame, a);
        let like = |lane: usize| lanes_of(present).fold(0, |mask, i| mask | u32::from(a[i] == a[lane]) << i);
        let values = each(present, like);
        let same = lanes_of(present).all(|lane| values[lane] == present);
        match all {
            true => u32::set(frame, d, present, [if same { present } else { 0 }; LANES]),
            false => u32::set(frame, d, present, values),
        }
        if let Some(p) = p {
            frame.set_predicate(p, present, if same { Mask::MAX } else { 0 });
        }
        0
    })
}

/// `redux.sync.add.s32 d, a, members`.
pub(super) fn reduce(it: &mut Lowering<'_, '_>) -> Lowered {
    match it.ty() {
        "u32" => {
            let f = it.choose(&[
                ("add", u32::wrapping_add as fn(u32, u32) -> u32),
                ("min", u32::min),
                ("max", u32::max),
            ])?;
            reduce_by(it, f)
        }
        "s32" => {
            let f = it.choose(&[
                ("add", i32::wrapping_add as fn(i32, i32) -> i32),
                ("min", i32::min),
                ("max", i32::max),
            ])?;
            reduce_by(it, f)
        }
        "b32" => {
            let f = it.choose(&[
                ("and", (|a, b| a & b) as fn(u32, u32) -> u32),
                ("or", |a, b| a | b),
                ("xor", |a, b| a ^ b),
            ])?;
            reduce_by(it, f)
        }
        ty => it.unmodelled(ty),
    }
}

fn reduce_by<T: Lane>(it: &mut Lowering<'_, '_>, f: fn(T, T) -> T) -> Lowered {
    let (d, a) = (it.target::<T>()?, it.source::<T>(1)?);
    collective(it, 2, move |frame, present| {
        let a = T::get(frame, a);
        let value = lanes_of(present).map(|lane| a[lane]).reduce(f).unwrap_or_default();
        T::set(frame, d, present, [value; LANES]);
        0
    })
}

/// `elect.sync d|p, members`: the first lane is elected.
pub(super) fn elect(it: &mut Lowering<'_, '_>) -> Lowered {
    let (Operand::Pair(d, p), members) = (it.operand(0)?, 1) else {
        return Err("expected a register and a predicate".into());
    };
    let (d, p) = (it.operands.target::<u32>(d)?, it.operands.predicate_target(p)?);
    collective(it, members, move |frame, present| {
        u32::set(frame, d, present, [present.trailing_zeros(); LANES]);
        frame.set_predicate(p, present, present & present.wrapping_neg());
        0
    })
}

/// `activemask.b32 d`: the lanes that happen to run together.
pub(super) fn active(it: &mut Lowering<'_, '_>) -> Lowered {
    it.require("b32")?;
    it.expect(1)?;
    let d: Reg<u32> = it.target()?;
    compute(move |frame, mask| u32::set(frame, d, mask, [mask; LANES]))
}
