//! Position encodings made on a GPU against those of the host.

use mdetr_kernels::Device;
use mdetr_kernels::position_sine::position_sine;

/// Angles are the same; only the sines are computed by another library.
const TOLERANCE: f64 = 1e-6;

#[test]
fn equals_the_host() {
    super::on_gpu("position_sine::equals_the_host", |cuda| {
        let maps: [&[[usize; 2]]; 5] = [&[[1, 1]], &[[2, 3], [4, 1], [0, 5], [1, 7]], &[[19, 27]], &[[0, 0]], &[]];
        for (sizes, channels) in maps.into_iter().flat_map(|sizes| [(sizes, 4), (sizes, 64), (sizes, 20)]) {
            let cells = sizes.iter().map(|[h, w]| h * w).sum::<usize>() + 3; // some behind the maps
            let got = position_sine(sizes, cells, channels, Device::Cuda(cuda)).to_f64_vec();
            let want = position_sine(sizes, cells, channels, Device::Cpu).to_f64_vec();
            assert_eq!(got.len(), want.len());
            for (i, (got, want)) in got.iter().zip(&want).enumerate() {
                assert!((got - want).abs() <= TOLERANCE, "{sizes:?}, {channels} channels: {got} at {i}, not {want}");
            }
        }
    });
}
