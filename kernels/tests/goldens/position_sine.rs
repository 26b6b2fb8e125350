use mdetr_kernels::position_sine::position_sine;
use mdetr_kernels::{Device, Tensor};

use crate::{Goldens, assert_close, channels_last};

/// At the valid cells: those that the recorded padding mask leaves.
#[test]
fn position_sine_at_valid_cells() {
    let g = Goldens::ops();
    for name in ["pos_sine_a", "pos_sine_b", "pos_sine_c"] {
        let recorded = channels_last(&g.get(&format!("{name}.out"))); // (B, H, W, C)
        let &[b, h, w, c] = recorded.shape() else { unreachable!() };
        let mask = g.get(&format!("{name}.mask")).to_f64_vec(); // (B, H, W), 1 = padded
        let valid = |cell: usize| mask[cell] == 0.0;
        let sizes: Vec<[usize; 2]> = (0..b)
            .map(|b| {
                let first = b * h * w;
                [(0..h).filter(|r| valid(first + r * w)).count(), (0..w).filter(|c| valid(first + c)).count()]
            })
            .collect();
        let values = recorded.to_f64_vec();
        let cells: Vec<f64> =
            values.chunks(c).enumerate().filter(|(cell, _)| valid(*cell)).flat_map(|(_, v)| v.to_vec()).collect();
        let want = Tensor::from_slice(&cells, &[cells.len() / c, c], Device::Cpu);
        assert_close(name, &position_sine(&sizes, want.rows(), c, Device::Cpu), &want, 1.2e-7);
    }
}
