//! Every instruction without memory against a definition of it: all combinations of edge cases, and values at random.

mod approximate;
mod bits;
mod compare;
mod convert;
mod errors;
mod float;
mod harness;
mod integer;
mod matrix;
mod moves;
mod numbers;
mod warp;
