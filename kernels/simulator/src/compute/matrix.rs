//! Matrix instructions of a warp: `mma` and `movmatrix`.
//!
//! A fragment's elements lie by one rule whatever their type. With `g = lane / 4`, `t = lane % 4` and `e` elements to a
//! register, element `i` of register `r` is
//!
//! ```text
//! a (M, K)   row g + 8·(r % 2), column t·e + i + 4e·(r / 2); of 8 rows: row g, column t·e + i + 4e·r
//! b (K, N)   row t·e + i + 4e·r, column g
//! c (M, N)   the j-th of all: row g + 8·(j / 2), column 2t + j % 2
//! ```

use half::{bf16, f16};

use super::exact::Rounding;
use super::float::Float;
use super::lowering::{Lowered, Lowering, map};
use crate::ptx::ast::Operand;
use crate::vm::code::{Collective, Op};
use crate::vm::registers::{Frame, LANES, Lane, Mask, Row};

/// Rows of the product at most.
const ROWS: usize = 16;
/// Columns of the product.
const COLUMNS: usize = 8;
/// Depth at most.
const DEPTH: usize = 32;

/// An instruction that all lanes of the warp have to run together.
fn aligned(it: &mut Lowering<'_, '_>, run: impl Fn(&mut Frame, Mask) + Send + Sync + 'static) -> Lowered {
    it.require("sync")?;
    it.require("aligned")?;
    let run = move |frame: &mut Frame, present| {
        run(frame, present);
        // every lane reads all others
        if present == Mask::MAX { 0 } else { present }
    };
    Ok(Op::Collective(Collective { members: None, run: Box::new(run) }))
}

/// The type of a fragment's elements.
#[derive(Clone, Copy)]
struct Element {
    bits: u32,
    /// The numbers in the low bits of a row's words.
    values: Values,
}

/// See [`Element::values`].
type Values = fn([u64; LANES]) -> [f64; LANES];

impl Element {
    fn named(ty: &str) -> Option<Self> {
        let (bits, values): (u32, Values) = match ty {
            "f16" => (16, |row| map(row, |bits| f16::from_bits(bits as u16).widened())),
            "bf16" => (16, |row| map(row, |bits| bf16::from_bits(bits as u16).widened())),
            "f32" => (32, |row| map(row, |bits| f32::from_bits(bits as u32).into())),
            // the hardware does not look at the other bits
            "tf32" => (32, |row| map(row, |bits| f32::from_bits(bits as u32 & !0x1fff).into())),
            "s8" => (8, |row| map(row, |bits| f64::from(bits as i8))),
            "u8" => (8, |row| map(row, |bits| f64::from(bits as u8))),
            "s32" => (32, |row| map(row, |bits| f64::from(bits as i32))),
            "f64" => (64, |row| map(row, f64::from_bits)),
            _ => return None,
        };
        Some(Self { bits, values })
    }

    /// Elements in a register.
    fn packed(self) -> usize {
        (32 / self.bits).max(1) as usize
    }
}

/// A fragment: registers, and where their elements are in the matrix.
struct Fragment {
    element: Element,
    rows: Vec<Row>,
    /// By register, element of a register, and lane: the index in the matrix.
    places: Vec<[usize; LANES]>,
}

impl Fragment {
    /// Operand `index` as a fragment of `elements` elements a lane; `place` gives the index of a lane's j-th one.
    fn new(
        it: &mut Lowering<'_, '_>,
        index: usize,
        ty: &str,
        elements: usize,
        place: impl Fn(usize, usize) -> usize,
    ) -> Result<Self, String> {
        let Some(element) = Element::named(ty) else { return it.unmodelled(ty) };
        let operand = it.operand(index)?;
        let parts = if let Operand::Vector(parts) = operand { &parts[..] } else { std::slice::from_ref(operand) };
        let (count, bits) = (elements / element.packed(), element.bits.max(32));
        if parts.len() != count {
            return Err(format!("expected {count} registers as operand {index}, found {}", parts.len()));
        }
        for part in parts.iter().filter(|part| matches!(part, Operand::Register(_))) {
            if it.operands.width(part)? != bits {
                return Err(format!("expected registers of {bits} bits as operand {index}"));
            }
        }
        let rows = parts.iter().map(|part| match index {
            0 => it.operands.target_row(part),
            _ => it.operands.source_row(part, bits),
        });
        let rows = rows.collect::<Result<_, _>>()?;
        let places = (0..elements).map(|j| std::array::from_fn(|lane| place(lane, j))).collect();
        Ok(Self { element, rows, places })
    }

    /// The matrix with this fragment's elements.
    fn read<const N: usize>(&self, frame: &Frame) -> [f64; N] {
        let mut matrix = [0.0; N];
        for (&row, places) in self.rows.iter().zip(self.places.chunks(self.element.packed())) {
            let words = frame.values(row);
            for (i, places) in places.iter().enumerate() {
                let values = (self.element.values)(map(words, |word| word >> (i as u32 * self.element.bits)));
                for (&place, value) in places.iter().zip(values) {
                    matrix[place] = value;
                }
            }
        }
        matrix
    }

    /// Sets every element to what `round` makes of it.
    fn write(&self, frame: &mut Frame, mask: Mask, matrix: &[f64], round: fn(f64) -> u64) {
        for (&row, places) in self.rows.iter().zip(self.places.chunks(self.element.packed())) {
            let mut words = [0; LANES];
            for (i, places) in places.iter().enumerate() {
                for (word, &place) in words.iter_mut().zip(places) {
                    *word |= round(matrix[place]) << (i as u32 * self.element.bits);
                }
            }
            frame.set_values(row, mask, words);
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
    it.require("row")?;
    it.require("col")?;
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
    let packed = |ty| Element::named(ty).map_or(1, Element::packed);
    let left = |lane: usize, j: usize| {
        let (packed, halves) = (packed(a_ty), rows / 8);
        let (r, i) = (j / packed, j % packed);
        (lane / 4 + 8 * (r % halves)) * DEPTH + lane % 4 * packed + i + 4 * packed * (r / halves)
    };
    let right = |lane: usize, j: usize| {
        let packed = packed(b_ty);
        (lane % 4 * packed + j % packed + 4 * packed * (j / packed)) * COLUMNS + lane / 4
    };
    let product = |lane: usize, j: usize| (lane / 4 + 8 * (j / 2)) * COLUMNS + 2 * (lane % 4) + j % 2;
    let d = Fragment::new(it, 0, d_ty, rows * COLUMNS / LANES, product)?;
    let a = Fragment::new(it, 1, a_ty, rows * depth / LANES, left)?;
    let b = Fragment::new(it, 2, b_ty, depth * COLUMNS / LANES, right)?;
    let c = Fragment::new(it, 3, c_ty, rows * COLUMNS / LANES, product)?;
    let fused = a_ty == "f64";
    aligned(it, move |frame, present| {
        let left: [f64; ROWS * DEPTH] = a.read(frame);
        let right: [f64; DEPTH * COLUMNS] = b.read(frame);
        let mut sums: [f64; ROWS * COLUMNS] = c.read(frame);
        let (left, right) = (left.as_chunks::<DEPTH>().0, right.as_chunks::<COLUMNS>().0);
        for (sums, left) in sums.as_chunks_mut::<COLUMNS>().0.iter_mut().zip(left).take(rows) {
            let terms = left.iter().zip(right).take(depth);
            *sums = match fused {
                true => terms.fold(*sums, |sums, (&a, b)| std::array::from_fn(|n| a.mul_add(b[n], sums[n]))),
                false => terms.fold(*sums, |sums, (&a, b)| std::array::from_fn(|n| a * b[n] + sums[n])),
            };
        }
        d.write(frame, present, &sums, round);
    })
}

/// `movmatrix.sync.aligned.m8n8.trans.b16 d, a`.
pub(super) fn transpose(it: &mut Lowering<'_, '_>) -> Lowered {
    for part in ["m8n8", "trans", "b16"] {
        it.require(part)?;
    }
    it.expect(2)?;
    let (d, a) = (it.target::<u32>()?, it.source::<u32>(1)?);
    aligned(it, move |frame, present| {
        let a = u32::get(frame, a);
        // row of the result is column of the source: lane 4·row + column / 2 holds two columns
        let element = |row: usize, column: usize| a[4 * row + column / 2] >> (16 * (column % 2) as u32) & 0xffff;
        let values = std::array::from_fn(|lane| {
            let (row, column) = (lane / 4, lane % 4 * 2);
            element(column, row) | element(column + 1, row) << 16
        });
        u32::set(frame, d, present, values);
    })
}
