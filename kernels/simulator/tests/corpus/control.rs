//! Control flow, address spaces and launches.

use crate::common::Arg;
use crate::support::{Loaded, Random, for_each_device, schedules};

fn integers(n: usize, low: i64, high: i64) -> Vec<i32> {
    let mut random = Random(n as u64);
    (0..n).map(|_| (low + random.below((high - low) as u64) as i64) as i32).collect()
}

/// One thread an element; returns y.
fn map(loaded: &mut Loaded, kernel: &str, x: &[i32]) -> Vec<i32> {
    let (y, x_buffer) = (loaded.device.uninitialized::<i32>(x.len()), loaded.device.upload(x));
    loaded.launch_over(kernel, x.len(), 64, &[(&y).into(), (&x_buffer).into(), (x.len() as i32).into()]);
    loaded.device.download(&y)
}

fn jumps(loaded: &mut Loaded) {
    let x = integers(333, -2, 10);
    let want = |(i, &x): (usize, &i32)| {
        let b = i as i32;
        match x {
            0 => b * 3 + 1,
            1 => b / 3,
            2 => !b,
            3 => (b << 3) ^ b,
            4 => (b * b - 7) % 5,
            5 => b % 5,
            6 => -b,
            7 => 1 + i32::from(b <= 100),
            _ => 1000,
        }
    };
    let y = map(loaded, "switch_statement", &x);
    loaded.assert_same("switch", &y, &x.iter().enumerate().map(want).collect::<Vec<_>>());
    let y = map(loaded, "jump_table", &x);
    let added = |x: i32| [100, 1200, 1000, 1000][(x & 3) as usize];
    loaded.assert_same("jump table", &y, &x.iter().map(|&x| x + added(x)).collect::<Vec<_>>());
}

fn calls(loaded: &mut Loaded) {
    let n = 101;
    let x = integers(n, -30, 30);
    let v: Vec<[f32; 4]> = (0..n).map(|i| [0.0, 1.0, 2.0, 3.0].map(|k| i as f32 + 0.25 * k)).collect();
    let (y, z) = (loaded.device.uninitialized::<i32>(n), loaded.device.uninitialized::<[f32; 4]>(n));
    let [x_buffer, v_buffer] = [loaded.device.upload(&x), loaded.device.upload(&v)];
    let args = [(&y).into(), (&z).into(), (&x_buffer).into(), (&v_buffer).into(), (n as i32).into()];
    loaded.launch_over("calls", n, 32, &args);
    let sorted = |i: usize| i.is_multiple_of(2) && i + 1 < n;
    let want: Vec<i32> = (0..n).map(|i| if sorted(i) { x[i].min(x[i + 1]) } else { x[i].clamp(-10, 10) }).collect();
    loaded.assert_same("calls", &loaded.device.download(&y), &want);
    let want = |i: usize| {
        let mut row: [f32; 4] = std::array::from_fn(|k| 2.0 * v[i][k] + v[(i + 1) % n][k]);
        if sorted(i) {
            row[3] = x[i].max(x[i + 1]) as f32;
        }
        row
    };
    loaded.assert_same("calls of vectors", &loaded.device.download(&z), &(0..n).map(want).collect::<Vec<[f32; 4]>>());
}

fn recursion(loaded: &mut Loaded) {
    let y = loaded.device.uninitialized::<i32>(20);
    loaded.launch("recursion", [1; 3], [20, 1, 1], 0, &[(&y).into()]);
    let fibonacci = |n: usize| (0..n).fold((0, 1), |(a, b), _| (b, a + b)).0;
    let ackermann = |n: usize| 2 * n as i32 + 3; // of 2 and n
    let want = |i: usize| if i % 2 == 1 { fibonacci(i / 2) } else { ackermann(i / 2) };
    loaded.assert_same("recursion", &loaded.device.download(&y), &(0..20).map(want).collect::<Vec<_>>());
}

fn constants(loaded: &mut Loaded) {
    let x = integers(50, 0, 100);
    let (y, launch) = (loaded.device.uninitialized::<f64>(50), loaded.device.uninitialized::<i32>(1));
    let args = || [(&y).into(), (&launch).into()];
    let weights = [0.5, -1.0, 2.0, 0.25, 3.0, -0.125, 1.5, 4.0];
    let sum: f64 = weights.iter().sum();
    let table = |x: i32| f64::from(1 << (x % 5));
    let want: Vec<f64> = x.iter().map(|&x| sum * weights[x as usize & 7] + 1.25 * table(x) - 3.0).collect();
    let x = loaded.device.upload(&x);
    // variables keep their values from launch to launch
    for count in [10, 11] {
        let args: Vec<Arg> = args().into_iter().chain([(&x).into(), 50_i32.into()]).collect();
        loaded.launch("constants", [1; 3], [64, 1, 1], 0, &args);
        loaded.assert_same("constants", &loaded.device.download(&y), &want);
        loaded.assert_same("launches", &loaded.device.download(&launch), &[count]);
    }
}

fn local_sort(loaded: &mut Loaded) {
    let rows = 40;
    let x = integers(rows * 16, -50, 50);
    let (y, x_buffer) = (loaded.device.uninitialized::<i32>(rows * 16), loaded.device.upload(&x));
    loaded.launch_over("local_sort", rows, 32, &[(&y).into(), (&x_buffer).into(), (rows as i32).into()]);
    let mut want = x;
    want.chunks_mut(16).for_each(<[i32]>::sort_unstable);
    loaded.assert_same("local_sort", &loaded.device.download(&y), &want);
}

fn dynamic_shared(loaded: &mut Loaded) {
    for n in [1, 37, 500] {
        let x: Vec<f64> = Random(n as u64).floats(3 * n);
        let (y, bytes) = (loaded.device.uninitialized::<f64>(3 * n), loaded.device.uninitialized::<u8>(3 * n));
        let args = [(&y).into(), (&bytes).into(), (&loaded.device.upload(&x)).into(), (n as i32).into()];
        loaded.launch("dynamic_shared", [3, 1, 1], [64, 1, 1], 9 * n as u32, &args);
        let want: Vec<f64> = x.chunks(n).flat_map(|row| row.iter().rev().copied()).collect();
        loaded.assert_same("reversed", &loaded.device.download(&y), &want);
        let want: Vec<u8> = (0..3).flat_map(|_| (0..n).rev().map(|i| i as u8)).collect();
        loaded.assert_same("reversed bytes", &loaded.device.download(&bytes), &want);
    }
}

fn dimensions(loaded: &mut Loaded) {
    for (grid, block) in [([1, 1, 1], [1, 1, 1]), ([2, 3, 4], [5, 2, 3]), ([1, 1, 7], [33, 1, 2])] {
        let [width, height, depth] = [0, 1, 2].map(|i| grid[i] * block[i]);
        let y = loaded.device.uninitialized::<i32>((width * height * depth) as usize);
        let extent = loaded.device.uninitialized::<i32>(3);
        loaded.launch("dimensions", grid, block, 0, &[(&y).into(), (&extent).into()]);
        let number = |i: u32| (i % width + 1000 * (i / width % height) + 1_000_000 * (i / width / height)) as i32;
        let want: Vec<i32> = (0..width * height * depth).map(number).collect();
        loaded.assert_same("dimensions", &loaded.device.download(&y), &want);
        loaded.assert_same("extent", &loaded.device.download(&extent), &[width, height, depth].map(|x| x as i32));
    }
}

fn loads(loaded: &mut Loaded) {
    let n = 45;
    let x: Vec<f32> = Random(6).floats(4 * n);
    let x_buffer = loaded.device.upload(&x);
    let bytes: &[u8] = bytemuck::cast_slice(&x);
    let sizes = [8, 16, 16, 16, 8, 4];
    let outputs = sizes.map(|size| loaded.device.uninitialized::<u8>(size * n));
    let args: Vec<Arg> = outputs.iter().map(Arg::from).chain([(&x_buffer).into(), (n as i32).into()]).collect();
    loaded.launch_over("loads", n, 32, &args);
    for (output, size) in outputs.iter().zip(sizes) {
        loaded.assert_same("loads", &loaded.device.download(output), &bytes[..size * n]);
    }
}

/// The kernel's struct, with C's padding.
#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Affine {
    scale: f32,
    padding: u32,
    shift: [f64; 2],
    which: u64,
}

fn clocks(loaded: &mut Loaded) {
    let n = 70;
    let (y, passed) = (loaded.device.uninitialized::<f64>(n), loaded.device.uninitialized::<i64>(n));
    let affine = Affine { scale: 0.5, padding: 0, shift: [3.0, 7.0], which: 1 };
    let args = [(&y).into(), (&passed).into(), Arg::of(&affine), (n as i32).into()];
    loaded.launch("clocks", [1; 3], [n as u32, 1, 1], 0, &args);
    loaded.assert_same(
        "struct",
        &loaded.device.download(&y),
        &(0..n).map(|i| 0.5 * i as f64 + 7.0).collect::<Vec<_>>(),
    );
    assert!(loaded.device.download::<i64>(&passed).into_iter().all(|passed| passed >= 0));
}

#[test]
fn spaces_jumps_and_launches() {
    for_each_device("control", &schedules(), |loaded| {
        jumps(loaded);
        calls(loaded);
        recursion(loaded);
        constants(loaded);
        local_sort(loaded);
        dynamic_shared(loaded);
        dimensions(loaded);
        loads(loaded);
        clocks(loaded);
    });
}
