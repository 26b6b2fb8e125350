//! Pipelines of asynchronous copies.

use crate::common::Arg;
use crate::support::{Loaded, Random, for_each_device, schedules};

/// Threads of a block, a word of `width` floats each.
const THREADS: usize = 64;

fn pipeline(loaded: &mut Loaded, kernel: &str, width: usize) {
    for (n, blocks) in [(1, 1), (64 * width, 1), (1001, 1), (2003, 3), (130, 4)] {
        let mut x: Vec<f32> = Random(n as u64).floats(n);
        let words = n.div_ceil(width);
        let y = loaded.device.uninitialized::<f32>(words * width);
        let args: [Arg; 3] = [(&y).into(), (&loaded.device.upload(&x)).into(), (n as i32).into()];
        loaded.launch(kernel, [blocks, 1, 1], [THREADS as u32, 1, 1], 0, &args);
        x.resize(words.next_multiple_of(THREADS) * width, 0.0);
        let want = |i: usize| {
            let (tile, word, element) = (i / width / THREADS, i / width % THREADS, i % width);
            2.0 * x[i] + x[(tile * THREADS + (word + 1) % THREADS) * width + element]
        };
        let want: Vec<f32> = (0..words * width).map(want).collect();
        loaded.assert_same(kernel, &loaded.device.download(&y), &want);
    }
}

/// The second half loses every fourth float.
fn header(loaded: &mut Loaded) {
    for n in [4, 256, 300, 512] {
        let mut x: Vec<f32> = Random(n as u64).floats(n);
        let y = loaded.device.uninitialized::<f32>(n);
        let args: [Arg; 3] = [(&y).into(), (&loaded.device.upload(&x)).into(), (n as i32).into()];
        loaded.launch("pipeline_header", [1; 3], [THREADS as u32, 1, 1], 0, &args);
        x.iter_mut().skip(256).skip(3).step_by(4).for_each(|x| *x = 0.0);
        loaded.assert_same("pipeline_header", &loaded.device.download(&y), &x);
    }
}

#[test]
fn pipelines() {
    for_each_device("cp_async", &schedules(), |loaded| {
        pipeline(loaded, "pipeline_4", 1);
        pipeline(loaded, "pipeline_8", 2);
        pipeline(loaded, "pipeline_16", 4);
        header(loaded);
    });
}
