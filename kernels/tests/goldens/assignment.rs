use mdetr_kernels::assignment::linear_sum_assignment;
use mdetr_kernels::{DType, Device};

use crate::matcher;

/// SciPy's own indices.
#[test]
fn linear_sum() {
    matcher::linear_sum_agrees(Device::Cpu);
    assert_eq!(linear_sum_assignment(&[], 0, 3), []);
    assert_eq!(linear_sum_assignment(&[], 3, 0), []);
    assert_eq!(linear_sum_assignment(&[0.0; 9], 3, 3), [(0, 0), (1, 1), (2, 2)]);
}

#[test]
fn published_matcher() {
    [DType::F32, DType::F64].iter().for_each(|&dtype| matcher::agrees(Device::Cpu, dtype));
}
