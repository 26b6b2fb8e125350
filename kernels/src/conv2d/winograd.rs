//! 3 x 3 filters by Winograd's minimal filtering F(4 x 4, 3 x 3) (Lavin & Gray, 2015, arXiv 1509.09308): 36 products
//! make a tile of 16 pixels, where the sums over 9 taps take 144. At a stride of 2 it is 81.
//!
//! ```text
//! y = A^T [sum over i of (G g G^T) * (B^T d B)] A    for tiles d of 6 x 6 pixels, 4 apart (of 9 x 9, 8 apart)
//! ```
//!
//! For each transformed filter the sum over channels is a matrix product, tiles by channels. A value that is not finite
//! reaches all pixels of its tile. Rounding errors are about twice those of the sums over taps, at a stride of 2 1.2 times.

use std::marker::PhantomData;
use std::ops::Range;

use rayon::prelude::*;

use super::correlate::Extent;
use super::sizes::Sizes;
use super::winograd_schemes::{Adjacent, Scheme, Strided};
use super::winograd_transforms::{Filters, Input, Output, POINTS};
use crate::dtype::Storage;
use crate::gemm_packed::{Epilogue, Product, Start};
use crate::panels::{GROUP, PANEL};
use crate::simd::{LANES, dispatch};
use crate::{DType, Device, Tensor};

/// Rows and columns of y that a tile makes.
pub const SIDE: usize = 4;
/// Points of the tiles that are multiplied while filters are in cache: with 36 a tile, all tiles of a ResNet's last stage
/// (from a third of that to more take about the same time).
const BLOCK: usize = 72 * 36;
/// Tiles that one task transforms.
const TRANSFORMED: usize = 8;

/// Whether a convolution takes clearly less time this way: a third to a half of it in all that were measured. With fewer
/// channels the tiles' transforms take what the products save; with fewer pixels the transformed filters do, four times
/// as large as the filters (both ways are equal near 150 pixels); and of smaller images tiles would be mostly empty.
pub fn pays(s: &Sizes) -> bool {
    s.stride == 1 && suits(s)
}

/// The same at a stride of 2, where three quarters of the time remain: for filters that stay, and are transformed once.
pub fn pays_strided(s: &Sizes) -> bool {
    s.stride == 2 && suits(s)
}

fn suits(s: &Sizes) -> bool {
    let filters = s.kh == 3 && s.kw == 3 && s.dilation == 1;
    let channels = s.i.is_multiple_of(LANES) && s.o.is_multiple_of(LANES) && s.i.min(s.o) >= 32;
    filters && channels && s.output_pixels() >= 512 && s.oh.min(s.ow) >= 6
}

/// Where tiles lie.
#[derive(Clone, Copy)]
pub struct Tiling {
    /// Rows of tiles in an image.
    rows: usize,
    /// Tiles in such a row.
    columns: usize,
    /// Rows and columns of x from a pixel of y to the next, 1 or 2.
    pub stride: usize,
    /// Rows and columns by which a tile of x begins before the first pixel's own.
    pub padding: isize,
}

impl Tiling {
    /// Tiles that cover images of `out`.
    pub fn new(out: Extent, stride: usize, padding: isize) -> Self {
        Tiling { rows: out.h.div_ceil(SIDE), columns: out.w.div_ceil(SIDE), stride, padding }
    }

    /// Tiles of an image.
    pub fn tiles(&self) -> usize {
        self.rows * self.columns
    }

    /// (image, row, column) of a tile's first pixel in y.
    pub fn corner(&self, tile: usize) -> (usize, usize, usize) {
        let (row, column) = (tile / self.columns, tile % self.columns);
        (row / self.rows, row % self.rows * SIDE, column * SIDE)
    }
}

/// Filters (panels, 36, c, 64) for a stride, from packed ones (panels, 3, 3, c, 64).
pub fn transformed(panels: &Tensor, stride: usize) -> Tensor {
    match stride {
        1 => transformed_for(Adjacent, panels),
        2 => transformed_for(Strided, panels),
        _ => unreachable!("no scheme has a stride of {stride}"),
    }
}

fn transformed_for<K: Scheme<N>, const N: usize>(scheme: K, panels: &Tensor) -> Tensor {
    let depth = panels.shape()[1] / 9;
    let mut filters = Tensor::empty(&[panels.shape()[0], POINTS, depth, PANEL], DType::F32, Device::Cpu);
    let panels: &[f32] = panels.as_slice();
    filters
        .as_mut_slice()
        .par_chunks_mut(POINTS * depth * PANEL)
        .zip(panels.par_chunks(9 * depth * PANEL))
        .for_each(|(u, panel)| dispatch(Filters { scheme, u, panel }));
    filters
}

/// y (batch of `out`) from x (batch of `input`), with zeros around it, and filters [`transformed`] for that stride; channels
/// in multiples of 16.
pub fn correlate<T: Storage>(
    y: &mut [T],
    x: &[T],
    out: Extent,
    input: Extent,
    tiling: Tiling,
    filters: &Tensor,
    epilogue: Epilogue<T>,
) {
    let filtering = Filtering { out, input, tiling, filters: filters.as_slice(), epilogue };
    match tiling.stride {
        1 => filtering.run(Adjacent, y, x),
        2 => filtering.run(Strided, y, x),
        stride => unreachable!("no scheme has a stride of {stride}"),
    }
}

struct Filtering<'a, T> {
    out: Extent,
    input: Extent,
    tiling: Tiling,
    filters: &'a [f32],
    epilogue: Epilogue<'a, T>,
}

impl<T: Storage> Filtering<'_, T> {
    fn run<K: Scheme<N>, const N: usize>(&self, scheme: K, y: &mut [T], x: &[T]) {
        let &Filtering { out: extent, input, tiling, filters, epilogue } = self;
        let tiles = y.len() / (extent.h * extent.w * extent.c) * tiling.tiles();
        let y = Pixels::new(y);
        let at_once = BLOCK / (N * N) / GROUP * GROUP;
        (0..tiles.div_ceil(at_once)).into_par_iter().with_max_len(1).for_each(|block| {
            let tiles = block * at_once..tiles.min((block + 1) * at_once);
            let v = input_tiles(scheme, x, input, tiles.clone(), tiling);
            filters.par_chunks(POINTS * input.c * PANEL).with_max_len(1).enumerate().for_each(|(panel, filters)| {
                let first = panel * PANEL;
                let width = PANEL.min(extent.c - first);
                let mut m = Tensor::empty(&[tiles.len(), N * N, width], DType::F32, Device::Cpu);
                products(scheme, m.as_mut_slice(), v.as_slice(), filters, width, input.c);
                let (y, m, tiles) = (&y, m.as_slice(), tiles.clone());
                dispatch(Output { scheme, y, m, extent, first, width, tiles, tiling, epilogue });
            });
        });
    }
}

/// Elements from one point of a tile of v to the next: c and some more if multiples of c would meet in few sets of the
/// first-level cache.
pub fn point_stride(c: usize) -> usize {
    if c.is_multiple_of(128) { c + LANES } else { c }
}

/// v (tiles, N * N, [`point_stride`]) of some tiles of images of `input`.
pub fn input_tiles<T: Storage, K: Scheme<N>, const N: usize>(
    scheme: K,
    x: &[T],
    input: Extent,
    tiles: Range<usize>,
    tiling: Tiling,
) -> Tensor {
    let tile = N * N * point_stride(input.c);
    let mut v = Tensor::empty(&[tiles.len(), tile], DType::F32, Device::Cpu);
    v.as_mut_slice().par_chunks_mut(TRANSFORMED * tile).with_max_len(1).enumerate().for_each(|(i, v)| {
        let first = tiles.start + i * TRANSFORMED;
        let tiles = first..tiles.end.min(first + TRANSFORMED);
        dispatch(Input { scheme, v, x, extent: input, tiles, tiling });
    });
    v
}

/// m (tiles, N * N, width) = v (tiles, N * N, [`point_stride`]) times a panel of filters (36, c, 64), each with its points.
fn products<K: Scheme<N>, const N: usize>(
    scheme: K,
    m: &mut [f32],
    v: &[f32],
    filters: &[f32],
    width: usize,
    c: usize,
) {
    let (tiles, stride) = (m.len() / (N * N * width), point_stride(c));
    for (filter, panels) in filters.chunks_exact(c * PANEL).enumerate() {
        let is_its = |point: &usize| (scheme.factor(point / N), scheme.factor(point % N)) == (filter / 6, filter % 6);
        let points: Vec<usize> = (0..N * N).filter(is_its).collect();
        let rows = (0..tiles).flat_map(|tile| points.iter().map(move |point| tile * N * N + point));
        let places: Vec<(usize, usize)> = rows.map(|row| (row * stride, row * width)).collect();
        dispatch(Product {
            y: m,
            outputs: width,
            x: v,
            panels,
            sums: None,
            places: &places,
            taps: &[0],
            run: c,
            epilogue: Epilogue { start: Start::Zero, residual: None, relu: false },
        });
    }
}

/// An image that several tasks write, each its own tiles and channels.
pub struct Pixels<'a, T> {
    first: *mut T,
    len: usize,
    borrowed: PhantomData<&'a mut [T]>,
}

// SAFETY: `slice` asks its callers for distinct elements.
unsafe impl<T: Storage> Sync for Pixels<'_, T> {}

impl<'a, T> Pixels<'a, T> {
    fn new(y: &'a mut [T]) -> Self {
        Pixels { first: y.as_mut_ptr(), len: y.len(), borrowed: PhantomData }
    }

    /// Elements `start..start + len`.
    ///
    /// # Safety
    ///
    /// Nobody else holds any of them meanwhile.
    #[inline(always)]
    #[expect(clippy::mut_from_ref, reason = "callers take distinct elements")]
    pub unsafe fn slice(&self, start: usize, len: usize) -> &mut [T] {
        assert!(start + len <= self.len);
        // SAFETY: in bounds by the assertion; borrowed for writing by `new`, and nobody else holds these elements.
        unsafe { std::slice::from_raw_parts_mut(self.first.add(start), len) }
    }
}
