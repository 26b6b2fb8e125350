//! Right code that a careless checker would complain about.

use mdetr_simulator::options::Options;

use crate::common::{Arg, Buffer, assert_clean, nvrtc};
use crate::support::{Loaded, SEEDS};

/// Launches, and nothing may be found.
fn launch(loaded: &mut Loaded, kernel: &str, blocks: u32, threads: u32, args: &[Arg]) {
    eprintln!("{kernel}, seed {}", loaded.device.options.seed); // shown if it fails
    assert_clean(&loaded.launch(kernel, blocks, threads, args));
}

fn floats(n: usize) -> Vec<f32> {
    (0..n).map(|i| i as f32).collect()
}

fn integers(n: usize) -> Vec<i32> {
    (0..n as i32).map(|i| i * 37 % 101 - 50).collect()
}

/// Outputs and inputs of `n` elements.
fn buffers<T: bytemuck::Pod>(loaded: &mut Loaded, x: &[T]) -> [Buffer; 2] {
    [loaded.device.uninitialized::<T>(x.len()), loaded.device.upload(x)]
}

fn within_warps(loaded: &mut Loaded) {
    let x = floats(3 * 4 * 128);
    let [y, x_buffer] = buffers(loaded, &x);
    launch(loaded, "warp_private", 1, 128, &[(&y).into(), (&x_buffer).into()]);
    let want = |i: usize| x[i / 128 * 128 + i % 32 * 4 + i / 32 % 4];
    assert_eq!(loaded.device.download::<f32>(&y), (0..x.len()).map(want).collect::<Vec<_>>());

    let x = integers(32);
    let [y, x_buffer] = buffers(loaded, &x);
    launch(loaded, "half_warps", 1, 32, &[(&y).into(), (&x_buffer).into()]);
    let sum = |lane: usize| x[lane ^ 15] + x[lane ^ 1];
    let want = |lane: usize| if lane < 16 { sum(15 - lane) } else { -sum(47 - lane) };
    assert_eq!(loaded.device.download::<i32>(&y), (0..32).map(want).collect::<Vec<_>>());
}

fn barriers(loaded: &mut Loaded) {
    for tiles in [1, 2, 7] {
        let x = floats(tiles * 64);
        let [y, x_buffer] = buffers(loaded, &x);
        launch(loaded, "producer_consumer", 1, 128, &[(&y).into(), (&x_buffer).into(), (tiles as i32).into()]);
        let want = |i: usize| 2.0 * x[i / 64 * 64 + 63 - i % 64];
        assert_eq!(loaded.device.download::<f32>(&y), (0..x.len()).map(want).collect::<Vec<_>>());
    }
    let x = integers(128);
    let [y, x_buffer] = buffers(loaded, &x);
    launch(loaded, "groups_of_warps", 1, 128, &[(&y).into(), (&x_buffer).into()]);
    let last = |i: usize| x[i] + i32::from(i >= 64); // of a group's rounds
    let positive = x.iter().filter(|&&x| x > 0).count() as i32;
    let votes = 1000 * positive + 1_000_000 * (2 * i32::from(positive == 128) + i32::from(positive > 0));
    let want = |i: usize| last(i / 64 * 64 + 63 - i % 64) + last(127 - i) + votes;
    assert_eq!(loaded.device.download::<i32>(&y), (0..128).map(want).collect::<Vec<_>>());

    let x = floats(5 * 64);
    let (y, x_buffer) = (loaded.device.uninitialized::<f32>(64), loaded.device.upload(&x));
    launch(loaded, "double_buffer", 1, 64, &[(&y).into(), (&x_buffer).into(), 5_i32.into()]);
    let want = |i: usize| x.chunks(64).map(|round| round[63 - i]).sum();
    assert_eq!(loaded.device.download::<f32>(&y), (0..64).map(want).collect::<Vec<f32>>());
}

fn between_blocks(loaded: &mut Loaded) {
    let x = floats(9);
    let [y, of_block] = [1, 9].map(|n| loaded.device.uninitialized::<f32>(n));
    let (counter, x_buffer) = (loaded.device.zeros::<u32>(1), loaded.device.upload(&x));
    launch(loaded, "last_block", 9, 64, &[(&y).into(), (&of_block).into(), (&counter).into(), (&x_buffer).into()]);
    assert_eq!(loaded.device.download::<f32>(&y), [2.0 * x.iter().sum::<f32>()]);

    let x = integers(8 * 32);
    let [y, x_buffer] = buffers(loaded, &x);
    let (handed_on, ready) = (loaded.device.uninitialized::<i32>(8), loaded.device.zeros::<u32>(8));
    let ticket = loaded.device.zeros::<u32>(1);
    let args = [(&y).into(), (&handed_on).into(), (&ready).into(), (&ticket).into(), (&x_buffer).into()];
    launch(loaded, "chained_scan", 8, 32, &args);
    let sums = x.iter().scan(0, |sum, x| {
        *sum += x;
        Some(*sum)
    });
    assert_eq!(loaded.device.download::<i32>(&y), sums.collect::<Vec<_>>());
}

fn atomics(loaded: &mut Loaded) {
    let (sum, order, lock) =
        (loaded.device.zeros::<i32>(1), loaded.device.uninitialized::<i32>(6), loaded.device.zeros::<u32>(1));
    launch(loaded, "lock_by_block", 6, 32, &[(&sum).into(), (&order).into(), (&lock).into()]);
    let mut blocks: Vec<i32> = loaded.device.download(&order);
    blocks.sort_unstable();
    assert_eq!(blocks, [0, 1, 2, 3, 4, 5]);

    let sum = loaded.device.zeros::<i32>(1);
    launch(loaded, "lock_by_thread", 3, 40, &[(&sum).into(), (&lock).into()]);
    assert_eq!(loaded.device.download::<i32>(&sum), [3 * 40 * 39 / 2]);

    let x: Vec<i32> = (0..1000).map(|i| i * i % 61).collect();
    let (counts, x_buffer) = (loaded.device.zeros::<u32>(16), loaded.device.upload(&x));
    launch(loaded, "histogram", 3, 64, &[(&counts).into(), (&x_buffer).into(), 1000_i32.into()]);
    let want = |class: i32| x.iter().filter(|&&x| x % 16 == class).count() as u32;
    assert_eq!(loaded.device.download::<u32>(&counts), (0..16).map(want).collect::<Vec<_>>());
}

fn early_exit(loaded: &mut Loaded) {
    for n in [1, 32, 77] {
        let x = integers(n);
        let [y, x_buffer] = buffers(loaded, &x);
        let sum = loaded.device.zeros::<i32>(1);
        launch(loaded, "early_exit", 3, 64, &[(&y).into(), (&sum).into(), (&x_buffer).into(), (n as i32).into()]);
        let want = |i: usize| x.chunks(32).nth(i / 32).unwrap().iter().sum::<i32>() - x[i];
        assert_eq!(loaded.device.download::<i32>(&y), (0..n).map(want).collect::<Vec<_>>());
        assert_eq!(loaded.device.download::<i32>(&sum), [x.iter().sum::<i32>()]);
    }
}

#[test]
fn nothing_is_found_on_right_code() {
    nvrtc::for_each_compiler("planted/clean", |target, ptx| {
        eprintln!("{target:?}"); // shown if it fails
        for seed in SEEDS {
            let mut loaded = Loaded::new(ptx, Options { seed, ..Options::default() });
            within_warps(&mut loaded);
            barriers(&mut loaded);
            between_blocks(&mut loaded);
            atomics(&mut loaded);
            early_exit(&mut loaded);
        }
    });
}
