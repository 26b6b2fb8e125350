//! Tensors, devices and the op library.
//!
//! Every folder below `src` is an op and every file is machinery. An op is whole in its folder: the formula and the
//! paper (`mod.rs`), the definition (`reference.rs`), the fast CPU version (`cpu.rs`), and its test cases
//! (`cases.rs`), which feed conformance tests, gradient checks and benches alike.

pub mod activation;
pub mod case;
pub mod device;
pub mod dtype;
pub mod gemm;
pub mod op;
pub mod philox;
pub mod reduce;
pub mod registry;
pub mod segments;
pub mod tensor;

mod buffer;

pub mod layer_norm;
pub mod linear;

pub use device::Device;
pub use dtype::{DType, Element, Real};
pub use op::{Cost, Cx, GradSlot, Op, Outputs, Pass, Saved};
pub use segments::{Segment, Segments};
pub use tensor::{Tensor, TensorMut};
