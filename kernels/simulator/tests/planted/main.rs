//! Kernels with a planted bug, each of which has to be found and named under every schedule, beside their mended
//! twins and other right code, on which nothing may be found.

#[path = "../common/mod.rs"]
mod common;

mod clean;
mod memory;
mod order;
mod support;
