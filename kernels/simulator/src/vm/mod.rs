//! The virtual machine: a module's code, and warps, blocks and grids that run it.

mod access;
mod asynchronous;
mod barrier;
mod blame;
mod block;
mod call;
pub mod clocks;
pub mod code;
pub mod launch;
pub mod lower;
pub mod operands;
mod print;
pub mod program;
pub mod registers;
mod special;
mod step;
mod warp;
