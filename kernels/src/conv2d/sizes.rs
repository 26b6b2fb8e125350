//! The sizes of a convolution, checked.

use super::ConvGeometry;

/// x (batch, h, w, i), filters (o, kh, kw, i), y (batch, oh, ow, o).
#[derive(Clone, Copy)]
pub struct Sizes {
    pub batch: usize,
    pub h: usize,
    pub w: usize,
    pub i: usize,
    pub o: usize,
    pub kh: usize,
    pub kw: usize,
    pub oh: usize,
    pub ow: usize,
    pub stride: usize,
    pub padding: usize,
    pub dilation: usize,
}

impl Sizes {
    #[track_caller]
    pub fn new(x: &[usize], filters: &[usize], geometry: ConvGeometry) -> Self {
        let ConvGeometry { stride, padding, dilation } = geometry;
        let (&[batch, h, w, i], &[o, kh, kw, wi]) = (x, filters) else {
            panic!("conv2d: x is {x:?}, w is {filters:?}; both have four axes")
        };
        assert_eq!(wi, i, "conv2d: last axis of w {filters:?} is {wi}, that of x {x:?} is {i}");
        let out = |size: usize, k: usize| {
            let reach = dilation * k.saturating_sub(1) + 1;
            assert!(
                k > 0 && size + 2 * padding >= reach,
                "conv2d: w {filters:?} does not fit x {x:?} with {geometry:?}"
            );
            (size + 2 * padding - reach) / stride + 1
        };
        Sizes { batch, h, w, i, o, kh, kw, oh: out(h, kh), ow: out(w, kw), stride, padding, dilation }
    }

    pub fn output_pixels(&self) -> usize {
        self.batch * self.oh * self.ow
    }

    /// Products a filter sums.
    pub fn depth(&self) -> usize {
        self.kh * self.kw * self.i
    }

    /// A pointwise convolution does not see where a row ends: the same sizes with images of one column.
    pub fn flattened(self) -> Self {
        let pointwise = self.kh == 1 && self.kw == 1 && self.stride == 1 && self.padding == 0;
        if !pointwise {
            return self;
        }
        let pixels = self.output_pixels();
        Sizes { batch: 1, h: pixels, w: 1, oh: pixels, ow: 1, ..self }
    }
}
