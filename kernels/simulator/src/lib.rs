//! A CUDA driver for machines without a GPU.
//!
//! The library carries the names and the C entry points of `libcuda`, `libcublasLt`, `libcudnn` and `libnccl`. On the
//! loader's path (`scripts/with-simulator`) it answers unchanged programs: modules are PTX that the real NVRTC compiled,
//! launches run it instruction by instruction, and what a GPU would hide is found and named.
//!
//! ```text
//! driver/     C entry points, streams, events, graphs; the books (order of work, blocking calls, leaks)
//! ptx/        text to syntax tree
//! vm/         syntax tree to code; warps, blocks, grids
//! compute/    what instructions without memory do to registers
//! memory/     device memory: allocations, what was written, who touched it last
//! cublas_lt/  the stand-in of cuBLASLt: matrix products with epilogues
//! cudnn/      the stand-in of cuDNN: convolutions
//! nccl/       the stand-in of NCCL: collectives between processes of one machine
//! vendor/     what cublas_lt and cudnn share
//! ```

pub mod compute;
pub mod cublas_lt;
pub mod cudnn;
pub mod driver;
pub mod findings;
pub mod memory;
pub mod nccl;
pub mod options;
pub mod ptx;
pub mod report;
pub mod vendor;
pub mod vm;
