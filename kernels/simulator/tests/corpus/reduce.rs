//! Sums, maxima and prefix sums, over lanes, warps and blocks.

use half::f16;

use crate::common::Arg;
use crate::support::{Float, Loaded, Random, exact, for_each_device, schedules};

/// Roundings on the way from an element to the sum: one for every stride, five in each of the two trees of shuffles.
fn depth(n: usize, threads: u32) -> f64 {
    n.div_ceil(threads as usize) as f64 + 10.0
}

fn row_sum<T: Float>(loaded: &mut Loaded, kernel: &str) {
    for (rows, n, threads) in [(1, 1, 32), (3, 31, 32), (2, 1000, 128), (4, 77, 1024), (5, 513, 96)] {
        let x: Vec<T> = Random(n as u64).floats(rows * n);
        let y = loaded.device.uninitialized::<T>(rows);
        let args: [Arg; 3] = [(&y).into(), (&loaded.device.upload(&x)).into(), (n as i32).into()];
        loaded.launch(kernel, [rows as u32, 1, 1], [threads, 1, 1], 0, &args);
        let x = exact(&x);
        let sum = |of: fn(f64) -> f64| x.chunks(n).map(|row| row.iter().map(|&x| of(x)).sum()).collect::<Vec<f64>>();
        let (want, magnitude) = (sum(|x| x), sum(f64::abs));
        let y: Vec<T> = loaded.device.download(&y);
        loaded.assert_close(kernel, &y, &want, |row| depth(n, threads) * T::ROUNDING * magnitude[row]);
    }
}

macro_rules! row_sum_of_integers {
    ($loaded:expr, $kernel:literal, $ty:ty) => {
        for (rows, n, threads) in [(3, 31, 32), (2, 1000, 128)] {
            let mut random = Random(n as u64);
            let x: Vec<$ty> = (0..rows * n).map(|_| random.bits() as $ty).collect();
            let y = $loaded.device.uninitialized::<$ty>(rows);
            let args: [Arg; 3] = [(&y).into(), (&$loaded.device.upload(&x)).into(), (n as i32).into()];
            $loaded.launch($kernel, [rows as u32, 1, 1], [threads, 1, 1], 0, &args);
            let sum = |row: &[$ty]| row.iter().fold(0, |sum: $ty, x| sum.wrapping_add(*x));
            $loaded.assert_same(
                $kernel,
                &$loaded.device.download::<$ty>(&y),
                &x.chunks(n).map(sum).collect::<Vec<_>>(),
            );
        }
    };
}

fn row_argmax(loaded: &mut Loaded) {
    for (rows, n, warps) in [(1, 1, 1), (7, 100, 2), (33, 32, 4)] {
        let mut random = Random(rows as u64);
        // few values, so that some are the greatest twice
        let x: Vec<f32> = (0..rows * n).map(|_| random.below(20) as f32 - 30.0).collect();
        let (y, argmax) = (loaded.device.uninitialized::<f32>(rows), loaded.device.uninitialized::<i32>(rows));
        let x_buffer = loaded.device.upload(&x);
        let args = [(&y).into(), (&argmax).into(), (&x_buffer).into(), (rows as i32).into(), (n as i32).into()];
        loaded.launch_over("row_argmax", rows * 32, warps * 32, &args);
        let best: Vec<f32> = x.chunks(n).map(|row| row.iter().copied().fold(f32::MIN, f32::max)).collect();
        let at = x.chunks(n).zip(&best).map(|(row, best)| row.iter().position(|x| x == best).unwrap() as i32);
        loaded.assert_same("argmax", &loaded.device.download(&argmax), &at.collect::<Vec<i32>>());
        loaded.assert_same("maximum", &loaded.device.download(&y), &best);
    }
}

fn prefix_sum(loaded: &mut Loaded) {
    for (n, threads) in [(1, 32), (1000, 128), (256, 256)] {
        let mut random = Random(n as u64);
        let x: Vec<i32> = (0..n).map(|_| random.below(1000) as i32 - 500).collect();
        let (y, x_buffer) = (loaded.device.uninitialized::<i32>(n), loaded.device.upload(&x));
        let args = [(&y).into(), (&x_buffer).into(), (n as i32).into()];
        loaded.launch("prefix_sum", [1; 3], [threads, 1, 1], 0, &args);
        let want = x.iter().scan(0, |sum, x| {
            *sum += x;
            Some(*sum)
        });
        loaded.assert_same("prefix sum", &loaded.device.download(&y), &want.collect::<Vec<i32>>());
    }
}

/// Twice with the same counter, which the kernel leaves at zero.
fn grid_sum<T: Float>(loaded: &mut Loaded, kernel: &str) {
    let counter = loaded.device.zeros::<u32>(1);
    for (n, blocks, threads) in [(1, 1, 32), (1000, 5, 64), (2049, 40, 32)] {
        let x: Vec<T> = Random(n as u64).floats(n);
        let (y, of_block) = (loaded.device.uninitialized::<T>(1), loaded.device.uninitialized::<T>(blocks));
        let x_buffer = loaded.device.upload(&x);
        let args = [(&y).into(), (&of_block).into(), (&counter).into(), (&x_buffer).into(), (n as i32).into()];
        loaded.launch(kernel, [blocks as u32, 1, 1], [threads, 1, 1], 0, &args);
        let (want, magnitude): (f64, f64) = (exact(&x).iter().sum(), exact(&x).iter().map(|x| x.abs()).sum());
        let roundings = depth(n, blocks as u32 * threads) + depth(blocks, threads);
        let y: Vec<T> = loaded.device.download(&y);
        loaded.assert_close(kernel, &y, &[want], |_| roundings * T::ROUNDING * magnitude);
    }
    loaded.assert_same("counter", &loaded.device.download::<u32>(&counter), &[0]);
}

#[test]
fn of_rows_and_grids() {
    for_each_device("reduce", &schedules(), |loaded| {
        row_sum::<f32>(loaded, "row_sum_f32");
        row_sum::<f64>(loaded, "row_sum_f64");
        row_sum::<f16>(loaded, "row_sum_f16");
        row_sum_of_integers!(loaded, "row_sum_i32", i32);
        row_sum_of_integers!(loaded, "row_sum_i64", i64);
        row_argmax(loaded);
        prefix_sum(loaded);
        grid_sum::<f32>(loaded, "grid_sum_f32");
        grid_sum::<f64>(loaded, "grid_sum_f64");
    });
}
