//! The MDETR architecture (Kamath et al., 2021, arXiv 2104.12763) as configurations of one set of modules.
//!
//! A reader who knows DETR finds its words where DETR has them: backbone, transformer, matcher, criterion,
//! position_encoding, box_ops, postprocess. The model sees tensors only; text and pixels become tensors in the loader.
#![forbid(unsafe_code)]

pub mod backbone;
pub mod batch;
pub mod box_ops;
pub mod checkpoint;
pub mod config;
pub mod criterion;
pub mod init;
pub mod mdetr;
pub mod nn;
pub mod position_encoding;
pub mod postprocess;
pub mod pretrain;
pub mod ragged;
pub mod recipe;
pub mod state_dict;
pub mod text_encoder;
pub mod transformer;

pub use batch::{Batch, Targets};
pub use config::{CriterionConfig, ModelConfig, TextConfig};
pub use mdetr::{Mdetr, Outputs};
