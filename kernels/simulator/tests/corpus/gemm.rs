//! Matrix products through shared memory and on tensor cores.

use half::{bf16, f16};

use crate::common::Arg;
use crate::support::{Float, Loaded, Random, exact, for_each_device, schedules};

/// (m, n) = a (m, k) b (k, n), and the same of absolute values.
pub fn matmul([m, n, k]: [usize; 3], a: &[f64], b: &[f64]) -> (Vec<f64>, Vec<f64>) {
    let mut products = (vec![0.0; m * n], vec![0.0; m * n]);
    for i in 0..m {
        for j in 0..n {
            for l in 0..k {
                let product = a[i * k + l] * b[l * n + j];
                products.0[i * n + j] += product;
                products.1[i * n + j] += product.abs();
            }
        }
    }
    products
}

fn check<T: Float>(
    loaded: &mut Loaded,
    kernel: &str,
    shape: [usize; 3],
    tile: usize,
    block: [u32; 3],
    dynamic_shared: u32,
) {
    let [m, n, k] = shape;
    let mut random = Random((m * n * k) as u64);
    let (a, b): (Vec<T>, Vec<T>) = (random.floats(m * k), random.floats(k * n));
    let c = loaded.device.uninitialized::<f32>(m * n);
    let mut args: Vec<Arg> =
        vec![(&c).into(), (&loaded.device.upload(&a)).into(), (&loaded.device.upload(&b)).into()];
    args.extend(shape.map(|size| Arg::from(size as i32)));
    loaded.launch(kernel, [n.div_ceil(tile) as u32, m.div_ceil(tile) as u32, 1], block, dynamic_shared, &args);
    let (want, magnitude) = matmul(shape, &exact(&a), &exact(&b));
    let c: Vec<f32> = loaded.device.download(&c);
    // sums are in f32, with a rounding each
    loaded.assert_close(kernel, &c, &want, |i| k as f64 * f32::ROUNDING * magnitude[i]);
}

#[test]
fn through_shared_memory() {
    for_each_device("gemm_shared", &schedules(), |loaded| {
        for shape in [[1, 1, 1], [16, 32, 16], [33, 17, 45], [5, 70, 3]] {
            check::<f32>(loaded, "gemm_tiled", shape, 16, [16, 16, 1], 0);
        }
        for shape in [[1, 1, 1], [64, 64, 8], [65, 130, 19]] {
            check::<f32>(loaded, "gemm_blocked", shape, 64, [256, 1, 1], 4 * 2 * 2 * 8 * 64);
        }
    });
}

#[test]
fn on_tensor_cores() {
    for_each_device("gemm_mma", &schedules(), |loaded| {
        for shape in [[1, 8, 8], [64, 64, 32], [70, 72, 104], [16, 200, 40]] {
            check::<f16>(loaded, "gemm_f16", shape, 64, [128, 1, 1], 0);
            check::<bf16>(loaded, "gemm_bf16", shape, 64, [128, 1, 1], 0);
        }
    });
}
