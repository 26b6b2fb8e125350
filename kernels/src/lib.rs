//! Tensors, devices and the op library.
//!
//! Every folder below `src` is an op and every file is machinery. An op is whole in its folder: the formula and the
//! paper (`mod.rs`), the definition (`reference.rs`), the fast CPU version (`cpu.rs`), and its test cases
//! (`cases.rs`), which feed conformance tests, gradient checks and benches alike.

pub mod activation;
pub mod boxes;
pub mod cache;
pub mod case;
pub mod cuda;
pub mod cuda_memory;
pub mod device;
pub mod dtype;
pub mod exp;
pub mod gemm;
pub mod graphs;
pub mod kernel_source;
pub mod launch;
pub mod matching;
pub mod nvrtc;
pub mod op;
pub mod philox;
pub mod precision;
pub mod prefetch;
pub mod reduce;
pub mod registry;
pub mod rounding;
pub mod segments;
pub mod simd;
pub mod tensor;
pub mod threads;

mod arena;
mod buffer;
mod cublas_lt;
mod cudnn;
mod cudnn_plan;
mod derived;
mod gemm_bf16;
mod gemm_packed;
mod masked;
mod outer_products;
mod panels;
mod register_tile;
mod row_norm;
mod staging;
mod strassen;

pub mod add;
pub mod assignment;
pub mod attention;
pub mod box_loss;
pub mod caption_contrastive_loss;
pub mod cast;
pub mod contrastive_align_loss;
pub mod conv2d;
pub mod dropout;
pub mod embedding;
pub mod gather_rows;
pub mod group_norm;
pub mod l2_normalize;
pub mod layer_norm;
pub mod linear;
pub mod max_pool;
pub mod mean_rows;
pub mod optimizer_step;
pub mod position_learned;
pub mod position_sine;
pub mod residual_norm;
pub mod soft_token_loss;
pub mod weighted_sum;

pub use device::Device;
pub use dtype::{DType, Element, Real};
pub use op::{Cost, Cx, GradSlot, Op, Outputs, Pass, Saved};
pub use precision::Precision;
pub use segments::{Segment, Segments};
pub use tensor::{Tensor, TensorMut};
