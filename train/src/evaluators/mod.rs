//! Metrics over predicted boxes, as the tables of the paper compute them.

pub mod coco;
pub mod recall;

pub use coco::{Categories, CocoEvaluator, CocoStats};
pub use recall::{PhraseRecall, RecallResult};
