//! Moving: `mov`, `selp`, `slct`, and addresses between state spaces.

use super::lowering::{Lowered, Lowering, compute, map, zip};
use crate::memory::{LOCAL_WINDOW, PARAM_WINDOW, SHARED_WINDOW};
use crate::ptx::ast::Operand;
use crate::vm::code::Op;
use crate::vm::registers::{LANES, Lane, lanes_of};

/// Bits of a type's values.
fn width(it: &Lowering<'_, '_>, ty: &str) -> Result<u32, String> {
    match ty {
        "b16" | "u16" | "s16" | "f16" | "bf16" => Ok(16),
        "b32" | "u32" | "s32" | "f32" | "f16x2" | "bf16x2" => Ok(32),
        "b64" | "u64" | "s64" | "f64" => Ok(64),
        _ => it.unmodelled(ty),
    }
}

/// `None` for what the machine alone knows: addresses, clocks, and other special registers of 64 bits.
pub(super) fn copy(it: &mut Lowering<'_, '_>) -> Result<Option<Op>, String> {
    let ty = it.ty();
    it.expect(2)?;
    if ty == "pred" {
        let (d, a) = (it.predicate_target()?, it.predicate(1)?);
        return compute(move |frame, mask| {
            let value = a.get(frame);
            frame.set_predicate(d, mask, value);
        })
        .map(Some);
    }
    let width = width(it, ty)?;
    match (it.operand(0)?, it.operand(1)?) {
        (_, Operand::Symbol(..)) => return Ok(None),
        (_, Operand::Special(name))
            if width == 64 || name.starts_with("%clock") || name.starts_with("%globaltimer") =>
        {
            return Ok(None);
        }
        (Operand::Vector(_), _) | (_, Operand::Vector(_)) => regroup(it, width),
        _ => match width {
            16 => it.unary(|a: u16| a),
            32 => it.unary(|a: u32| a),
            _ => it.unary(|a: u64| a),
        },
    }
    .map(Some)
}

/// `mov.b32 d, {%rs1, %rs2}` and `mov.b64 {%r1, _}, a`: the first part is the lowest.
fn regroup(it: &mut Lowering<'_, '_>, width: u32) -> Lowered {
    let (sources, source_bits) = parts(it, 1, width)?;
    let (targets, target_bits) = parts(it, 0, width)?;
    let sources = sources.iter().map(|part| it.operands.source_row(part, source_bits));
    let sources = sources.collect::<Result<Vec<_>, _>>()?;
    let targets = targets.iter().map(|part| it.operands.target_row(part)).collect::<Result<Vec<_>, _>>()?;
    compute(move |frame, mask| {
        let mut values = [0; LANES];
        for (i, &row) in sources.iter().enumerate() {
            values = zip(values, frame.values(row), |value, bits| value | bits << (i as u32 * source_bits));
        }
        for (i, &row) in targets.iter().enumerate() {
            let part = |value: u64| value >> (i as u32 * target_bits) & (u64::MAX >> (64 - target_bits));
            frame.set_values(row, mask, map(values, part));
        }
    })
}

/// The parts of an operand of `width` bits, and the bits of each; registers have to be of that size.
fn parts<'a>(it: &Lowering<'a, '_>, index: usize, width: u32) -> Result<(&'a [Operand], u32), String> {
    let operand = it.operand(index)?;
    let parts = if let Operand::Vector(parts) = operand { &parts[..] } else { std::slice::from_ref(operand) };
    let bits = width / parts.len().max(1) as u32;
    if bits * parts.len() as u32 != width || ![8, 16, 32, 64].contains(&bits) {
        return Err(format!("{} parts do not make up {width} bits", parts.len()));
    }
    for part in parts.iter().filter(|part| matches!(part, Operand::Register(_))) {
        match it.operands.width(part)? {
            found if found != bits => return Err(format!("expected a register of {bits} bits, found {found}")),
            _ => {}
        }
    }
    Ok((parts, bits))
}

/// `selp`: by a predicate.
pub(super) fn select(it: &mut Lowering<'_, '_>) -> Lowered {
    let ty = it.ty();
    match width(it, ty)? {
        16 => select_of::<u16>(it),
        32 => select_of::<u32>(it),
        _ => select_of::<u64>(it),
    }
}

fn select_of<T: Lane>(it: &mut Lowering<'_, '_>) -> Lowered {
    it.expect(4)?;
    let (d, a, b, p) = (it.target::<T>()?, it.source::<T>(1)?, it.source::<T>(2)?, it.predicate(3)?);
    compute(move |frame, mask| {
        let (a, b, p) = (T::get(frame, a), T::get(frame, b), p.get(frame));
        T::set(frame, d, mask, std::array::from_fn(|lane| if p & (1 << lane) != 0 { a[lane] } else { b[lane] }));
    })
}

/// `slct`: by a sign.
pub(super) fn select_by_sign(it: &mut Lowering<'_, '_>) -> Lowered {
    let by = it.ty();
    let ftz = by == "f32" && it.take("ftz");
    let ty = it.ty();
    match (width(it, ty)?, by) {
        (16, "s32") => it.ternary(|a: u16, b: u16, c: i32| if c >= 0 { a } else { b }),
        (32, "s32") => it.ternary(|a: u32, b: u32, c: i32| if c >= 0 { a } else { b }),
        (64, "s32") => it.ternary(|a: u64, b: u64, c: i32| if c >= 0 { a } else { b }),
        (16, "f32") => it.ternary(move |a: u16, b: u16, c| if at_least_zero(c, ftz) { a } else { b }),
        (32, "f32") => it.ternary(move |a: u32, b: u32, c| if at_least_zero(c, ftz) { a } else { b }),
        (64, "f32") => it.ternary(move |a: u64, b: u64, c| if at_least_zero(c, ftz) { a } else { b }),
        _ => it.unmodelled(by),
    }
}

fn at_least_zero(value: f32, ftz: bool) -> bool {
    value >= 0.0 || (ftz && value.is_subnormal())
}

/// The window of generic addresses that a state space is seen through; global memory has none.
fn window(it: &mut Lowering<'_, '_>) -> Result<Option<u64>, String> {
    it.choose(&[
        ("global", None),
        ("const", None),
        ("shared", Some(SHARED_WINDOW)),
        ("shared::cta", Some(SHARED_WINDOW)),
        ("local", Some(LOCAL_WINDOW)),
        ("param", Some(PARAM_WINDOW)),
        ("param::entry", Some(PARAM_WINDOW)),
    ])
}

/// `cvta`.
pub(super) fn convert_address(it: &mut Lowering<'_, '_>) -> Lowered {
    let to = it.take("to");
    let base = window(it)?.unwrap_or(0);
    it.require("u64")?;
    match to {
        true => it.unary(move |a: u64| a.wrapping_sub(base)),
        false => it.unary(move |a: u64| a.wrapping_add(base)),
    }
}

/// `isspacep`. Constants lie in global memory here, so that nobody can tell.
pub(super) fn is_space(it: &mut Lowering<'_, '_>) -> Lowered {
    if it.take("const") {
        return it.unmodelled("const");
    }
    let window = window(it)?;
    it.expect(2)?;
    let (p, a) = (it.predicate_target()?, it.source::<u64>(1)?);
    let inside = |address: u64, base: u64| address.wrapping_sub(base) >> 32 == 0;
    let test = move |address: u64| match window {
        Some(base) => inside(address, base),
        None => ![SHARED_WINDOW, LOCAL_WINDOW, PARAM_WINDOW].iter().any(|&base| inside(address, base)),
    };
    compute(move |frame, mask| {
        let a = u64::get(frame, a);
        let value = lanes_of(mask).fold(0, |value, lane| value | u32::from(test(a[lane])) << lane);
        frame.set_predicate(p, mask, value);
    })
}
