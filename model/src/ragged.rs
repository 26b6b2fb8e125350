//! How a batch of images and captions lies in packed token tensors.
//!
//! Images are padded for the convolutions only. From the encoder on, the sequence of image b is its valid image tokens
//! (row-major), its valid text tokens, then the text padding: a query, since the published contrastive loss sees it, but
//! never a key.

use std::sync::Arc;

use mdetr_kernels::{Device, Segment, Segments, Tensor};

use crate::batch::Packing;

/// The layout of one batch.
#[derive(Clone, Debug)]
pub struct Layout {
    /// Valid (height, width) of each image's feature map.
    pub sizes: Arc<[[usize; 2]]>,
    /// Height and width of the padded feature map.
    pub grid: [usize; 2],
    /// Tokens of every caption, padding included.
    pub text_len: usize,
    /// Valid tokens of each caption.
    pub text_counts: Vec<usize>,
    /// First row of each image's sequence, and the total at the end.
    starts: Vec<usize>,
    packing: Packing,
    device: Device,
}

impl Layout {
    /// Feature maps of valid `sizes` inside a padded `grid`, captions of `text_counts` tokens padded to `text_len`.
    /// Indices lie on `device`.
    #[track_caller]
    pub fn new(
        sizes: &[[usize; 2]],
        grid: [usize; 2],
        text_counts: &[usize],
        text_len: usize,
        packing: Packing,
        device: Device,
    ) -> Self {
        assert_eq!(sizes.len(), text_counts.len(), "layout: one caption an image");
        let mut starts = vec![0];
        for &[h, w] in sizes {
            starts.push(starts[starts.len() - 1] + h * w + text_len);
        }
        Layout { sizes: sizes.into(), grid, text_len, text_counts: text_counts.to_vec(), starts, packing, device }
    }

    /// Number of images.
    pub fn images(&self) -> usize {
        self.sizes.len()
    }

    /// Rows of the packed tensor.
    pub fn rows(&self) -> usize {
        let tokens = self.starts[self.images()];
        match self.packing {
            Packing::Exact => tokens,
            Packing::Bucket => tokens.next_multiple_of((self.images() * self.longest()).div_ceil(8).max(1)),
        }
    }

    /// Rows of a tensor that holds the valid image tokens only.
    pub fn cells(&self) -> usize {
        match self.packing {
            Packing::Exact => (0..self.images()).map(|b| self.image_tokens(b)).sum(),
            Packing::Bucket => self.images() * self.grid[0] * self.grid[1],
        }
    }

    /// Rows of a sequence whose image fills the grid.
    fn longest(&self) -> usize {
        self.grid[0] * self.grid[1] + self.text_len
    }

    fn image_tokens(&self, b: usize) -> usize {
        self.sizes[b][0] * self.sizes[b][1]
    }

    fn index(&self, of: impl Fn(usize, &mut Vec<i32>)) -> Vec<i32> {
        let mut index = Vec::with_capacity(self.rows());
        (0..self.images()).for_each(|b| of(b, &mut index));
        index
    }

    fn tensor(&self, index: &[i32]) -> Tensor {
        Tensor::from_slice(index, &[index.len()], self.device)
    }

    /// For each packed row what `of` says of the image's, -1 behind the last.
    fn packed_index(&self, of: impl Fn(usize, &mut Vec<i32>)) -> Tensor {
        let mut index = self.index(of);
        index.resize(self.rows(), -1);
        self.tensor(&index)
    }

    /// For each packed row, the row of the concatenation of (image grid (B*H*W), text (B*T)); -1 for a bucket's tail.
    pub fn pack_index(&self) -> Tensor {
        let grid_rows = self.images() * self.grid[0] * self.grid[1];
        self.packed_index(|b, index| {
            let [h, w] = self.sizes[b];
            for y in 0..h {
                index.extend((0..w).map(|x| ((b * self.grid[0] + y) * self.grid[1] + x) as i32));
            }
            index.extend((0..self.text_len).map(|t| (grid_rows + b * self.text_len + t) as i32));
        })
    }

    /// For each packed row, the row of a tensor that holds the valid image tokens only; -1 for text and a bucket's tail.
    pub fn position_index(&self) -> Tensor {
        let mut next = 0;
        let starts: Vec<i32> = (0..self.images())
            .map(|b| {
                next += self.image_tokens(b) as i32;
                next - self.image_tokens(b) as i32
            })
            .collect();
        self.packed_index(|b, index| {
            index.extend((0..self.image_tokens(b) as i32).map(|i| starts[b] + i));
            index.extend(std::iter::repeat_n(-1, self.text_len));
        })
    }

    /// For each row of a (B*T) text tensor, its packed row.
    pub fn text_index(&self) -> Tensor {
        let index = self.index(|b, index| {
            let first = self.starts[b] + self.image_tokens(b);
            index.extend((0..self.text_len).map(|t| (first + t) as i32));
        });
        self.tensor(&index)
    }

    /// For each position of a padded (B*H*W) grid, its row of `rows`, a tensor of valid image tokens only or the packed
    /// one; -1 for padding.
    pub fn unpack_index(&self, packed: bool) -> Tensor {
        let mut first = 0;
        let mut index = Vec::new();
        for b in 0..self.images() {
            let [h, w] = self.sizes[b];
            let start = if packed { self.starts[b] } else { first };
            for y in 0..self.grid[0] {
                let row = |x| if y < h && x < w { (start + y * w + x) as i32 } else { -1 };
                index.extend((0..self.grid[1]).map(row));
            }
            first += h * w;
        }
        self.tensor(&index)
    }

    fn valid_keys(&self, b: usize) -> usize {
        self.image_tokens(b) + self.text_counts[b]
    }

    /// The encoder's self-attention.
    pub fn encoder_segments(&self) -> Segments {
        let segment = |b: usize| Segment {
            query: self.starts[b],
            queries: self.starts[b + 1] - self.starts[b],
            key: self.starts[b],
            keys: self.valid_keys(b),
        };
        self.bounded((0..self.images()).map(segment).collect(), self.longest())
    }

    /// The decoder's attention to the encoder's output, `queries` rows an image.
    pub fn cross_segments(&self, queries: usize) -> Segments {
        let segment =
            |b: usize| Segment { query: b * queries, queries, key: self.starts[b], keys: self.valid_keys(b) };
        self.bounded((0..self.images()).map(segment).collect(), queries)
    }

    /// Of a bucket: what any of its batches may have.
    fn bounded(&self, segments: Segments, queries: usize) -> Segments {
        match self.packing {
            Packing::Exact => segments,
            Packing::Bucket => segments.within(queries, self.longest()),
        }
    }
}

/// Self-attention within equal groups of `rows` rows, of which `valid[b]` are keys.
pub fn dense_segments(rows: usize, valid: impl Iterator<Item = usize>) -> Segments {
    valid.enumerate().map(|(b, keys)| Segment { query: b * rows, queries: rows, key: b * rows, keys }).collect()
}

/// Valid cells of a feature map of `cells` over a padded side of `padded` pixels of which `valid` are the image's: the
/// padding mask shrunk by nearest neighbour, as published.
pub fn valid_cells(valid: usize, padded: usize, cells: usize) -> usize {
    let scale = padded as f32 / cells as f32; // PyTorch computes source indices in f32
    (0..cells).filter(|&i| ((i as f32 * scale) as usize).min(padded - 1) < valid).count()
}
