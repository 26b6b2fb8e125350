//! The machine on hand-written PTX: what needs no compiler. The corpus runs what compilers make.

mod broken;
mod checks;
#[path = "../common/mod.rs"]
mod common;
mod control;
mod memory;

use common::{Arg, Buffer, Device};
use mdetr_simulator::vm::launch::Outcome;

/// A kernel `k` of `parameters` pointers, `.param .u64 p0` and so on, that are in `%rd0` and so on; `%r0` is the thread, and
/// `%rd10` the address of the thread's word of the first one.
fn kernel(parameters: usize, declarations: &str, body: &str) -> String {
    let list: Vec<String> = (0..parameters).map(|i| format!(".param .u64 p{i}")).collect();
    let loads: Vec<String> = (0..parameters).map(|i| format!("ld.param.u64 %rd{i}, [p{i}];")).collect();
    format!(
        ".version 8.0\n.target sm_80\n.address_size 64\n{declarations}\n.visible .entry k({})\n{{\n\
         .reg .pred %p<10>;\n.reg .b16 %rs<10>;\n.reg .b32 %r<40>;\n.reg .b64 %rd<20>;\n.reg .f32 %f<10>;\n{}\n\
         mov.u32 %r0, %tid.x;\nmul.wide.u32 %rd10, %r0, 4;\nadd.u64 %rd10, %rd10, %rd0;\n{body}\nret;\n}}\n",
        list.join(", "),
        loads.join("\n")
    )
}

/// Runs [`kernel`] with one block of `threads` on `words` words of zeros; returns them.
fn run_on_words(
    device: &mut Device,
    declarations: &str,
    body: &str,
    threads: u32,
    words: usize,
) -> (Vec<u32>, Outcome) {
    let program = device.load(&kernel(1, declarations, body));
    let buffer = device.zeros::<u32>(words);
    let outcome = device.launch(&program, "k", [1; 3], [threads, 1, 1], 0, &[Arg::from(&buffer)]);
    (device.download(&buffer), outcome)
}

/// Under several schedules.
fn under_schedules(test: impl Fn(&mut Device)) {
    for seed in 0..6 {
        test(&mut Device::seeded(seed));
    }
}

/// Launches one block of a kernel `k` on a buffer.
fn launch(device: &mut Device, ptx: &str, threads: u32, buffer: &Buffer) -> Outcome {
    let program = device.load(ptx);
    device.launch(&program, "k", [1; 3], [threads, 1, 1], 0, &[Arg::from(buffer)])
}
