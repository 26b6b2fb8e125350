//! Training, evaluation and data for MDETR.
#![forbid(unsafe_code)]

pub mod data;
pub mod draw;
pub mod emoji;
pub mod evaluators;
