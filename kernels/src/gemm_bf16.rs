//! Products of bfloat16 on the CPU by AVX512-BF16, which multiplies pairs of factors exactly and adds them to sums in f32,
//! twice as many at once as of f32. A sum is rounded once, behind bias, residual and activation. Subnormal factors and
//! sums count as zero.
#![cfg_attr(not(target_arch = "x86_64"), expect(dead_code, reason = "only x86-64 has these instructions"))]

use std::ops::Range;

use half::bf16;
use rayon::prelude::*;

use crate::activation::Activation;
use crate::gemm::Columns;
use crate::panels::{PANEL, task_rows};
use crate::simd::{self, Level};
use crate::{DType, Device, Tensor};

/// Whether this process has the instructions.
pub fn is_available() -> bool {
    simd::level() == Level::Avx512Bf16
}

/// A right factor (outputs, depth), transposed, in the order in which products read it: panels of 64 outputs, (panels,
/// depth / 2, 64, 2), zeros behind the last.
pub struct Panels {
    elements: Tensor,
    outputs: usize,
    depth: usize,
}

impl Panels {
    /// `row` writes the elements of an output; `depth` is even.
    #[track_caller]
    pub fn new(outputs: usize, depth: usize, row: impl Fn(usize, &mut [bf16]) + Sync) -> Self {
        assert!(depth.is_multiple_of(2), "gemm_bf16: a depth of {depth} is not one of pairs");
        let shape = [outputs.div_ceil(PANEL), depth / 2, PANEL, 2];
        let mut elements = Tensor::empty(&shape, DType::BF16, Device::Cpu);
        let panels = elements.as_mut_slice::<bf16>().par_chunks_mut((depth * PANEL).max(1));
        panels.enumerate().for_each(|(panel, elements)| {
            let pairs: &mut [[bf16; 2]] = bytemuck::cast_slice_mut(elements);
            let mut values = vec![bf16::ZERO; depth];
            for j in 0..PANEL {
                match panel * PANEL + j {
                    output if output < outputs => row(output, &mut values),
                    _ => values.fill(bf16::ZERO),
                }
                for (pairs, value) in pairs.chunks_exact_mut(PANEL).zip(values.as_chunks().0) {
                    pairs[j] = *value;
                }
            }
        });
        Panels { elements, outputs, depth }
    }
}

/// A left factor: row r is what lies in x at each tap from corner r on, `run` elements, an even number, one tap after the
/// other.
pub struct Rows<'a> {
    pub x: &'a [bf16],
    pub corners: &'a [usize],
    pub taps: &'a [usize],
    pub run: usize,
}

/// What happens to sums.
#[derive(Clone, Copy)]
pub struct Epilogue<'a> {
    /// A value an output.
    pub bias: Option<&'a [f32]>,
    /// As the product.
    pub residual: Option<&'a [bf16]>,
    pub activation: Activation,
}

/// y (rows, outputs) = act(rows panels + bias + residual), on the calling thread.
#[track_caller]
pub fn product(y: &mut [bf16], rows: &Rows, panels: &Panels, epilogue: Epilogue) {
    assert_eq!(y.len(), rows.corners.len() * panels.outputs, "gemm_bf16: output size");
    let all = 0..panels.outputs.div_ceil(PANEL);
    // SAFETY: y has this size, and is borrowed for writing.
    unsafe { columns(y.as_mut_ptr(), rows, panels, epilogue, all) }
}

/// [`product`] of rows that lie in x without gaps, over threads. The split depends on sizes only.
#[track_caller]
pub fn product_of_matrix(y: &mut [bf16], x: &[bf16], panels: &Panels, epilogue: Epilogue) {
    let (depth, outputs) = (panels.depth, panels.outputs);
    if y.is_empty() {
        return;
    }
    let n = y.len() / outputs;
    assert!(y.len() == n * outputs && x.len() == n * depth, "gemm_bf16: {} rows of {}", y.len(), x.len());
    let corners: Vec<usize> = (0..n).map(|row| row * depth).collect();
    let rows = Rows { x, corners: &corners, taps: &[0], run: depth };
    let count = task_rows(n, depth * size_of::<bf16>());
    if n >= 4 * count {
        return y.par_chunks_mut(count * outputs).with_max_len(1).enumerate().for_each(|(task, y)| {
            let first = task * count;
            let rows = Rows { corners: &corners[first..][..y.len() / outputs], ..rows };
            let residual = epilogue.residual.map(|r| &r[first * outputs..][..y.len()]);
            product(y, &rows, panels, Epilogue { residual, ..epilogue });
        });
    }
    let y = Columns(y.as_mut_ptr());
    (0..outputs.div_ceil(PANEL)).into_par_iter().with_max_len(1).for_each(|panel| {
        // SAFETY: y has the size of all panels; it is borrowed for writing, and tasks own distinct panels.
        unsafe { columns(y.at(0), &rows, panels, epilogue, panel..panel + 1) }
    });
}

/// The columns of some panels of [`product`].
///
/// # Safety
///
/// The product has room at `y`, and nobody else reads or writes those columns meanwhile.
#[track_caller]
unsafe fn columns(y: *mut bf16, rows: &Rows, panels: &Panels, epilogue: Epilogue, range: Range<usize>) {
    let Rows { x, corners, taps, run } = *rows;
    let last = |offsets: &[usize]| offsets.iter().max().copied();
    let is_inside = match (last(corners), last(taps)) {
        (Some(corner), Some(tap)) => corner + tap + run <= x.len(),
        _ => true,
    };
    assert!(is_inside && run.is_multiple_of(2), "gemm_bf16: runs of {run} do not lie in {}", x.len());
    assert_eq!(taps.len() * run, panels.depth, "gemm_bf16: inner sizes");
    assert!(range.end <= panels.outputs.div_ceil(PANEL), "gemm_bf16: panels {range:?} of {}", panels.outputs);
    assert!(epilogue.bias.is_none_or(|b| b.len() == panels.outputs), "gemm_bf16: bias");
    assert!(epilogue.residual.is_none_or(|r| r.len() == corners.len() * panels.outputs), "gemm_bf16: residual");
    assert!(is_available(), "gemm_bf16: these instructions are missing or turned off");
    #[cfg(target_arch = "x86_64")]
    // SAFETY: the level says that the instructions are there. The assertions keep windows in x, the rest in bounds; the
    // caller speaks for y.
    unsafe {
        avx512::Task { y, rows, panels, epilogue }.run(range);
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = y;
}

#[cfg(target_arch = "x86_64")]
mod avx512 {
    use std::arch::x86_64::*;
    use std::mem::transmute;
    use std::ops::Range;

    use half::bf16;

    use super::{Epilogue, PANEL, Panels, Rows};
    use crate::activation::Activation;
    use crate::panels::GROUP;

    /// Elements of a vector of sums.
    const LANES: usize = 16;
    /// Elements of a cache line.
    const LINE: usize = 32;
    /// Elements of panels that stay in the second-level cache.
    const CACHED_ELEMENTS: usize = 192 * 1024;

    pub struct Task<'a> {
        pub y: *mut bf16,
        pub rows: &'a Rows<'a>,
        pub panels: &'a Panels,
        pub epilogue: Epilogue<'a>,
    }

    #[inline(always)]
    fn pairs(vector: __m512i) -> __m512bh {
        // SAFETY: both are 64 bytes.
        unsafe { transmute(vector) }
    }

    impl Task<'_> {
        /// # Safety
        ///
        /// As for [`super::columns`], whose assertions hold.
        #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
        pub unsafe fn run(&self, range: Range<usize>) {
            let n = self.rows.corners.len();
            // If all panels stay in cache, rows go by in memory's order; else each panel is used for all rows.
            let at_once = if self.panels.depth * PANEL * range.len() <= CACHED_ELEMENTS { GROUP } else { n };
            for first in (0..n).step_by(at_once.max(1)) {
                for panel in range.clone() {
                    let end = n.min(first + at_once);
                    for row in (first..end).step_by(GROUP) {
                        let group = row..end.min(row + GROUP);
                        // SAFETY: rows and panels are in range.
                        unsafe {
                            match (self.panels.outputs - panel * PANEL).div_ceil(LANES) {
                                1 => self.tile::<1>(group, panel),
                                2 => self.tile::<2>(group, panel),
                                3 => self.tile::<3>(group, panel),
                                _ => self.tile::<4>(group, panel),
                            }
                        }
                    }
                }
            }
        }

        /// Up to 6 rows, V vectors of a panel's outputs.
        ///
        /// # Safety
        ///
        /// As for [`Self::run`]; the rows and the panel exist.
        #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
        unsafe fn tile<const V: usize>(&self, group: Range<usize>, panel: usize) {
            let Rows { x, corners, taps, run } = *self.rows;
            let outputs = self.panels.outputs;
            let first = panel * PANEL;
            let mut masks: [__mmask16; V] = [0; V];
            let mut start = [_mm512_setzero_ps(); V];
            for v in 0..V {
                let lanes = (outputs - first - v * LANES).min(LANES);
                masks[v] = ((1u32 << lanes) - 1) as __mmask16;
                if let Some(bias) = self.epilogue.bias {
                    // SAFETY: the mask ends where the bias does.
                    start[v] = unsafe { _mm512_maskz_loadu_ps(masks[v], bias.as_ptr().add(first + v * LANES)) };
                }
            }
            let mut sums = [start; GROUP];
            // The last tile may have rows that are computed again, and not stored.
            let mut windows = [x.as_ptr(); GROUP];
            for (p, window) in windows.iter_mut().enumerate() {
                *window = x.as_ptr().wrapping_add(corners[(group.start + p).min(group.end - 1)]);
            }
            // What the epilogue reads and writes is fetched meanwhile, a line a step: all at once would keep the panel's lines
            // waiting.
            let places = |address: *const bf16| {
                std::array::from_fn::<_, GROUP, _>(|p| {
                    let row = (group.start + p).min(group.end - 1);
                    [0, LINE].map(|part| address.wrapping_add(row * outputs + first + part))
                })
            };
            let y = places(self.y);
            let lines = [y, self.epilogue.residual.map_or(y, |residual| places(residual.as_ptr()))];
            let mut lines = lines.as_flattened().as_flattened().iter();
            let elements: &[bf16] = self.panels.elements.as_slice();
            let mut filter = elements[panel * self.panels.depth * PANEL..].as_ptr();
            for &tap in taps {
                for at in (0..run).step_by(2) {
                    if let Some(line) = lines.next() {
                        _mm_prefetch::<_MM_HINT_T0>(line.cast());
                    }
                    let mut filters = [_mm512_setzero_si512(); V];
                    for (v, vector) in filters.iter_mut().enumerate() {
                        // SAFETY: a panel holds depth / 2 rows of 64 pairs.
                        *vector = unsafe { _mm512_loadu_si512(filter.add(v * 2 * LANES).cast()) };
                    }
                    filter = filter.wrapping_add(2 * PANEL);
                    for p in 0..GROUP {
                        // SAFETY: the run of the tap lies within x.
                        let pair = unsafe { windows[p].add(tap + at).cast::<i32>().read_unaligned() };
                        let pair = _mm512_set1_epi32(pair);
                        for v in 0..V {
                            sums[p][v] = _mm512_dpbf16_ps(sums[p][v], pairs(pair), pairs(filters[v]));
                        }
                    }
                }
            }
            let tile = sums; // in memory, while the sums above are in registers
            for (row, sums) in group.zip(&tile) {
                // SAFETY: the row is one of y and of the residual.
                unsafe { self.finish(row * outputs + first, *sums, masks) }
            }
        }

        /// The epilogue of a row of a tile, whose first element is `at`.
        ///
        /// # Safety
        ///
        /// From `at` on there are as many elements of y as bits in the masks.
        #[inline]
        #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
        unsafe fn finish<const V: usize>(&self, at: usize, mut sums: [__m512; V], masks: [__mmask16; V]) {
            if let Some(residual) = self.epilogue.residual {
                for v in 0..V {
                    let place = residual.as_ptr().wrapping_add(at + v * LANES);
                    // SAFETY: the residual is as long as y.
                    let half = unsafe { _mm256_maskz_loadu_epi16(masks[v], place.cast()) };
                    let wide = _mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(half));
                    sums[v] = _mm512_add_ps(sums[v], _mm512_castsi512_ps(wide));
                }
            }
            match self.epilogue.activation {
                Activation::None => {}
                Activation::Relu => {
                    for sum in &mut sums {
                        *sum = _mm512_max_ps(_mm512_setzero_ps(), *sum); // NaN where the sum is
                    }
                }
                other => {
                    let mut values = [[0.0f32; LANES]; V];
                    for v in 0..V {
                        // SAFETY: so many elements are there.
                        unsafe { _mm512_storeu_ps(values[v].as_mut_ptr(), sums[v]) };
                    }
                    other.apply(values.as_flattened_mut());
                    for v in 0..V {
                        // SAFETY: as above.
                        sums[v] = unsafe { _mm512_loadu_ps(values[v].as_ptr()) };
                    }
                }
            }
            for v in 0..V {
                // SAFETY: both are 32 bytes; the mask ends where the row of y does.
                unsafe {
                    let rounded = transmute::<__m256bh, __m256i>(_mm512_cvtneps_pbh(sums[v]));
                    let place = self.y.add(at + v * LANES);
                    match masks[v] {
                        __mmask16::MAX => _mm256_storeu_si256(place.cast(), rounded),
                        mask => _mm256_mask_storeu_epi16(place.cast(), mask, rounded),
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::philox::Philox;

    fn values(n: usize, stream: u64) -> Vec<bf16> {
        (0..n as u64).map(|i| bf16::from_f64(Philox { seed: 1, stream }.normal(i))).collect()
    }

    /// Ragged tiles, panels and vectors, windows with gaps, every part of the epilogue: against sums in f64.
    #[test]
    fn products_are_sums_rounded_once() {
        if !is_available() {
            return;
        }
        for (n, outputs, taps, run, activation) in [
            (1, 1, 1, 2, Activation::None),
            (7, 64, 3, 10, Activation::Relu),
            (13, 100, 2, 64, Activation::Gelu),
            (300, 17, 1, 34, Activation::None),
            (50, 3072, 1, 256, Activation::Relu),
            (3, 5, 0, 2, Activation::None),
        ] {
            let depth = taps * run;
            let w = values(outputs * depth, 1);
            let panels = Panels::new(outputs, depth, |o, row| row.copy_from_slice(&w[o * depth..][..depth]));
            let bias: Vec<f32> = values(outputs, 2).iter().map(|v| v.to_f32()).collect();
            let residual = values(n * outputs, 3);
            let (corners, taps): (Vec<usize>, Vec<usize>) =
                ((0..n).map(|r| r * 6).collect(), (0..taps).map(|t| t * (run + 4)).collect());
            let x = values(6 * n + taps.len() * (run + 4) + run, 4);
            let mut y = vec![bf16::NAN; n * outputs];
            let rows = Rows { x: &x, corners: &corners, taps: &taps, run };
            product(&mut y, &rows, &panels, Epilogue { bias: Some(&bias), residual: Some(&residual), activation });
            for (at, y) in y.iter().enumerate() {
                let (row, output) = (at / outputs, at % outputs);
                let window = taps.iter().flat_map(|tap| &x[corners[row] + tap..][..run]);
                let terms = window.zip(&w[output * depth..]).map(|(x, w)| x.to_f64() * w.to_f64());
                let sum = terms.sum::<f64>() + f64::from(bias[output]) + residual[at].to_f64();
                let want = activation.forward(sum);
                let allowed = 0.00391 * want.abs() + 1e-5 * (depth as f64).sqrt().max(1.0);
                assert!((y.to_f64() - want).abs() <= allowed, "{n} x {outputs} x {depth}: {y} of {want} at {at}");
            }
        }
    }

    /// The same bits whether a task has some rows or some panels.
    #[test]
    fn rows_without_gaps() {
        if !is_available() {
            return;
        }
        for (n, outputs, depth) in [(0, 3, 2), (22, 200, 64), (400, 70, 32), (1000, 64, 2)] {
            let (x, w) = (values(n * depth, 1), values(outputs * depth, 2));
            let panels = Panels::new(outputs, depth, |o, row| row.copy_from_slice(&w[o * depth..][..depth]));
            let residual = values(n * outputs, 3);
            let epilogue = Epilogue { bias: None, residual: Some(&residual), activation: Activation::None };
            let (mut y, mut want) = (vec![bf16::NAN; n * outputs], vec![bf16::NAN; n * outputs]);
            product_of_matrix(&mut y, &x, &panels, epilogue);
            let corners: Vec<usize> = (0..n).map(|r| r * depth).collect();
            product(&mut want, &Rows { x: &x, corners: &corners, taps: &[0], run: depth }, &panels, epilogue);
            assert_eq!(y, want, "{n} x {outputs} x {depth}");
        }
    }
}
