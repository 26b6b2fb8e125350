//! Control flow: lanes part and meet again.

use crate::common::{Device, assert_clean};
use crate::{run_on_words, under_schedules};
use mdetr_simulator::findings::Kind;
use mdetr_simulator::options::Options;

#[test]
fn lanes_loop_as_often_as_each_wants() {
    under_schedules(|device| {
        let body = "mov.u32 %r1, 0;\nmov.u32 %r2, 0;\nLOOP:\nsetp.ge.u32 %p1, %r1, %r0;\n@%p1 bra DONE;\n\
            add.u32 %r1, %r1, 1;\nand.b32 %r3, %r1, 1;\nsetp.eq.u32 %p2, %r3, 0;\n@%p2 bra LOOP;\n\
            add.u32 %r2, %r2, %r1;\nbra.uni LOOP;\nDONE:\nst.global.u32 [%rd10], %r2;";
        let (words, outcome) = run_on_words(device, "", body, 77, 77);
        assert_clean(&outcome);
        let odd_sum = |n: u32| (0..=n).filter(|i| i % 2 == 1).sum::<u32>();
        assert_eq!(words, (0..77).map(odd_sum).collect::<Vec<_>>());
    });
}

#[test]
fn a_table_of_branches() {
    under_schedules(|device| {
        let body = "and.b32 %r1, %r0, 3;\nTABLE: .branchtargets A, B, C, D;\nbrx.idx %r1, TABLE;\n\
            A:\nmov.u32 %r2, 10;\nbra E;\nB:\nmov.u32 %r2, 20;\nbra E;\nC:\nmov.u32 %r2, 30;\nD:\nmov.u32 %r2, 40;\n\
            E:\nst.global.u32 [%rd10], %r2;";
        let (words, outcome) = run_on_words(device, "", body, 40, 40);
        assert_clean(&outcome);
        assert_eq!(words[36..], [10, 20, 40, 40]);
    });
}

#[test]
fn functions_call_themselves() {
    let function = ".func (.param .b32 out) fib(.param .b32 n)\n{\n.reg .b32 %r<6>;\n.reg .pred %p;\n.local .b32 kept;\n\
        ld.param.u32 %r0, [n];\nsetp.lt.u32 %p, %r0, 2;\n@%p bra BASE;\nst.local.u32 [kept], %r0;\nsub.u32 %r1, %r0, 1;\n\
        {\n.param .b32 a;\n.param .b32 b;\nst.param.b32 [a], %r1;\ncall (b), fib, (a);\nld.param.b32 %r2, [b];\n}\n\
        ld.local.u32 %r5, [kept];\nsub.u32 %r3, %r5, 2;\n\
        {\n.param .b32 a;\n.param .b32 b;\nst.param.b32 [a], %r3;\ncall (b), fib, (a);\nld.param.b32 %r4, [b];\n}\n\
        add.u32 %r2, %r2, %r4;\nst.param.b32 [out], %r2;\nret;\nBASE:\nst.param.b32 [out], %r0;\nret;\n}";
    let body = "and.b32 %r1, %r0, 7;\n{\n.param .b32 a;\n.param .b32 b;\nst.param.b32 [a], %r1;\ncall (b), fib, (a);\n\
        ld.param.b32 %r2, [b];\n}\nst.global.u32 [%rd10], %r2;";
    under_schedules(|device| {
        let (words, outcome) = run_on_words(device, function, body, 35, 35);
        assert_clean(&outcome);
        let fib = [0, 1, 1, 2, 3, 5, 8, 13];
        assert_eq!(words, (0..35).map(|i| fib[i % 8]).collect::<Vec<_>>());
    });
}

#[test]
fn a_recursion_without_end_runs_out_of_stack() {
    let function = ".func f()\n{\n.local .b8 room[64];\n.reg .b64 %rd;\nmov.u64 %rd, room;\nst.local.u64 [%rd], %rd;\ncall f;\nret;\n}";
    let without_locals = ".func f()\n{\ncall f;\nret;\n}";
    for function in [function, without_locals] {
        let (_, outcome) = run_on_words(&mut Device::default(), function, "call f;", 32, 32);
        assert_eq!(outcome.findings[0].kind, Kind::OutOfBounds);
        assert!(outcome.findings[0].message.contains("stack"), "{}", outcome.findings[0]);
    }
}

#[test]
fn lanes_of_a_warp_take_turns_at_a_lock() {
    // every lane takes a lock, adds one without an atomic, and gives the lock back
    let body = "LOOP:\natom.global.cas.b32 %r1, [%rd0], 0, 1;\nsetp.ne.u32 %p1, %r1, 0;\n@%p1 bra LOOP;\nmembar.gl;\n\
        ld.global.u32 %r2, [%rd0+4];\nadd.u32 %r2, %r2, 1;\nst.global.u32 [%rd0+4], %r2;\nmembar.gl;\n\
        atom.global.exch.b32 %r3, [%rd0], 0;";
    under_schedules(|device| {
        let (words, outcome) = run_on_words(device, "", body, 64, 2);
        assert_clean(&outcome);
        assert_eq!(words, [0, 64]);
    });
}

#[test]
fn a_loop_without_end_is_stopped_by_name() {
    let mut device = Device::new(Options { limit: 10_000, ..Options::default() });
    let (_, outcome) = run_on_words(&mut device, "", "LOOP:\nbra LOOP;", 32, 32);
    let finding = &outcome.findings[0];
    assert_eq!((finding.kind, finding.place.as_str()), (Kind::EndlessLoop, "k"));
    assert!(finding.line.as_deref().is_some_and(|line| line.starts_with("ptx:")), "{finding}");
}

#[test]
fn barriers_count_and_vote() {
    let body = "setp.lt.u32 %p1, %r0, 40;\nbar.red.popc.u32 %r1, 0, %p1;\nbar.red.and.pred %p2, 0, %p1;\n\
        bar.red.or.pred %p3, 0, %p1;\nselp.u32 %r2, 100, 0, %p2;\nselp.u32 %r3, 1000, 0, %p3;\nadd.u32 %r1, %r1, %r2;\n\
        add.u32 %r1, %r1, %r3;\nst.global.u32 [%rd10], %r1;";
    under_schedules(|device| {
        let (words, outcome) = run_on_words(device, "", body, 100, 100);
        assert_clean(&outcome);
        assert_eq!(words, vec![1040; 100]);
    });
}

#[test]
fn lanes_of_a_warp_vote_once_each_wherever_they_come_from() {
    let body = "setp.ge.u32 %p1, %r0, 0;\nsetp.lt.u32 %p2, %r0, 8;\n@%p2 bra FEW;\nbarrier.cta.red.popc.u32 %r1, 0, %p1;\n\
        bra DONE;\nFEW:\nbarrier.cta.red.popc.u32 %r1, 0, %p1;\nDONE:\nst.global.u32 [%rd10], %r1;";
    let (words, outcome) = run_on_words(&mut Device::default(), "", body, 64, 64);
    assert_clean(&outcome);
    assert_eq!(words, [64; 64]);
}

#[test]
fn a_warp_waits_for_exactly_the_members_of_a_shuffle() {
    // odd lanes shuffle among themselves in one branch, even ones in the other
    let body = "and.b32 %r1, %r0, 1;\nsetp.eq.u32 %p1, %r1, 0;\n@%p1 bra EVEN;\n\
        shfl.sync.bfly.b32 %r2, %r0, 2, 31, 0xaaaaaaaa;\nbra DONE;\n\
        EVEN:\nshfl.sync.bfly.b32 %r2, %r0, 4, 31, 0x55555555;\nDONE:\nst.global.u32 [%rd10], %r2;";
    under_schedules(|device| {
        let (words, outcome) = run_on_words(device, "", body, 32, 32);
        assert_clean(&outcome);
        assert_eq!(words, (0..32).map(|lane| if lane % 2 == 1 { lane ^ 2 } else { lane ^ 4 }).collect::<Vec<_>>());
    });
}

#[test]
fn exited_lanes_are_not_waited_for_and_not_read() {
    let body = "setp.ge.u32 %p1, %r0, 16;\n@%p1 exit;\nshfl.sync.idx.b32 %r2, %r0, 3, 31, 0xffffffff;\n\
        st.global.u32 [%rd10], %r2;";
    under_schedules(|device| {
        let (words, outcome) = run_on_words(device, "", body, 32, 32);
        assert_clean(&outcome);
        assert_eq!(words[..17], [[3; 16].as_slice(), &[0]].concat());
        let (_, outcome) = run_on_words(device, "", &body.replace("%r0, 3, 31", "%r0, 20, 31"), 32, 32);
        assert_eq!(outcome.findings[0].kind, Kind::DivergentWarp);
        let message = &outcome.findings[0].message;
        assert!(message.contains("lanes 0-15 read a lane"), "{message}");
    });
}

#[test]
fn a_sync_of_the_warp_does_not_wait_for_lanes_that_exit() {
    let body =
        "setp.ge.u32 %p1, %r0, 16;\n@%p1 bra END;\nbar.warp.sync 0xffffffff;\nst.global.u32 [%rd10], %r0;\nEND:";
    under_schedules(|device| {
        let (words, outcome) = run_on_words(device, "", body, 32, 32);
        assert_clean(&outcome);
        assert_eq!(words[15..17], [15, 0]);
    });
}

#[test]
fn arguments_of_printf_lie_where_their_sizes_align_them() {
    let declarations = ".extern .func (.param .b32 r) vprintf(.param .b64 f, .param .b64 a);\n\
        .global .align 1 .b8 text[12] = {37, 100, 32, 37, 103, 32, 37, 115, 10};\n.global .align 1 .b8 word[3] = {104, 105};";
    let body = ".local .align 8 .b8 l[24];\nst.local.u32 [l], 7;\nmov.u64 %rd1, 0x3ff8000000000000;\n\
        st.local.u64 [l+8], %rd1;\nmov.u64 %rd2, word;\nst.local.u64 [l+16], %rd2;\nmov.u64 %rd3, text;\nmov.u64 %rd4, l;\n\
        cvta.local.u64 %rd4, %rd4;\n{\n.param .b64 f;\n.param .b64 a;\n.param .b32 r;\nst.param.b64 [f], %rd3;\n\
        st.param.b64 [a], %rd4;\ncall (r), vprintf, (f, a);\nld.param.b32 %r1, [r];\n}\nst.global.u32 [%rd10], %r1;";
    let (words, outcome) = run_on_words(&mut Device::default(), declarations, body, 1, 1);
    assert_clean(&outcome);
    assert_eq!((outcome.printed.as_str(), words[0]), ("7 1.5 hi\n", 3));
}

#[test]
fn members_that_never_come_are_named() {
    let body = "setp.lt.u32 %p1, %r0, 8;\n@%p1 bra FEW;\nbar.warp.sync 0xffffff00;\nbar.sync 0;\nbra DONE;\n\
        FEW:\nbar.warp.sync 0x000001ff;\nDONE:\n";
    let (_, outcome) = run_on_words(&mut Device::default(), "", body, 32, 32);
    let finding = &outcome.findings[0];
    assert_eq!(finding.kind, Kind::DivergentWarp);
    assert!(finding.message.contains("lanes 0-7 wait for lanes 8"), "{finding}");
}

#[test]
fn barriers_in_branches_are_found() {
    for body in [
        // part of a warp never comes
        "setp.lt.u32 %p1, %r0, 16;\n@!%p1 bra DONE;\nbar.sync 0;\nDONE:\n",
        // two barriers for one warp
        "setp.lt.u32 %p1, %r0, 16;\n@%p1 bra A;\nbar.sync 0;\nbra DONE;\nA:\nbar.sync 0;\nDONE:\n",
        // a named barrier that too few reach
        "bar.sync 1, 96;\n",
        "bar.sync 16;\n",
    ] {
        under_schedules(|device| {
            let (_, outcome) = run_on_words(device, "", body, 64, 64);
            assert_eq!(outcome.findings.first().map(|f| f.kind), Some(Kind::DivergentBarrier), "{body}");
        });
    }
    // a last warp that lacks lanes counts as a whole one
    assert_clean(&run_on_words(&mut Device::default(), "", "bar.sync 1, 64;\n", 48, 48).1);
    // a warp as a whole may be gone
    let body = "setp.ge.u32 %p1, %r0, 32;\n@%p1 exit;\nbar.sync 0;\n";
    assert_clean(&run_on_words(&mut Device::default(), "", body, 64, 64).1);
}

#[test]
fn lanes_meet_in_a_function_that_they_call_at_different_times() {
    let function = ".func (.param .b32 out) f(.param .b32 n)\n{\n.reg .b32 %r<2>;\nld.param.u32 %r0, [n];\n\
        shfl.sync.bfly.b32 %r1, %r0, 16, 31, -1;\nst.param.b32 [out], %r1;\nret;\n}";
    // half of the warp loops for longer than a turn lasts
    let body = "setp.ge.u32 %p1, %r0, 16;\n@%p1 bra CALL;\nmov.u32 %r1, 0;\nLOOP:\nadd.u32 %r1, %r1, 1;\n\
        setp.lt.u32 %p2, %r1, 9000;\n@%p2 bra LOOP;\nCALL:\n{\n.param .b32 a;\n.param .b32 b;\nst.param.b32 [a], %r0;\n\
        call (b), f, (a);\nld.param.b32 %r2, [b];\n}\nst.global.u32 [%rd10], %r2;";
    under_schedules(|device| {
        let (words, outcome) = run_on_words(device, function, body, 32, 32);
        assert_clean(&outcome);
        assert_eq!(words, (0..32).map(|i| i ^ 16).collect::<Vec<_>>());
    });
}

#[test]
fn a_seed_parts_lanes() {
    let body = "mov.u32 %r1, 0;\nLOOP:\nadd.u32 %r1, %r1, 1;\nsetp.lt.u32 %p1, %r1, 200;\n@%p1 bra LOOP;\n\
        activemask.b32 %r2;\nst.global.u32 [%rd10], %r2;";
    let together = |seed| {
        let (words, outcome) = run_on_words(&mut Device::seeded(seed), "", body, 32, 32);
        assert_clean(&outcome);
        words == [u32::MAX; 32]
    };
    assert!(together(0) && !(1..9).all(together));
}

#[test]
fn who_holds_a_lock_goes_on_while_lanes_of_its_warp_spin() {
    let body = "LOOP:\natom.global.cas.b32 %r1, [%rd0], 0, 1;\nsetp.ne.u32 %p1, %r1, 0;\n@%p1 bra LOOP;\nmembar.gl;\n\
        mov.u32 %r2, 0;\nMORE:\nadd.u32 %r2, %r2, 1;\nsetp.lt.u32 %p1, %r2, 1000;\n@%p1 bra MORE;\n\
        ld.global.u32 %r3, [%rd0+4];\nadd.u32 %r3, %r3, 1;\nst.global.u32 [%rd0+4], %r3;\nmembar.gl;\n\
        atom.global.exch.b32 %r3, [%rd0], 0;";
    for seed in 0..6 {
        // the section takes 100 thousand instructions
        let mut device = Device::new(Options { seed, limit: 1_000_000, ..Options::default() });
        let (words, outcome) = run_on_words(&mut device, "", body, 32, 2);
        assert_clean(&outcome);
        assert_eq!(words, [0, 32]);
    }
}
