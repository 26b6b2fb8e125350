//! The tile of a product that stays in registers: 6 rows by up to 4 vectors of outputs, rows read where they lie.

use pulp::Simd;

use crate::panels::{GROUP, PANEL};
use crate::simd::prefetch;

/// Steps before a product's end from which on its epilogue's lines are fetched, one a step: as many as 6 x 4 vectors of y and
/// of the residual take, and some more.
const AHEAD: usize = 56;
/// Elements of a cache line.
const LINE: usize = 16;

/// V vectors of 6 rows.
pub type Tile<F, const V: usize> = [[F; V]; GROUP];

/// Vectors a row of a tile has at most: 16 registers hold 6 x 2 of them beside operands, 32 hold 6 x 4.
#[inline(always)]
pub const fn vectors_of_a_tile<S: Simd>() -> usize {
    if S::F32_LANES == 8 { 2 } else { 4 }
}

/// What tiles are products of: windows of x, and some vectors of a panel from the `lane`th on.
pub struct Factors<'a, F> {
    pub x: &'a [f32],
    pub taps: &'a [usize],
    pub run: usize,
    pub panel: &'a [F],
    pub lane: usize,
}

/// What is fetched during a product.
pub struct Fetch<'a> {
    /// Where the sums will go.
    pub y: &'a [f32],
    pub residual: Option<&'a [f32]>,
    /// First elements of the rows of both.
    pub at: &'a [usize; GROUP],
    /// The corners of the next windows.
    pub next: Option<&'a [usize; GROUP]>,
}

impl<F: Copy> Factors<'_, F> {
    /// sums plus the products of the windows with these corners.
    // Here and below loops, since closures of `array::from_fn` need not be inlined, and then the sums go through memory.
    #[inline(always)]
    pub fn add_products<S: Simd<f32s = F>, const V: usize>(
        &self,
        simd: S,
        mut sums: Tile<F, V>,
        corners: &[usize; GROUP],
        fetch: Fetch,
    ) -> Tile<F, V> {
        let steps = self.taps.len() * self.run;
        let mut ahead = steps.saturating_sub(AHEAD).wrapping_neg();
        let mut panel = self.panel;
        for &tap in self.taps {
            let mut windows: [&[f32]; GROUP] = [&[]; GROUP];
            for p in 0..GROUP {
                windows[p] = &self.x[corners[p] + tap..][..self.run];
            }
            let (filters, rest) = panel.split_at(self.run * (PANEL / S::F32_LANES));
            panel = rest;
            for (k, filters) in (0..self.run).zip(filters.chunks_exact(PANEL / S::F32_LANES)) {
                // What the epilogue reads and writes is fetched meanwhile, a line a step: all at once would keep the
                // panel's lines waiting.
                if ahead < GROUP * V {
                    prefetch(fetch.y, fetch.at[ahead / V] + ahead % V * S::F32_LANES);
                } else if let Some(residual) = fetch.residual
                    && ahead < 2 * GROUP * V
                {
                    prefetch(residual, fetch.at[ahead / V - GROUP] + ahead % V * S::F32_LANES);
                }
                ahead = ahead.wrapping_add(1);
                if let Some(next) = fetch.next
                    && k < self.run * GROUP / LINE
                {
                    prefetch(self.x, next[k % GROUP] + tap + k / GROUP * LINE);
                }
                let filters = &filters[self.lane..][..V];
                for p in 0..GROUP {
                    let value = simd.splat_f32s(windows[p][k]);
                    for v in 0..V {
                        sums[p][v] = simd.mul_add_e_f32s(value, filters[v], sums[p][v]);
                    }
                }
            }
        }
        sums
    }
}

/// The tile of rows of y that begin at `at`.
#[inline(always)]
pub fn load_tile<S: Simd, const V: usize>(simd: S, y: &[f32], at: &[usize; GROUP]) -> Tile<S::f32s, V> {
    let mut tile = [[simd.splat_f32s(0.0); V]; GROUP];
    for p in 0..GROUP {
        tile[p] = *vectors::<S, V>(&y[at[p]..]);
    }
    tile
}

/// sums plus the tile of rows of `addend` that begin at `at`.
#[inline(always)]
pub fn add_tile<S: Simd, const V: usize>(
    simd: S,
    mut sums: Tile<S::f32s, V>,
    addend: &[f32],
    at: &[usize; GROUP],
) -> Tile<S::f32s, V> {
    for p in 0..GROUP {
        let addend = vectors::<S, V>(&addend[at[p]..]);
        for v in 0..V {
            sums[p][v] = simd.add_f32s(sums[p][v], addend[v]);
        }
    }
    sums
}

/// Writes a tile to rows of y that begin at `at`.
#[inline(always)]
pub fn store_tile<S: Simd, const V: usize>(y: &mut [f32], at: &[usize; GROUP], tile: &Tile<S::f32s, V>) {
    for p in 0..GROUP {
        let (row, _) = S::as_mut_simd_f32s(&mut y[at[p]..][..V * S::F32_LANES]);
        row.copy_from_slice(&tile[p]);
    }
}

/// max(x, 0) of a tile.
#[inline(always)]
pub fn rectify<S: Simd, const V: usize>(simd: S, mut tile: Tile<S::f32s, V>) -> Tile<S::f32s, V> {
    for row in &mut tile {
        for v in row {
            *v = relu(simd, *v);
        }
    }
    tile
}

/// The first V vectors of a row.
#[inline(always)]
pub fn vectors<S: Simd, const V: usize>(row: &[f32]) -> &[S::f32s; V] {
    S::as_simd_f32s(&row[..V * S::F32_LANES]).0.first_chunk().expect("V vectors")
}

/// max(x, 0), NaN where x is.
#[inline(always)]
pub fn relu<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    let zero = simd.splat_f32s(0.0);
    simd.select_f32s(simd.less_than_f32s(x, zero), zero, x)
}
