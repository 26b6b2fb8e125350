//! What is found, and what is not.

use crate::common::{Arg, Device, assert_clean};
use crate::{kernel, launch, run_on_words, under_schedules};
use mdetr_simulator::findings::Kind;
use mdetr_simulator::options::Options;

#[test]
fn strayed_accesses_name_argument_and_thread() {
    let body = "add.u64 %rd1, %rd10, 4;\nld.global.u32 %r1, [%rd1];\nst.global.u32 [%rd10], %r1;";
    let mut device = Device::default();
    let (_, outcome) = run_on_words(&mut device, "", body, 32, 32);
    let finding = outcome.findings.iter().find(|f| f.kind == Kind::OutOfBounds).unwrap();
    assert_eq!(finding.argument.as_deref(), Some("argument 0"));
    assert_eq!(finding.thread.unwrap().thread, [31, 0, 0]);
    assert!(finding.message.contains("read of 4 bytes at byte 128 of 128"), "{finding}");
    let freed = device.zeros::<u32>(32);
    device.free(&freed);
    let ptx = kernel(1, "", "st.global.u32 [%rd10], %r0;");
    assert_eq!(launch(&mut device, &ptx, 32, &freed).findings[0].kind, Kind::UseAfterFree);
    // without exact bounds, the driver's granularity is what a GPU has
    let mut loose = Device::new(Options { bounds: false, races: false, ..Options::default() });
    assert_clean(&run_on_words(&mut loose, "", body, 32, 32).1);
}

#[test]
fn unwritten_and_misaligned_memory_is_found() {
    let mut device = Device::default();
    let ptx = kernel(1, "", "ld.global.u32 %r1, [%rd10];\nst.global.u32 [%rd10], %r1;");
    let buffer = device.uninitialized::<u32>(32);
    assert_eq!(launch(&mut device, &ptx, 32, &buffer).findings[0].kind, Kind::Uninitialized);
    assert_clean(&launch(&mut device, &ptx, 32, &buffer));
    for (space, kind) in [("shared", Kind::Uninitialized), ("local", Kind::Uninitialized)] {
        let body = format!(".{space} .u32 v[40];\nld.{space}.u32 %r1, [v+12];\nst.global.u32 [%rd10], %r1;");
        assert_eq!(run_on_words(&mut device, "", &body, 32, 32).1.findings[0].kind, kind, "{space}");
        let body = format!(".{space} .u32 v[40];\nst.{space}.u32 [v+160], %r0;");
        assert_eq!(run_on_words(&mut device, "", &body, 32, 32).1.findings[0].kind, Kind::OutOfBounds, "{space}");
    }
    let body = "ld.global.u64 %rd1, [%rd0+4];\nst.global.u64 [%rd0+8], %rd1;";
    assert_eq!(run_on_words(&mut device, "", body, 1, 4).1.findings[0].kind, Kind::Misaligned);
}

/// Writes to shared memory, `between`, reads the neighbour's word.
fn exchange(between: &str) -> String {
    format!(
        ".shared .u32 s[64];\nmov.u32 %r1, s;\nshl.b32 %r2, %r0, 2;\nadd.u32 %r3, %r1, %r2;\nst.shared.u32 [%r3], %r0;\n\
         {between}\nxor.b32 %r2, %r2, 4;\nadd.u32 %r3, %r1, %r2;\nld.shared.u32 %r4, [%r3];\nst.global.u32 [%rd10], %r4;"
    )
}

#[test]
fn races_are_found_under_any_schedule_and_order_is_understood() {
    for (between, race) in [
        ("", true),
        ("bar.sync 0;", false),
        ("bar.warp.sync 0xffffffff;", false),
        ("bar.sync 3, 64;", false),
        // converging is not ordering
        ("shfl.sync.idx.b32 %r9, %r0, 0, 31, 0xffffffff;", true),
        ("membar.gl;", true),
    ] {
        under_schedules(|device| {
            let (words, outcome) = run_on_words(device, "", &exchange(between), 64, 64);
            if race {
                let finding = outcome.findings.iter().find(|f| f.kind == Kind::Race);
                assert_eq!(finding.and_then(|f| f.argument.as_deref()), Some("shared s"), "{between}");
            } else {
                assert_clean(&outcome);
                assert_eq!(words, (0..64).map(|i| i ^ 1).collect::<Vec<_>>());
            }
        });
    }
}

#[test]
fn the_last_block_may_read_what_others_fenced() {
    // each block writes its word, fences and counts; the last one adds all up
    let body = |fence: &str| {
        format!(
            ".shared .u32 last;\nmov.u32 %r1, %ctaid.x;\nsetp.ne.u32 %p1, %r0, 0;\n@%p1 bra WAIT;\nmul.wide.u32 %rd1, %r1, 4;\n\
             add.u64 %rd1, %rd1, %rd0;\nadd.u32 %r2, %r1, 1;\nst.global.u32 [%rd1+8], %r2;\n{fence}\n\
             atom.global.add.u32 %r3, [%rd0], 1;\nst.shared.u32 [last], %r3;\nWAIT:\nbar.sync 0;\nld.shared.u32 %r3, [last];\n\
             setp.ne.u32 %p2, %r3, 7;\n@%p2 ret;\nsetp.ge.u32 %p3, %r0, 8;\n@%p3 ret;\nld.global.u32 %r4, [%rd10+8];\n\
             red.global.add.u32 [%rd0+4], %r4;"
        )
    };
    for seed in 0..4 {
        for (fence, races) in [("membar.gl;", false), ("", true), ("membar.cta;", true)] {
            let mut device = Device::seeded(seed);
            let program = device.load(&kernel(1, "", &body(fence)));
            let buffer = device.zeros::<u32>(10);
            let outcome = device.launch(&program, "k", [8, 1, 1], [64, 1, 1], 0, &[Arg::from(&buffer)]);
            assert_eq!(outcome.findings.iter().any(|f| f.kind == Kind::Race), races, "{fence:?}");
            if !races {
                assert_clean(&outcome);
                assert_eq!(device.download::<u32>(&buffer)[..2], [8, 36]);
            }
        }
    }
}

#[test]
fn nothing_of_a_block_is_left_to_the_next() {
    // 63 blocks write, or start copies that they do not wait for; the last one reads
    for (first, last) in [
        ("st.local.u32 [l], %r0;", "ld.local.u32 %r1, [l];"),
        ("st.shared.u32 [s], %r0;", "ld.shared.u32 %r1, [s];"),
        (
            "mov.u32 %r2, s;\ncp.async.ca.shared.global [%r2], [%rd0], 4;\ncp.async.commit_group;",
            "cp.async.wait_all;\nld.shared.u32 %r1, [s];",
        ),
    ] {
        let body = format!(
            ".local .u32 l;\n.shared .u32 s;\nmov.u32 %r3, %ctaid.x;\nsetp.eq.u32 %p1, %r3, 63;\n@%p1 bra LAST;\n{first}\nret;\n\
             LAST:\n{last}"
        );
        let mut device = Device::default();
        let program = device.load(&kernel(1, "", &body));
        let buffer = device.zeros::<u32>(1);
        let outcome = device.launch(&program, "k", [64, 1, 1], [1; 3], 0, &[Arg::from(&buffer)]);
        assert_eq!(outcome.findings.len(), 1, "{last}");
        assert_eq!(outcome.findings[0].kind, Kind::Uninitialized, "{last}");
        assert_eq!(outcome.findings[0].thread.unwrap().block, [63, 0, 0], "{last}");
    }
}

#[test]
fn what_is_not_modelled_is_an_error_that_names_it() {
    let mut device = Device::default();
    for (body, expected) in [
        ("wgmma.fence.sync.aligned;", "wgmma.fence.sync.aligned: not modelled"),
        ("ld.global.b128 %rd1, [%rd0];", "ld.global.b128: .b128 is not"),
        ("add.nonsense.u32 %r1, %r1, 1;", "add.nonsense.u32: .nonsense is not modelled"),
        ("mov.u32 %r1, %envreg3;", "%envreg3"),
        ("cp.async.cg.shared.global [%r1], [%rd0], 8;", "copies of 8 bytes"),
    ] {
        let ptx = kernel(1, "", body);
        let error = mdetr_simulator::vm::program::Program::load(&ptx, &mut device.memory).unwrap_err();
        assert_eq!(error.message.matches(expected).count(), 1, "{}", error.message);
    }
}

#[test]
fn a_barrier_orders_what_was_before_it() {
    // warp 1 reads what warp 0 wrote, each around its part of a barrier
    for (writer, reader, races) in [
        ("WRITE\nbar.arrive 1, 64;", "bar.sync 1, 64;", false),
        ("bar.arrive 1, 64;\nWRITE", "bar.sync 1, 64;", true),
        ("WRITE\nbar.sync 0;", "bar.sync 0;", false),
        // exits are waited for where all threads are
        ("WRITE\nexit;", "bar.sync 0;", false),
        ("WRITE\nexit;", "bar.sync 1, 32;", true),
    ] {
        let writer = writer.replace("WRITE", "st.shared.u32 [%r3], %r0;");
        let body = format!(
            ".shared .u32 s[32];\nmov.u32 %r1, s;\nand.b32 %r2, %r0, 31;\nshl.b32 %r2, %r2, 2;\nadd.u32 %r3, %r1, %r2;\n\
             setp.ge.u32 %p1, %r0, 32;\n@%p1 bra READER;\n{writer}\nexit;\nREADER:\n{reader}\nld.shared.u32 %r4, [%r3];\n\
             st.global.u32 [%rd10], %r4;"
        );
        under_schedules(|device| {
            let (_, outcome) = run_on_words(device, "", &body, 64, 64);
            // the read may come first
            let found = outcome.findings.iter().any(|f| matches!(f.kind, Kind::Race | Kind::Uninitialized));
            assert_eq!(found, races, "{writer} / {reader}: {:?}", outcome.findings);
        });
    }
}

#[test]
fn strong_accesses_race_where_one_does_not_reach_the_other() {
    let touches = |block: u32, access: &str| format!("setp.eq.u32 %p1, %r1, {block};\n@%p1 {access}\n");
    for (first, second, third, races) in [
        (
            "red.global.add.u32 [%rd0], 1;",
            "ld.volatile.global.u32 %r2, [%rd0];",
            "red.gpu.global.add.u32 [%rd0], 1;",
            false,
        ),
        ("red.cta.global.add.u32 [%rd0], 1;", "", "", false),
        ("red.cta.global.add.u32 [%rd0], 1;", "", "red.gpu.global.add.u32 [%rd0], 1;", true),
        ("st.release.gpu.global.u32 [%rd0], 1;", "", "ld.acquire.cta.global.u32 %r2, [%rd0];", true),
        // a plain read among strong ones
        ("ld.volatile.global.u32 %r2, [%rd0];", "ld.global.u32 %r2, [%rd0];", "red.global.add.u32 [%rd0], 1;", true),
    ] {
        // one block after another, and nothing orders them
        let body = [
            "mov.u32 %r1, %ctaid.x;\n",
            "W:\nld.volatile.global.u32 %r3, [%rd0+4];\nsetp.ne.u32 %p2, %r3, %r1;\n@%p2 bra W;\n",
        ];
        let accesses = [touches(0, first), touches(1, second), touches(2, third)];
        let accesses: String = accesses.into_iter().filter(|touch| touch.contains("%rd")).collect();
        let body = format!("{}{}{accesses}red.global.add.u32 [%rd0+4], 1;", body[0], body[1]);
        let mut device = Device::default();
        let program = device.load(&kernel(1, "", &body));
        let buffer = device.zeros::<u32>(2);
        let outcome = device.launch(&program, "k", [3, 1, 1], [1; 3], 0, &[Arg::from(&buffer)]);
        assert_eq!(outcome.findings.iter().any(|f| f.kind == Kind::Race), races, "{first} {second} {third}");
    }
}

#[test]
fn a_lane_of_each_warp_reads_and_the_last_writes() {
    let body = ".shared .u32 s[2];\nsetp.ne.u32 %p1, %r0, 0;\n@!%p1 st.shared.u32 [s], 3;\n@!%p1 st.shared.u32 [s+4], 0;\n\
        bar.sync 0;\nand.b32 %r1, %r0, 31;\nsetp.ne.u32 %p1, %r1, 0;\n@%p1 exit;\nld.shared.u32 %r2, [s];\nFENCE\n\
        atom.shared.add.u32 %r3, [s+4], 1;\nsetp.eq.u32 %p2, %r3, 2;\n@%p2 st.shared.u32 [s], 9;";
    for (fence, races) in [("membar.cta;", false), ("", true)] {
        under_schedules(|device| {
            let (_, outcome) = run_on_words(device, "", &body.replace("FENCE", fence), 96, 1);
            assert_eq!(outcome.findings.iter().any(|f| f.kind == Kind::Race), races, "{:?}", outcome.findings);
        });
    }
}
