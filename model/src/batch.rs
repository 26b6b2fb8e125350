//! What the loader makes and the model sees.

use mdetr_kernels::Tensor;

/// How many rows the packed tokens of a batch take, from the encoder on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Packing {
    /// As many as there are tokens.
    #[default]
    Exact,
    /// A multiple of an eighth of what the padded images and captions could have, so that few sizes occur. What lies behind the
    /// tokens is nobody's: zeros go in, nothing reads what comes out, and its gradients are zeros.
    Bucket,
}

/// Images and captions.
#[derive(Clone, Debug)]
pub struct Batch {
    /// (B, H, W, 3), normalized, zero-padded at the bottom and the right to the batch maximum, or to a bucket's size.
    pub images: Tensor,
    /// Valid (height, width) of each image in pixels.
    pub image_sizes: Vec<[usize; 2]>,
    /// Captions.
    pub text: Text,
    /// How their tokens lie together.
    pub packing: Packing,
}

/// Captions as token ids.
#[derive(Clone, Debug)]
pub struct Text {
    /// (B, T) i32, padded behind.
    pub ids: Tensor,
    /// Valid tokens of each caption.
    pub counts: Vec<usize>,
}

/// What the images hold, all targets of a batch concatenated image by image (T of them). In a bucket of shapes rows of no image
/// may follow, which nothing reads.
#[derive(Clone, Debug)]
pub struct Targets {
    /// (T, 4) f32, normalized cxcywh.
    pub boxes: Tensor,
    /// (T, 256) f32: 1 at the caption tokens that name the box.
    pub positive_map: Tensor,
    /// (T, tokens) f32: the same over the batch's padded captions, for the contrastive alignment loss.
    pub align_map: Tensor,
    /// Tokens that every caption is padded to, without what a bucket adds: those that the alignment loss sees.
    pub tokens: usize,
    /// (T) i32: whose target it is; B for none.
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
