//! The windows of an image that filters are laid on, in memory where no window crosses the image's edge: the image
//! itself if none does, else a copy of some of its rows with zeros around them, small enough for the cache.

use std::ops::Range;

use crate::dtype::Storage;
use crate::{Device, Tensor};

/// One image (h, w, c).
#[derive(Clone, Copy)]
pub struct Image<'a, T> {
    pub pixels: &'a [T],
    pub h: usize,
    pub w: usize,
    pub c: usize,
}

/// Window (a, b) is laid at pixel (step a, step b) and reaches from `top`, `left` to `bottom`, `right` (inclusive) of it.
#[derive(Clone, Copy)]
pub struct Reach {
    pub step: usize,
    pub top: isize,
    pub left: isize,
    pub bottom: isize,
    pub right: isize,
}

impl Reach {
    /// The windows that see all taps (row, column), each `span` pixels wide.
    pub fn new(step: usize, taps: impl Iterator<Item = (isize, isize)> + Clone, span: usize) -> Self {
        let (rows, columns) = (taps.clone().map(|t| t.0), taps.map(|t| t.1));
        Reach {
            step,
            top: rows.clone().min().unwrap_or(0),
            left: columns.clone().min().unwrap_or(0),
            bottom: rows.max().unwrap_or(0),
            right: columns.max().unwrap_or(0) + span as isize - 1,
        }
    }

    /// Whether all of `a` x `b` windows lie inside an image.
    fn is_inside<T>(&self, image: &Image<T>, a: usize, b: usize) -> bool {
        let last = |n: usize, far: isize| (self.step * n.saturating_sub(1)) as isize + far;
        self.top >= 0
            && self.left >= 0
            && last(a, self.bottom) < image.h as isize
            && last(b, self.right) < image.w as isize
    }
}

/// Where windows lie in a piece of memory.
#[derive(Clone, Copy)]
pub struct Layout {
    reach: Reach,
    /// The image's row and column at element 0.
    row: isize,
    column: isize,
    /// Pixels in a row.
    width: usize,
    c: usize,
}

impl Layout {
    /// The element at the top left corner of window (a, b).
    pub fn corner(&self, a: usize, b: usize) -> usize {
        let row = (self.reach.step * a) as isize + self.reach.top - self.row;
        let column = (self.reach.step * b) as isize + self.reach.left - self.column;
        (row as usize * self.width + column as usize) * self.c
    }

    /// How many elements after the corner a tap lies.
    pub fn tap(&self, (row, column): (isize, isize)) -> usize {
        ((row - self.reach.top) as usize * self.width + (column - self.reach.left) as usize) * self.c
    }
}

/// The memory that windows are read from.
pub enum Windows<'a, T> {
    /// The image itself.
    Whole(&'a [T], Layout),
    /// Rows of it, with zeros around.
    Strip(Tensor, Layout),
}

impl<'a, T: Storage> Windows<'a, T> {
    /// Windows (a, b) of an image for a in `rows`, of a grid of `grid` windows.
    pub fn new(image: Image<'a, T>, reach: Reach, rows: Range<usize>, grid: (usize, usize)) -> Self {
        if reach.is_inside(&image, grid.0, grid.1) {
            return Windows::Whole(image.pixels, Layout { reach, row: 0, column: 0, width: image.w, c: image.c });
        }
        let last = |n: usize, far: isize| (reach.step * n.saturating_sub(1)) as isize + far;
        let row = (reach.step * rows.start) as isize + reach.top;
        let height = (last(rows.end, reach.bottom) - row + 1) as usize;
        let width = (last(grid.1, reach.right) - reach.left + 1) as usize;
        let mut strip = Tensor::empty(&[height, width, image.c], T::DTYPE, Device::Cpu);
        copy_rows(strip.as_mut_slice::<T>(), image, row, reach.left, width);
        Windows::Strip(strip, Layout { reach, row, column: reach.left, width, c: image.c })
    }

    pub fn memory(&self) -> (&[T], Layout) {
        match self {
            Windows::Whole(pixels, layout) => (pixels, *layout),
            Windows::Strip(strip, layout) => (strip.as_slice(), *layout),
        }
    }
}

/// Copies the part of an image that starts at (row, column) into a strip, zeros where there is no image.
fn copy_rows<T: Storage>(strip: &mut [T], image: Image<T>, row: isize, column: isize, width: usize) {
    let (c, zero) = (image.c, T::narrow(0.0));
    if image.w * c == 0 {
        return strip.fill(zero);
    }
    // Columns of the strip that the image covers.
    let start = (-column).clamp(0, width as isize) as usize;
    let end = (image.w as isize - column).clamp(start as isize, width as isize) as usize;
    let from = (start as isize + column) as usize * c;
    for (r, strip) in (row..).zip(strip.chunks_exact_mut(width * c)) {
        match usize::try_from(r).ok().and_then(|r| image.pixels.chunks_exact(image.w * c).nth(r)) {
            None => strip.fill(zero),
            Some(pixels) => {
                strip[..start * c].fill(zero);
                strip[start * c..end * c].copy_from_slice(&pixels[from..from + (end - start) * c]);
                strip[end * c..].fill(zero);
            }
        }
    }
}
