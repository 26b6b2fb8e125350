//! Threads that do not wait for each other, or for something that never comes.

use mdetr_simulator::findings::Kind;
use mdetr_simulator::vm::launch::Outcome;

use crate::support::{Case, Loaded, check};

/// y and x of 64 floats.
fn of_64(loaded: &mut Loaded, kernel: &str, threads: u32) -> Outcome {
    let (y, x) = (loaded.device.uninitialized::<f32>(64), loaded.device.upload(&[1_f32; 64]));
    loaded.launch(kernel, 1, threads, &[(&y).into(), (&x).into()])
}

#[test]
fn shared_memory() {
    let race = |name, variable, launch| Case {
        name,
        kinds: &[Kind::Race],
        argument: Some(variable),
        thread: |_| true,
        launch,
    };
    check(
        "planted/shared_races",
        &[
            race("missing_syncthreads", "tile", |loaded, kernel| of_64(loaded, kernel, 64)),
            race("missing_syncthreads_in_loop", "tile", |loaded, kernel| {
                let (y, x) = (loaded.device.uninitialized::<f32>(64), loaded.device.upload(&[1_f32; 3 * 64]));
                loaded.launch(kernel, 1, 64, &[(&y).into(), (&x).into(), 3_i32.into()])
            }),
            race("missing_syncwarp", "of_warp", |loaded, kernel| of_64(loaded, kernel, 64)),
            race("lockstep_reduction", "partial", |loaded, kernel| of_64(loaded, kernel, 32)),
            race("shuffle_for_syncwarp", "tile", |loaded, kernel| of_64(loaded, kernel, 32)),
        ],
    );
}

#[test]
fn asynchronous_copies() {
    let missing =
        |name, kinds, variable, launch| Case { name, kinds, argument: Some(variable), thread: |_| true, launch };
    check(
        "planted/async_copies",
        &[
            missing("no_wait", &[Kind::MissingAsyncWait], "tile", |loaded, kernel| of_64(loaded, kernel, 64)),
            missing("barrier_without_wait", &[Kind::MissingAsyncWait], "tile", |loaded, kernel| {
                of_64(loaded, kernel, 64)
            }),
            // the other may have waited already, with nothing to order that before the read
            missing("wait_after_barrier", &[Kind::MissingAsyncWait, Kind::Race], "tile", |loaded, kernel| {
                of_64(loaded, kernel, 64)
            }),
            missing("wait_for_fewer", &[Kind::MissingAsyncWait], "second", |loaded, kernel| {
                of_64(loaded, kernel, 32)
            }),
        ],
    );
}

#[test]
fn global_memory() {
    check(
        "planted/global_races",
        &[
            Case {
                name: "two_blocks_write",
                kinds: &[Kind::Race],
                argument: Some("argument 0"),
                thread: |t| t.thread[0] == 0,
                launch: |loaded, kernel| {
                    let (y, x) = (loaded.device.uninitialized::<f32>(4), loaded.device.upload(&[1_f32; 4]));
                    loaded.launch(kernel, 4, 32, &[(&y).into(), (&x).into()])
                },
            },
            Case {
                name: "stencil_in_place",
                kinds: &[Kind::Race],
                argument: Some("argument 1"),
                thread: |t| [0, 63].contains(&t.thread[0]),
                launch: |loaded, kernel| {
                    let (y, x) = (loaded.device.uninitialized::<f32>(200), loaded.device.upload(&[1_f32; 200]));
                    loaded.launch(kernel, 4, 64, &[(&y).into(), (&x).into(), 200_i32.into()])
                },
            },
            Case {
                name: "non_atomic_add",
                kinds: &[Kind::Race],
                argument: Some("argument 0"),
                thread: |t| t.block[0] * 32 + t.thread[0] < 100,
                launch: |loaded, kernel| {
                    let x: Vec<i32> = (0..100).map(|i| i * i % 7).collect();
                    let (counts, x) = (loaded.device.zeros::<i32>(7), loaded.device.upload(&x));
                    loaded.launch(kernel, 4, 32, &[(&counts).into(), (&x).into(), 100_i32.into()])
                },
            },
            Case {
                name: "atomic_and_not",
                kinds: &[Kind::Race],
                argument: Some("argument 0"),
                thread: |t| t.block[0] * 32 + t.thread[0] < 100,
                launch: |loaded, kernel| {
                    let (sum, x) = (loaded.device.zeros::<i32>(1), loaded.device.upload(&[1_i32; 100]));
                    loaded.launch(kernel, 4, 32, &[(&sum).into(), (&x).into(), 100_i32.into()])
                },
            },
            Case {
                name: "missing_threadfence",
                kinds: &[Kind::Race],
                argument: Some("argument 1"),
                thread: |t| t.thread[0] < 6,
                launch: |loaded, kernel| {
                    let [y, of_block] = [(); 2].map(|()| loaded.device.uninitialized::<f32>(6));
                    let (counter, x) = (loaded.device.zeros::<u32>(1), loaded.device.upload(&[1_f32; 6]));
                    loaded.launch(kernel, 6, 32, &[(&y).into(), (&of_block).into(), (&counter).into(), (&x).into()])
                },
            },
        ],
    );
}

#[test]
fn divergence() {
    let absent = |name, kinds, thread, launch| Case { name, kinds, argument: None, thread, launch };
    check(
        "planted/divergence",
        &[
            absent(
                "barrier_in_branch",
                &[Kind::DivergentBarrier],
                |_| true,
                |loaded, kernel| {
                    let (y, x) = (loaded.device.uninitialized::<f32>(20), loaded.device.upload(&[1_f32; 20]));
                    loaded.launch(kernel, 1, 64, &[(&y).into(), (&x).into(), 20_i32.into()])
                },
            ),
            absent(
                "barrier_in_loop",
                &[Kind::DivergentBarrier],
                |_| true,
                |loaded, kernel| {
                    let (y, x) = (loaded.device.uninitialized::<f32>(100), loaded.device.upload(&[1_f32; 100]));
                    loaded.launch(kernel, 1, 64, &[(&y).into(), (&x).into(), 100_i32.into()])
                },
            ),
            absent("two_barriers", &[Kind::DivergentBarrier], |_| true, |loaded, kernel| of_64(loaded, kernel, 64)),
            absent(
                "shuffle_from_exited",
                &[Kind::DivergentWarp],
                |t| t.thread[0] < 20,
                |loaded, kernel| {
                    let (y, x) = (loaded.device.uninitialized::<f32>(20), loaded.device.upload(&[1_f32; 20]));
                    loaded.launch(kernel, 1, 32, &[(&y).into(), (&x).into(), 20_i32.into()])
                },
            ),
            absent(
                "shuffle_outside_mask",
                &[Kind::DivergentWarp],
                |t| t.thread[0] == 15,
                |loaded, kernel| of_64(loaded, kernel, 32),
            ),
            absent(
                "voter_outside_mask",
                &[Kind::DivergentWarp],
                |t| (16..20).contains(&t.thread[0]),
                |loaded, kernel| of_64(loaded, kernel, 32),
            ),
            absent(
                "endless_loop",
                &[Kind::EndlessLoop],
                |t| t.thread[0] == 0,
                |loaded, kernel| {
                    let flag = loaded.device.zeros::<u32>(1);
                    loaded.launch(kernel, 1, 64, &[(&flag).into(), 63_i32.into()])
                },
            ),
            absent(
                "assert",
                &[Kind::Assertion],
                |t| t.block[0] == 1 && t.thread[0] == 13,
                |loaded, kernel| {
                    let mut x = [1_f32; 50];
                    x[32 + 13] = -1.0;
                    let (y, x) = (loaded.device.uninitialized::<f32>(50), loaded.device.upload(&x));
                    loaded.launch(kernel, 2, 32, &[(&y).into(), (&x).into(), 50_i32.into()])
                },
            ),
        ],
    );
}
