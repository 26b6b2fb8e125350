//! How fast kernels run on the simulator: `cargo bench -p mdetr-simulator --bench speed`. Needs `scripts/fetch-nvrtc`.

#[path = "../tests/common/mod.rs"]
mod common;

use std::time::Instant;

use common::{Arg, Device, assert_clean, nvrtc};
use half::f16;
use mdetr_simulator::options::Options;
use mdetr_simulator::vm::launch::Outcome;

/// A kernel with its launch; made anew for every run, as outputs have to be fresh.
type Run = fn(&mut Device, &str) -> Outcome;

const RUNS: [(&str, &str, Run); 4] = [
    ("elementwise f32, 256 Ki", "elementwise", |device, ptx| {
        let program = device.load(ptx);
        let n = 1 << 18;
        let inputs = [0.5_f32, 1.5, 2.5].map(|x| device.upload(&vec![x; n]));
        let y = device.uninitialized::<f32>(6 * n);
        let arguments =
            [Arg::from(&y), Arg::from(&inputs[0]), Arg::from(&inputs[1]), Arg::from(&inputs[2]), Arg::from(n as i32)];
        device.launch(&program, "elementwise_f32", [n as u32 / 256, 1, 1], [256, 1, 1], 0, &arguments)
    }),
    ("gemm in shared memory, 256^3", "gemm_shared", |device, ptx| {
        let program = device.load(ptx);
        let n = 256;
        let [a, b] = [0.5_f32, 1.5].map(|x| device.upload(&vec![x; n * n]));
        let c = device.uninitialized::<f32>(n * n);
        let size = || Arg::from(n as i32);
        let arguments = [Arg::from(&c), Arg::from(&a), Arg::from(&b), size(), size(), size()];
        device.launch(&program, "gemm_blocked", [4, 4, 1], [256, 1, 1], 4 * 8 * 64 * 4, &arguments)
    }),
    ("attention head forward, 256 x 256 x 32, f16", "flash_attention_fwd", |device, ptx| {
        let program = device.load(ptx);
        let [q, k, v] = [0.1, 0.2, 0.3].map(|x| device.upload(&vec![f16::from_f32(x); 256 * 32]));
        let (o, lse) = (device.uninitialized::<f16>(256 * 32), device.uninitialized::<f32>(256));
        let lengths = device.upload(&[256_i32]);
        let [h, m, n] = [1, 256, 256].map(Arg::from);
        let arguments =
            [&o, &lse, &q, &k, &v, &lengths].map(Arg::from).into_iter().chain([Arg::from(0.17_f32), h, m, n]);
        device.launch(&program, "attention_fwd_32", [4, 1, 1], [128, 1, 1], 0, &arguments.collect::<Vec<_>>())
    }),
    ("attention head backward, 256 x 256 x 32, f16", "flash_attention_bwd", |device, ptx| {
        let program = device.load(ptx);
        let [q, k, v, d_o] = [0.1, 0.2, 0.3, 0.4].map(|x| device.upload(&vec![f16::from_f32(x); 256 * 32]));
        let d_q = device.zeros::<f32>(256 * 32);
        let [d_k, d_v] = [(); 2].map(|()| device.uninitialized::<f16>(256 * 32));
        let [lse, delta] = [5.0_f32, 0.1].map(|x| device.upload(&[x; 256]));
        let lengths = device.upload(&[256_i32]);
        let [h, m, n] = [1, 256, 256].map(Arg::from);
        let pointers = [&d_q, &d_k, &d_v, &d_o, &q, &k, &v, &lse, &delta, &lengths].map(Arg::from).into_iter();
        let arguments: Vec<Arg> = pointers.chain([Arg::from(0.17_f32), h, m, n]).collect();
        device.launch(&program, "attention_bwd_32", [4, 1, 1], [128, 1, 1], 0, &arguments)
    }),
];

fn main() {
    let all = Options::default();
    let without_races = Options { races: false, ..all.clone() };
    let none = Options { bounds: false, ..without_races.clone() };
    for (name, file, run) in RUNS {
        let Some(ptx) = nvrtc::compile_once(file) else { return };
        for (checks, options) in [("all checks", &all), ("no races", &without_races), ("no checks", &none)] {
            let mut best = f64::INFINITY;
            let mut instructions = 0;
            for _ in 0..5 {
                let mut device = Device::new(options.clone());
                let start = Instant::now();
                let outcome = run(&mut device, &ptx);
                best = best.min(start.elapsed().as_secs_f64());
                assert_clean(&outcome);
                instructions = outcome.instructions;
            }
            let rate = instructions as f64 / best / 1e6;
            println!("{name:<46} {checks:<11} {:8.1} ms  {rate:7.1} M thread instructions/s", best * 1e3);
        }
    }
}
