//! A small tape over the op library.
//!
//! A [`Tape`] records the ops of one step; [`Tape::backward`] walks it once in reverse. The tape names no op, and an op
//! never sees a [`Var`]: [`functional`] is where the two meet. Only the tape decides whether a gradient is skipped,
//! written or accumulated.
#![forbid(unsafe_code)]

pub mod functional;
pub mod gradcheck;
pub mod gradients;
pub mod parameter;
pub mod profile;
pub mod tape;
pub mod var;

pub use gradients::Gradients;
pub use parameter::{Layout, Parameter, ParameterId, Parameters};
pub use tape::Tape;
pub use var::Var;
