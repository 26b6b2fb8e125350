//! cudarc's safe API on the simulator, and the bugs of host code that it finds.

#![allow(clippy::undocumented_unsafe_blocks, reason = "these tests break the driver's contract on purpose")]

#[path = "../common/process.rs"]
mod process;

mod bugs;
mod device;
mod graph;
mod memory;
mod module;
mod report;
mod stream;
