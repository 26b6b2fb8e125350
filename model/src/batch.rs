//! What the loader makes and the model sees.

use mdetr_kernels::Tensor;

/// Images and captions.
#[derive(Clone, Debug)]
pub struct Batch {
    /// (B, H, W, 3), normalized, zero-padded at the bottom and the right to the batch maximum.
    pub images: Tensor,
    /// Valid (height, width) of each image in pixels.
    pub image_sizes: Vec<[usize; 2]>,
    /// Captions.
    pub text: Text,
}

/// Captions as token ids.
#[derive(Clone, Debug)]
pub struct Text {
    /// (B, T) i32, padded behind.
    pub ids: Tensor,
    /// Valid tokens of each caption.
    pub counts: Vec<usize>,
}

/// What the images hold, all targets of a batch concatenated image by image (T of them).
#[derive(Clone, Debug)]
pub struct Targets {
    /// (T, 4) f32, normalized cxcywh.
    pub boxes: Tensor,
    /// (T, 256) f32: 1 at the caption tokens that name the box.
    pub positive_map: Tensor,
    /// (T, tokens) f32: the same over the batch's padded captions, for the contrastive alignment loss.
    pub align_map: Tensor,
    /// (T) i32: whose target it is.
    pub image_of_target: Tensor,
    /// Targets of each image.
    pub counts: Vec<usize>,
}

impl Text {
    /// (captions, tokens).
    pub fn shape(&self) -> [usize; 2] {
        [self.ids.shape()[0], self.ids.shape()[1]]
    }
}
