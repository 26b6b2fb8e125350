//! cuBLASLt and cuDNN through cudarc's API on the simulator.

#[path = "../common/process.rs"]
mod process;

mod cublas_lt;
mod cudnn;

/// Small whole numbers: products and sums of them are exact in every type that holds the result.
fn whole_numbers(len: usize) -> impl Iterator<Item = f32> {
    (0..len).map(|i| (i * 7 % 11) as f32 - 5.0)
}
