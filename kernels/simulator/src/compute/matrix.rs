//! Matrix instructions of a warp: `mma` and `movmatrix`.
//!
//! A fragment's elements lie by one rule whatever their type. With `g = lane / 4`, `t = lane % 4` and `e` elements to a
//! register, element `i` of register `r` is
//!
//! ```text
//! a (M, K)   row g + 8·(r % 2), column t·e + i + 4e·(r / 2)      r / 1 and row g where M is 8
//! b (K, N)   row t·e + i + 4e·r, column g
//! c (M, N)   the j-th of all: row g + 8·(j / 2), column 2t + j % 2
//! ```

use half::{bf16, f16};

use super::exact::Rounding;
use super::float::Float;
use super::lowering::{Lowered, Lowering, bits, set_bits};
use crate::ptx::ast::Operand;
use crate::vm::code::{Collective, Op};
use crate::vm::operands::Row;
use crate::vm::registers::{Frame, LANES, Lane, Mask};

/// Rows of the product at most.
const ROWS: usize = 16;
/// Columns of the product.
const COLUMNS: usize = 8;
/// Depth at most.
const DEPTH: usize = 32;

/// An instruction that all lanes of the warp have to run together.
fn aligned(it: &mut Lowering<'_, '_>, run: impl Fn(&mut Frame) + Send + Sync + 'static) -> Lowered {
    if !it.take("sync") || !it.take("aligned") {
        return Err(format!("{it}: expected .sync.aligned"));
    }
    let run = move |frame: &mut Frame, present| {
        run(frame);
        // every lane reads all others
        if present == Mask::MAX { 0 } else { present }
    };
    Ok(Op::Collective(Collective { members: None, run: Box::new(run) }))
}

/// The type of a fragment's elements.
#[derive(Clone, Copy)]
struct Element {
    bits: u32,
    value: fn(u64) -> f64,
}

impl Element {
    fn named(ty: &str) -> Option<Self> {
        let (bits, value): (u32, fn(u64) -> f64) = match ty {
            "f16" => (16, |bits| f16::from_bits(bits as u16).widened()),
            "bf16" => (16, |bits| bf16::from_bits(bits as u16).widened()),
            "f32" => (32, |bits| f32::from_bits(bits as u32).into()),
            // the hardware does not look at the other bits
            "tf32" => (32, |bits| f32::from_bits(bits as u32 & !0x1fff).into()),
            "s8" => (8, |bits| f64::from(bits as i8)),
            "u8" => (8, |bits| f64::from(bits as u8)),
            "s32" => (32, |bits| f64::from(bits as i32)),
            "f64" => (64, f64::from_bits),
            _ => return None,
        };
        Some(Self { bits, value })
    }

    /// Elements in a register.
    fn packed(self) -> usize {
        (32 / self.bits).max(1) as usize
    }
}

/// A fragment's registers.
struct Fragment {
    element: Element,
    rows: Vec<Row>,
}

impl Fragment {
    /// Operand `index` as a fragment of `count` registers.
    fn new(it: &mut Lowering<'_, '_>, index: usize, element: Element, elements: usize) -> Result<Self, String> {
        let operand = it.operand(index)?;
        let parts = if let Operand::Vector(parts) = operand { &parts[..] } else { std::slice::from_ref(operand) };
        let (count, bits) = (elements / element.packed(), element.bits.max(32));
        if parts.len() != count {
            return Err(format!("{it}: expected {count} registers as operand {index}, found {}", parts.len()));
        }
        for part in parts.iter().filter(|part| matches!(part, Operand::Register(_))) {
            if it.operands.width(part)? != bits {
                return Err(format!("{it}: expected registers of {bits} bits as operand {index}"));
            }
        }
        let rows = parts.iter().map(|part| match index {
            0 => it.operands.target_row(part),
            _ => it.operands.source_row(part, bits),
        });
        Ok(Self { element, rows: rows.collect::<Result<_, _>>()? })
    }

    /// Calls `f` with lane, number and value of every element.
    fn read(&self, frame: &Frame, mut f: impl FnMut(usize, usize, f64)) {
        let packed = self.element.packed();
        for (r, &row) in self.rows.iter().enumerate() {
            for (lane, word) in bits(frame, row).into_iter().enumerate() {
                for i in 0..packed {
                    let bits = word >> (i as u32 * self.element.bits);
                    f(lane, r * packed + i, (self.element.value)(bits));
                }
            }
        }
    }

    /// Sets every element to the bits that `f` gives for its lane and number.
    fn write(&self, frame: &mut Frame, f: impl Fn(usize, usize) -> u64) {
        let packed = self.element.packed();
        for (r, &row) in self.rows.iter().enumerate() {
            let word = |lane| {
                (0..packed).fold(0, |word, i| word | f(lane, r * packed + i) << (i as u32 * self.element.bits))
            };
            set_bits(frame, row, Mask::MAX, std::array::from_fn(word));
        }
    }
}

/// `m16n8k16`: rows and depth that there are for a type.
fn shape(it: &mut Lowering<'_, '_>, ty: &str) -> Result<(usize, usize), String> {
    let shapes: &[_] = match ty {
        "f16" | "bf16" => &[("m16n8k8", (16, 8)), ("m16n8k16", (16, 16))],
        "tf32" => &[("m16n8k4", (16, 4)), ("m16n8k8", (16, 8))],
        "s8" | "u8" => &[("m8n8k16", (8, 16)), ("m16n8k16", (16, 16)), ("m16n8k32", (16, 32))],
        "f64" => &[("m8n8k4", (8, 4)), ("m16n8k4", (16, 4)), ("m16n8k8", (16, 8)), ("m16n8k16", (16, 16))],
        _ => return it.unmodelled(ty),
    };
    it.choose(shapes)
}

/// Row and column of element `j` of lane `lane` of the product.
fn place(lane: usize, j: usize) -> (usize, usize) {
    (lane / 4 + 8 * (j / 2), 2 * (lane % 4) + j % 2)
}

/// `mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 d, a, b, c`. Products are exact; they are added up in f64 (those
/// of f64 fused), and the sum is rounded once.
pub(super) fn multiply(it: &mut Lowering<'_, '_>) -> Lowered {
    it.expect(4)?;
    let (c_ty, b_ty, a_ty, d_ty) = (it.ty(), it.ty(), it.ty(), it.ty());
    let integers = ["s8", "u8"].contains(&a_ty) && ["s8", "u8"].contains(&b_ty);
    let results: &[_] = match a_ty {
        "f16" => &["f16", "f32"],
        "bf16" | "tf32" => &["f32"],
        "f64" => &["f64"],
        _ => &["s32"],
    };
    if (a_ty != b_ty && !integers) || !results.contains(&c_ty) || !results.contains(&d_ty) {
        return it.unmodelled(&[d_ty, a_ty, b_ty, c_ty].join("."));
    }
    let (rows, depth) = shape(it, a_ty)?;
    if !it.take("row") || !it.take("col") {
        return Err(format!("{it}: expected .row.col"));
    }
    if a_ty == "f64" {
        it.take("rn");
    }
    let round: fn(f64) -> u64 = match d_ty {
        "f16" => |sum| f16::rounded(sum, Rounding::Nearest).bits(),
        "f32" => |sum| f32::rounded(sum, Rounding::Nearest).canonical().bits(),
        "f64" => f64::to_bits,
        _ if it.take("satfinite") => |sum| (sum as i32).bits(),
        _ => |sum| (sum as i64 as i32).bits(),
    };
    let fragment = |it: &mut Lowering<'_, '_>, index, ty, elements: usize| match Element::named(ty) {
        Some(element) => Fragment::new(it, index, element, elements / LANES),
        None => it.unmodelled(ty),
    };
    let d = fragment(it, 0, d_ty, rows * COLUMNS)?;
    let a = fragment(it, 1, a_ty, rows * depth)?;
    let b = fragment(it, 2, b_ty, depth * COLUMNS)?;
    let c = fragment(it, 3, c_ty, rows * COLUMNS)?;
    let fused = a_ty == "f64";
    aligned(it, move |frame| {
        let (mut left, mut right, mut sum) = ([[0.0; DEPTH]; ROWS], [[0.0; COLUMNS]; DEPTH], [[0.0; COLUMNS]; ROWS]);
        let (packed, halves) = (a.element.packed(), rows / 8);
        a.read(frame, |lane, j, value| {
            let (r, i) = (j / packed, j % packed);
            left[lane / 4 + 8 * (r % halves)][lane % 4 * packed + i + 4 * packed * (r / halves)] = value;
        });
        b.read(frame, |lane, j, value| {
            right[lane % 4 * packed + j % packed + 4 * packed * (j / packed)][lane / 4] = value;
        });
        c.read(frame, |lane, j, value| {
            let (row, column) = place(lane, j);
            sum[row][column] = value;
        });
        for (sum, left) in sum.iter_mut().zip(&left).take(rows) {
            for (&left, right) in left.iter().zip(&right).take(depth) {
                for (sum, &right) in sum.iter_mut().zip(right) {
                    *sum = if fused { left.mul_add(right, *sum) } else { *sum + left * right };
                }
            }
        }
        d.write(frame, |lane, j| {
            let (row, column) = place(lane, j);
            round(sum[row][column])
        });
    })
}

/// `movmatrix.sync.aligned.m8n8.trans.b16 d, a`.
pub(super) fn transpose(it: &mut Lowering<'_, '_>) -> Lowered {
    for part in ["m8n8", "trans", "b16"] {
        if !it.take(part) {
            return Err(format!("{it}: expected .{part}"));
        }
    }
    it.expect(2)?;
    let (d, a) = (it.target::<u32>()?, it.source::<u32>(1)?);
    aligned(it, move |frame| {
        let a = u32::get(frame, a);
        // row of the result is column of the source: lane 4·row + column / 2 holds two columns
        let element = |row: usize, column: usize| a[4 * row + column / 2] >> (16 * (column % 2) as u32) & 0xffff;
        let values = std::array::from_fn(|lane| {
            let (row, column) = (lane / 4, lane % 4 * 2);
            element(column, row) | element(column + 1, row) << 16
        });
        u32::set(frame, d, Mask::MAX, values);
    })
}
