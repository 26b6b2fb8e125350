//! Accesses to what is not there, was freed, or was never written.

use mdetr_simulator::findings::Kind;

use crate::support::{Case, check};

#[test]
fn bounds() {
    check(
        "planted/bounds",
        &[
            Case {
                name: "write_past",
                kinds: &[Kind::OutOfBounds],
                argument: Some("argument 0"),
                thread: |t| (t.block[0], t.thread[0]) == (1, 36),
                launch: |loaded, kernel| {
                    let y = loaded.device.uninitialized::<f32>(100);
                    loaded.launch(kernel, 2, 64, &[(&y).into(), 100_i32.into()])
                },
            },
            Case {
                name: "write_neighbour",
                kinds: &[Kind::OutOfBounds],
                argument: Some("argument 0"),
                thread: |t| t.thread[0] < 16,
                launch: |loaded, kernel| {
                    let y = loaded.device.uninitialized::<f32>(64);
                    loaded.device.uninitialized::<f32>(64);
                    // 512 bytes from y, where cudaMalloc would put the other
                    loaded.launch(kernel, 1, 32, &[(&y).into(), 8_i64.into(), 16_i32.into(), 64_i32.into()])
                },
            },
            Case {
                name: "write_before",
                kinds: &[Kind::OutOfBounds],
                argument: Some("argument 0"),
                thread: |t| t.block[0] == 0 && t.thread[0] == 0,
                launch: |loaded, kernel| {
                    let (y, x) = (loaded.device.uninitialized::<f32>(70), loaded.device.upload(&[1_f32; 70]));
                    loaded.launch(kernel, 3, 32, &[(&y).into(), (&x).into(), 70_i32.into()])
                },
            },
            Case {
                name: "read_freed",
                kinds: &[Kind::UseAfterFree],
                argument: Some("argument 1"),
                thread: |_| true,
                launch: |loaded, kernel| {
                    let (y, x) = (loaded.device.uninitialized::<f32>(70), loaded.device.upload(&[1_f32; 70]));
                    if kernel == "bug_read_freed" {
                        loaded.device.free(&x);
                    }
                    loaded.launch(kernel, 3, 32, &[(&y).into(), (&x).into(), 70_i32.into()])
                },
            },
            Case {
                name: "misaligned",
                kinds: &[Kind::Misaligned],
                argument: Some("argument 1"),
                thread: |t| t.thread[0] % 4 != 0,
                launch: |loaded, kernel| {
                    let (y, x) = (loaded.device.uninitialized::<f32>(8), loaded.device.upload(&[1_f32; 5 * 8]));
                    loaded.launch(kernel, 1, 32, &[(&y).into(), (&x).into(), 5_i32.into(), 8_i32.into()])
                },
            },
            Case {
                name: "shared_overflow",
                kinds: &[Kind::OutOfBounds],
                argument: Some("tile"),
                thread: |t| t.thread[0] == 63,
                launch: |loaded, kernel| {
                    let (y, x) = (loaded.device.uninitialized::<f32>(64), loaded.device.upload(&[1_f32; 64]));
                    loaded.launch(kernel, 1, 64, &[(&y).into(), (&x).into()])
                },
            },
            Case {
                name: "dynamic_shared_overflow",
                kinds: &[Kind::OutOfBounds],
                argument: Some("dynamic"),
                thread: |t| t.thread[0] == 63,
                launch: |loaded, kernel| {
                    let y = loaded.device.uninitialized::<f32>(63);
                    let args = [(&y).into(), 63_i32.into()];
                    loaded.device.launch(&loaded.program, kernel, [1; 3], [64, 1, 1], 4 * 63, &args)
                },
            },
            Case {
                name: "local_overflow",
                kinds: &[Kind::OutOfBounds],
                argument: Some("local memory"),
                thread: |t| t.thread[0] == 2,
                launch: |loaded, kernel| {
                    let mut classes: Vec<i32> = (0..4 * 10).map(|i| i % 8).collect();
                    classes[2 * 10 + 7] = 8;
                    let (y, classes) = (loaded.device.uninitialized::<i32>(4 * 8), loaded.device.upload(&classes));
                    loaded.launch(kernel, 1, 4, &[(&y).into(), (&classes).into(), 10_i32.into()])
                },
            },
        ],
    );
}

#[test]
fn uninitialized() {
    check(
        "planted/uninitialized",
        &[
            Case {
                name: "unwritten_global",
                kinds: &[Kind::Uninitialized],
                argument: Some("argument 0"),
                thread: |t| t.block[0] * 32 + t.thread[0] < 50,
                launch: |loaded, kernel| {
                    let (y, x) = (loaded.device.uninitialized::<f32>(50), loaded.device.upload(&[1_f32; 50]));
                    loaded.launch(kernel, 2, 32, &[(&y).into(), (&x).into(), 50_i32.into()])
                },
            },
            Case {
                name: "unwritten_row",
                kinds: &[Kind::Uninitialized],
                argument: Some("argument 1"),
                thread: |t| (63 - t.thread[0]) % 7 == 6,
                launch: |loaded, kernel| {
                    let [y, scratch] = [(); 2].map(|()| loaded.device.uninitialized::<f32>(64));
                    loaded.launch(kernel, 1, 64, &[(&y).into(), (&scratch).into(), 64_i32.into()])
                },
            },
            Case {
                name: "unwritten_shared",
                kinds: &[Kind::Uninitialized],
                argument: Some("tile"),
                thread: |t| t.thread[0] == 0,
                launch: |loaded, kernel| {
                    let (y, x) = (loaded.device.uninitialized::<f32>(1), loaded.device.upload(&[1_f32; 50]));
                    loaded.launch(kernel, 1, 64, &[(&y).into(), (&x).into(), 50_i32.into()])
                },
            },
        ],
    );
}
