//! Kernels as people write them, compiled by the real NVRTC for two architectures, against results in f64.

#[path = "../common/mod.rs"]
mod common;

mod assignment;
mod atomics;
mod attention;
mod control;
mod convert;
mod cp_async;
mod elementwise;
mod gemm;
mod half_headers;
mod math;
mod mma;
mod print;
mod reduce;
mod support;
mod warp;
