//! Matrix instructions, defined by the fragment layouts as the manual writes them, shape by shape.

use half::{bf16, f16};
use mdetr_simulator::options::Approximation;

use super::harness::Machine;

/// Row and column of element `i` of a lane with `g = lane / 4` and `t = lane % 4`.
type Layout = fn(g: usize, t: usize, i: usize) -> (usize, usize);

struct Case {
    shape: (usize, usize),
    /// Types of d, a, b, c, as in the opcode.
    types: [&'static str; 4],
    a: Layout,
    b: Layout,
    flags: &'static str,
}

/// The product's layout, the same for all shapes.
fn c_layout(g: usize, t: usize, i: usize) -> (usize, usize) {
    (if i < 2 { g } else { g + 8 }, 2 * t + (i & 1))
}

const CASES: [Case; 22] = {
    const fn case(shape: (usize, usize), types: [&'static str; 4], a: Layout, b: Layout) -> Case {
        Case { shape, types, a, b, flags: "" }
    }
    const HALF_8: Layout = |g, t, i| (if i < 2 { g } else { g + 8 }, 2 * t + (i & 1));
    const HALF_8_B: Layout = |g, t, i| (2 * t + i, g);
    const HALF_16: Layout = |g, t, i| {
        let upper = i < 2 || (4..6).contains(&i);
        (if upper { g } else { g + 8 }, 2 * t + (i & 1) + if i < 4 { 0 } else { 8 })
    };
    const HALF_16_B: Layout = |g, t, i| (if i < 2 { 2 * t + (i & 1) } else { 2 * t + (i & 1) + 8 }, g);
    const TF32_4: Layout = |g, t, i| (if i == 0 { g } else { g + 8 }, t);
    const TF32_4_B: Layout = |g, t, _| (t, g);
    const TF32_8: Layout = |g, t, i| (if i == 0 || i == 2 { g } else { g + 8 }, if i < 2 { t } else { t + 4 });
    const TF32_8_B: Layout = |g, t, i| (if i == 0 { t } else { t + 4 }, g);
    const BYTE_SMALL: Layout = |g, t, i| (g, 4 * t + i);
    const BYTE_16: Layout = |g, t, i| (if i < 4 { g } else { g + 8 }, 4 * t + (i & 3));
    const BYTE_16_B: Layout = |g, t, i| (4 * t + i, g);
    const BYTE_32: Layout = |g, t, i| {
        let upper = i < 4 || (8..12).contains(&i);
        (if upper { g } else { g + 8 }, 4 * t + (i & 3) + if i < 8 { 0 } else { 16 })
    };
    const BYTE_32_B: Layout = |g, t, i| (if i < 4 { 4 * t + (i & 3) } else { 4 * t + (i & 3) + 16 }, g);
    const DOUBLE_SMALL: Layout = |g, t, _| (g, t);
    const DOUBLE: Layout = |g, t, i| (if i % 2 == 0 { g } else { g + 8 }, i / 2 * 4 + t);
    const DOUBLE_B: Layout = |g, t, i| (4 * i + t, g);
    [
        case((16, 8), ["f32", "f16", "f16", "f32"], HALF_8, HALF_8_B),
        case((16, 8), ["f16", "f16", "f16", "f16"], HALF_8, HALF_8_B),
        case((16, 8), ["f32", "bf16", "bf16", "f32"], HALF_8, HALF_8_B),
        case((16, 16), ["f32", "f16", "f16", "f32"], HALF_16, HALF_16_B),
        case((16, 16), ["f16", "f16", "f16", "f16"], HALF_16, HALF_16_B),
        case((16, 16), ["f16", "f16", "f16", "f32"], HALF_16, HALF_16_B),
        case((16, 16), ["f32", "f16", "f16", "f16"], HALF_16, HALF_16_B),
        case((16, 16), ["f32", "bf16", "bf16", "f32"], HALF_16, HALF_16_B),
        case((16, 4), ["f32", "tf32", "tf32", "f32"], TF32_4, TF32_4_B),
        case((16, 8), ["f32", "tf32", "tf32", "f32"], TF32_8, TF32_8_B),
        case((8, 16), ["s32", "s8", "s8", "s32"], BYTE_SMALL, BYTE_16_B),
        case((8, 16), ["s32", "u8", "s8", "s32"], BYTE_SMALL, BYTE_16_B),
        case((16, 16), ["s32", "s8", "u8", "s32"], BYTE_16, BYTE_16_B),
        case((16, 16), ["s32", "u8", "u8", "s32"], BYTE_16, BYTE_16_B),
        case((16, 32), ["s32", "s8", "s8", "s32"], BYTE_32, BYTE_32_B),
        case((16, 32), ["s32", "u8", "u8", "s32"], BYTE_32, BYTE_32_B),
        Case { flags: ".satfinite", ..case((16, 32), ["s32", "s8", "s8", "s32"], BYTE_32, BYTE_32_B) },
        Case { flags: ".satfinite", ..case((8, 16), ["s32", "u8", "s8", "s32"], BYTE_SMALL, BYTE_16_B) },
        case((8, 4), ["f64", "f64", "f64", "f64"], DOUBLE_SMALL, DOUBLE_B),
        case((16, 4), ["f64", "f64", "f64", "f64"], DOUBLE, DOUBLE_B),
        case((16, 8), ["f64", "f64", "f64", "f64"], DOUBLE, DOUBLE_B),
        case((16, 16), ["f64", "f64", "f64", "f64"], DOUBLE, DOUBLE_B),
    ]
};

/// Bits of an element, and the bits of `value` as one.
fn encode(ty: &str, value: f64) -> (u32, u64) {
    match ty {
        "f16" => (16, f16::from_f64(value).to_bits().into()),
        "bf16" => (16, bf16::from_f64(value).to_bits().into()),
        "f32" => (32, (value as f32).to_bits().into()),
        // bits that nobody looks at
        "tf32" => (32, u64::from((value as f32).to_bits()) | 0x155),
        "s8" | "u8" => (8, value as i64 as u64 & 0xff),
        "s32" => (32, value as i64 as u64 & 0xffff_ffff),
        _ => (64, value.to_bits()),
    }
}

/// Numbers whose products and their sums are exact in f64.
fn number(ty: &str, seed: usize) -> f64 {
    let x = (seed as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20;
    match ty {
        "s8" => f64::from(x as i8),
        "u8" => f64::from(x as u8),
        // near the ends of the range, where sums wrap or saturate
        "s32" => f64::from((x as i32) | 0x7f00_0000),
        "bf16" => f64::from(x as i8 >> 1) / 8.0,
        _ => f64::from(x as i16 >> 5) / 128.0,
    }
}

/// Reads or writes element `i` of a fragment; `name` of its registers, `first` of them.
fn element(machine: &mut Machine, ty: &str, first: usize, lane: usize, i: usize, write: Option<f64>) -> u64 {
    let (bits, new) = encode(ty, write.unwrap_or(0.0));
    let packed = (32 / bits).max(1) as usize;
    let name = format!("{}{}", prefix(ty), first + i / packed);
    let at = bits * (i % packed) as u32;
    let mut row = machine.get(&name);
    let keep = (u64::MAX >> (64 - bits)) << at;
    if write.is_some() {
        row[lane] = (row[lane] & !keep) | new << at;
        machine.set(&name, row);
    }
    (row[lane] & keep) >> at
}

fn prefix(ty: &str) -> &'static str {
    match ty {
        "f32" => "%f",
        "f64" => "%fd",
        _ => "%r",
    }
}

fn vector(ty: &str, first: usize, elements: usize) -> String {
    let packed = (32 / encode(ty, 0.0).0).max(1) as usize;
    let names: Vec<_> = (first..first + elements / packed).map(|i| format!("{}{i}", prefix(ty))).collect();
    format!("{{{}}}", names.join(", "))
}

#[test]
fn products() {
    for Case { shape: (m, k), types: [d_ty, a_ty, b_ty, c_ty], a, b, flags } in CASES {
        // as many registers as there are: d and c share theirs where all four have the same kind
        let (a_count, b_count, c_count) = (m * k / 32, 8 * k / 32, m * 8 / 32);
        let (a_first, b_first) = (4, if a_ty == "f64" { 12 } else { 8 });
        let c_first = if c_ty == "f64" { 0 } else { 12 };
        let text = format!(
            "mma.sync.aligned.m{m}n8k{k}.row.col{flags}.{d_ty}.{a_ty}.{b_ty}.{c_ty} {}, {}, {}, {}",
            vector(d_ty, 0, c_count),
            vector(a_ty, a_first, a_count),
            vector(b_ty, b_first, b_count),
            vector(c_ty, c_first, c_count),
        );
        let mut machine = Machine::new(&text, Approximation::Exact).unwrap();
        let (left, right, add) = (
            |row, column| number(a_ty, row * 64 + column),
            |row, column| number(b_ty, 5000 + row * 64 + column),
            |row, column| number(c_ty, 9000 + row * 64 + column),
        );
        for lane in 0..32 {
            let (g, t) = (lane / 4, lane % 4);
            for i in 0..a_count {
                let (row, column) = a(g, t, i);
                element(&mut machine, a_ty, a_first, lane, i, Some(left(row, column)));
            }
            for i in 0..b_count {
                let (row, column) = b(g, t, i);
                element(&mut machine, b_ty, b_first, lane, i, Some(right(row, column)));
            }
            for i in 0..c_count {
                let (row, column) = c_layout(g, t, i);
                element(&mut machine, c_ty, c_first, lane, i, Some(add(row, column)));
            }
        }
        assert_eq!(machine.run(u32::MAX), 0);
        for lane in 0..32 {
            for i in 0..c_count {
                let (row, column) = c_layout(lane / 4, lane % 4, i);
                let exact = (0..k).map(|j| left(row, j) * right(j, column)).sum::<f64>() + add(row, column);
                let exact = match flags {
                    "" => exact,
                    _ => exact.clamp(i32::MIN.into(), i32::MAX.into()),
                };
                let found = element(&mut machine, d_ty, 0, lane, i, None);
                assert_eq!(found, encode(d_ty, exact).1, "{text}: row {row}, column {column}, {exact}");
            }
        }
    }
}

/// All lanes have to be there; those that are not stay as they were.
#[test]
fn absent_lanes() {
    let text = "movmatrix.sync.aligned.m8n8.trans.b16 %r0, %r1";
    let mut machine = Machine::new(text, Approximation::Exact).unwrap();
    machine.set("%r1", [3; 32]);
    assert_eq!(machine.run(0x00ff_ffff), 0x00ff_ffff);
    assert_eq!(machine.get("%r0")[24..], [0; 8]);
}

#[test]
fn transposed() {
    let mut machine = Machine::new("movmatrix.sync.aligned.m8n8.trans.b16 %r0, %r1", Approximation::Exact).unwrap();
    // element (row, column) is 8·row + column
    machine.set("%r1", std::array::from_fn(|lane| ((2 * lane) | ((2 * lane + 1) << 16)) as u64));
    assert_eq!(machine.run(u32::MAX), 0);
    let found = machine.get("%r0");
    for (row, column) in (0..8).flat_map(|row| (0..8).map(move |column| (row, column))) {
        let element = found[4 * row + column / 2] >> (16 * (column % 2)) & 0xffff;
        assert_eq!(element, (8 * column + row) as u64, "row {row}, column {column}");
    }
}
