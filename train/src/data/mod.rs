//! Annotation files, images and captions as plain host data: everything before a batch becomes tensors.
//!
//! Caption spans are half-open ranges of Unicode code points. Boxes are xywh pixels in annotation files, xyxy pixels
//! while an image is being transformed, and normalised cxcywh afterwards.

pub mod caption;
pub mod coco;
pub mod concat;
pub mod image;
pub mod official;
pub mod positive_map;
pub mod problems;
pub mod resize;
pub mod target;
pub mod tokenizer;
pub mod transforms;

pub use coco::{Dataset, Example, ImageFolders, Split};
pub use target::{Object, Target};
pub use tokenizer::{Encoding, Tokenizer};
pub use transforms::{CropConfig, TransformConfig};

/// A half-open range `[begin, end)` of Unicode code points in a caption.
pub type Span = [usize; 2];
