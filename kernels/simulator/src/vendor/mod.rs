//! What the stand-ins of NVIDIA's libraries share: handles, refusals, attributes; elements in device memory, and the
//! product of two matrices.

mod attribute;
mod element;
mod handles;
mod product;
mod refusal;
#[cfg(test)]
pub mod testing;

pub use attribute::{get_attribute, put, set_attribute, take};
pub use element::{Dtype, Real, Rounding, load, store};
pub use handles::Handles;
pub use product::{Strided, StridedMut, product};
pub use refusal::{Refusal, Status, answer, supported, valid};
