//! The gradient of a table of which few rows were used is memory where these are. Alone in its process, whose memory it
//! measures.

use mdetr_autograd::{Parameters, Tape, functional as f};
use mdetr_kernels::tensor::host_memory;
use mdetr_kernels::{Device, Precision, Tensor};

#[test]
fn gradients_of_a_table_are_sparse() {
    const ROWS: usize = 1 << 16;
    let parameters = Parameters::default();
    let tape = Tape::evaluating_with_gradients(&parameters, Device::Cpu, Precision::F32);
    let table = tape.leaf(Tensor::from_slice(&vec![1.0f32; ROWS * 64], &[ROWS, 64], Device::Cpu));
    let once = f::embedding(&table, &Tensor::from_slice(&[7, 40_000, 7], &[3], Device::Cpu), None);
    let again = f::embedding(&table, &Tensor::from_slice(&[7], &[1], Device::Cpu), None);
    let loss = f::weighted_sum(&[(&once, 2.0), (&again, 3.0)]);
    let before = host_memory().1;
    let gradients = tape.backward(&loss);
    assert!(host_memory().1 < before + ROWS * 64, "a quarter of what a dense gradient takes");
    let gradient = gradients.leaf(&table).unwrap().to_f64_vec();
    for (row, values) in gradient.chunks(64).enumerate() {
        let want = if row == 7 {
            7.0
        } else if row == 40_000 {
            2.0
        } else {
            0.0
        };
        assert!(values.iter().all(|&value| value == want), "row {row}: {}", values[0]);
    }
}
