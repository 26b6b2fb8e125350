//! A convolution whose descriptors have been checked.

use cudarc::cudnn::sys::cudnnMathType_t;

use crate::driver::library::Region;
use crate::vendor::{Dtype, Rounding};

/// The order of packed elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// Channels after batch.
    Nchw,
    /// Channels last.
    Nhwc,
}

/// Which gradient, or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pass {
    /// y of x and w.
    Forward,
    /// dx of dy and w.
    BackwardData,
    /// dw of x and dy.
    BackwardFilter,
}

/// How the filter moves along one axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Axis {
    pub stride: usize,
    pub pad: usize,
    pub dilation: usize,
}

/// Channels, height and width of one image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Image {
    pub channels: usize,
    pub height: usize,
    pub width: usize,
}

/// y (N, K, P, Q) = x (N, C, H, W) * w (K, C / groups, R, S), or a gradient of it.
#[derive(Clone, Copy, Debug)]
pub struct Problem {
    pub pass: Pass,
    pub dtype: Dtype,
    pub rounding: Rounding,
    /// What the convolution's descriptor asks for.
    pub math: cudnnMathType_t,
    pub x_layout: Layout,
    pub y_layout: Layout,
    pub w_layout: Layout,
    pub batch: usize,
    pub groups: usize,
    pub x: Image,
    pub y: Image,
    /// R, S.
    pub taps: [usize; 2],
    /// Height, width.
    pub axes: [Axis; 2],
}

impl Axis {
    /// Where the filter's `tap` reads for output `at`, of an input of `len`.
    pub fn source(self, at: usize, tap: usize, len: usize) -> Option<usize> {
        (at * self.stride + tap * self.dilation).checked_sub(self.pad).filter(|&source| source < len)
    }

    /// The output, of `len`, that reads input `at` through the filter's `tap`.
    pub fn target(self, at: usize, tap: usize, len: usize) -> Option<usize> {
        let distance = (at + self.pad).checked_sub(tap * self.dilation)?;
        (distance.is_multiple_of(self.stride)).then_some(distance / self.stride).filter(|&target| target < len)
    }
}

impl Image {
    /// Pixels.
    pub fn pixels(self) -> usize {
        self.height * self.width
    }

    /// Elements.
    pub fn len(self) -> usize {
        self.pixels() * self.channels
    }
}

impl Problem {
    /// Elements of the filter.
    pub fn filter_len(&self) -> usize {
        self.y.channels * (self.x.channels / self.groups) * self.taps[0] * self.taps[1]
    }

    /// The memory of x or dx.
    pub fn x_region(&self, address: u64) -> Region {
        self.region(address, self.batch * self.x.len())
    }

    /// The memory of y, dy or z.
    pub fn y_region(&self, address: u64) -> Region {
        self.region(address, self.batch * self.y.len())
    }

    /// The memory of w or dw.
    pub fn w_region(&self, address: u64) -> Region {
        self.region(address, self.filter_len())
    }

    /// The memory of the bias.
    pub fn bias_region(&self, address: u64) -> Region {
        self.region(address, self.y.channels)
    }

    fn region(&self, address: u64, len: usize) -> Region {
        let bytes = len as u64 * self.dtype.size();
        Region { address, rows: 1, row_bytes: bytes, pitch: bytes }
    }
}
