//! The virtual machine: a module's code, and warps, blocks and grids that run it.

pub mod clocks;
pub mod code;
pub mod launch;
pub mod operands;
pub mod program;
pub mod registers;
