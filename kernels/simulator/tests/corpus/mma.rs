//! Tensor-core instructions one by one, and the loads of their operands.

use half::{bf16, f16};

use crate::common::Arg;
use crate::gemm::matmul;
use crate::support::{Float, Loaded, Random, exact, for_each_device, one_schedule};

/// `keep` gives what the tensor core sees of an operand.
fn check<T: Float, D: Float>(loaded: &mut Loaded, kernel: &str, depth: usize, keep: impl Fn(f64) -> f64) {
    let mut random = Random(depth as u64);
    for k in [depth, 5 * depth] {
        let (a, b): (Vec<T>, Vec<T>) = (random.floats(16 * k), random.floats(k * 8));
        let c: Vec<D> = random.floats(16 * 8);
        let d = loaded.device.uninitialized::<D>(16 * 8);
        let [a_buffer, b_buffer] = [&a, &b].map(|operand| loaded.device.upload(operand));
        let c_buffer = loaded.device.upload(&c);
        let args: [Arg; 5] =
            [(&d).into(), (&a_buffer).into(), (&b_buffer).into(), (&c_buffer).into(), (k as i32).into()];
        loaded.launch(kernel, [1; 3], [32, 1, 1], 0, &args);
        let [a, b] = [a, b].map(|operand| exact(&operand).into_iter().map(&keep).collect::<Vec<_>>());
        let (mut want, magnitude) = matmul([16, 8, k], &a, &b);
        want.iter_mut().zip(exact(&c)).for_each(|(want, c)| *want += c);
        // the accumulator is rounded once an instruction, or cut, which is twice as much; sums within one are in f32
        let steps = (k / depth) as f64;
        let tolerance = |i: usize| (2.0 * steps * D::ROUNDING + k as f64 * f32::ROUNDING) * (magnitude[i] + 1.0);
        let d: Vec<D> = loaded.device.download(&d);
        loaded.assert_close(kernel, &d, &want, tolerance);
    }
}

/// 10 bits of fraction, to the nearest, ties away from zero.
fn tf32(x: f64) -> f64 {
    f32::from_bits(((x as f32).to_bits() + 0x1000) & !0x1fff).into()
}

/// Registers by lane: lane 4 r + c of a matrix has columns 2 c and 2 c + 1 of row r, or of column r if transposed.
fn matrices(x: &[u16], count: usize, transposed: bool) -> Vec<u32> {
    let mut registers = Vec::new();
    for lane in 0..32 {
        for matrix in x.chunks(64).take(count) {
            let element = |i: usize| {
                let (row, column) = (lane / 4, lane % 4 * 2 + i);
                u32::from(if transposed { matrix[column * 8 + row] } else { matrix[row * 8 + column] })
            };
            registers.push(element(0) | element(1) << 16);
        }
    }
    registers
}

#[test]
fn shapes_and_dtypes() {
    for_each_device("mma", &one_schedule(), |loaded| {
        check::<f16, f32>(loaded, "mma_f16_f32_k16", 16, |x| x);
        check::<f16, f16>(loaded, "mma_f16_f16_k16", 16, |x| x);
        check::<bf16, f32>(loaded, "mma_bf16_f32_k16", 16, |x| x);
        check::<f16, f32>(loaded, "mma_f16_f32_k8", 8, |x| x);
        check::<f16, f16>(loaded, "mma_f16_f16_k8", 8, |x| x);
        check::<bf16, f32>(loaded, "mma_bf16_f32_k8", 8, |x| x);
        check::<f32, f32>(loaded, "mma_tf32_k8", 8, tf32);

        let x: Vec<u16> = (0..256).map(|i| i * 257).collect();
        for (count, kernel) in [(1, "ldmatrix_x1"), (2, "ldmatrix_x2"), (4, "ldmatrix_x4")] {
            for (transposed, kernel) in [(false, kernel.to_owned()), (true, format!("{kernel}_trans"))] {
                let y = loaded.device.uninitialized::<u32>(32 * count);
                let args: [Arg; 2] = [(&y).into(), (&loaded.device.upload(&x)).into()];
                loaded.launch(&kernel, [1; 3], [32, 1, 1], 0, &args);
                loaded.assert_same(&kernel, &loaded.device.download(&y), &matrices(&x, count, transposed));
            }
        }
    });
}
