//! State spaces, widths, atomics, asynchronous copies, matrices.

use crate::common::{Arg, Device, assert_clean};
use crate::{kernel, run_on_words, under_schedules};

#[test]
fn every_width_and_vector_goes_through_memory() {
    // bytes 0..16 of a buffer to registers and back, 16 bytes further
    let mut device = Device::default();
    let body = "ld.global.v2.u8 {%r1, %r2}, [%rd0];\nst.global.v2.u8 [%rd0+16], {%r1, %r2};\nld.global.s16 %r3, [%rd0+2];\n\
        st.global.u32 [%rd0+32], %r3;\nst.global.u16 [%rd0+18], %r3;\nld.global.u32 %rd3, [%rd0+4];\n\
        st.global.b32 [%rd0+20], %rd3;\nld.global.s8 %rd4, [%rd0+8];\nst.global.u64 [%rd0+40], %rd4;\n\
        ld.global.u64 %rd5, [%rd0+8];\nst.global.u64 [%rd0+24], %rd5;\nld.global.v4.f32 {%f0, %f1, %f2, %f3}, [%rd0];\n\
        st.global.v4.f32 [%rd0+48], {%f0, %f1, %f2, %f3};\nld.global.s8 %rs1, [%rd0+9];\nst.global.u16 [%rd0+64], %rs1;\n\
        mov.b32 %r4, {%rs1, %rs1};\nst.global.u32 [%rd0+68], %r4;";
    let program = device.load(&kernel(1, "", body));
    let bytes: Vec<u8> = (0..72).map(|i| if i < 16 { 0x80 | i } else { 0 }).collect();
    let buffer = device.upload(&bytes);
    assert_clean(&device.launch(&program, "k", [1; 3], [1; 3], 0, &[Arg::from(&buffer)]));
    let out: Vec<u8> = device.download(&buffer);
    assert_eq!(out[16..32], bytes[..16]);
    assert_eq!(out[32..36], [0x82, 0x83, 0xff, 0xff], "signed, into a wider register");
    assert_eq!(out[40..48], [0x88, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]);
    assert_eq!(out[48..64], bytes[..16]);
    assert_eq!(out[64..66], [0x89, 0xff]);
    assert_eq!(out[68..72], [0x89, 0xff, 0x89, 0xff], "no bits above those of a register");
}

#[test]
fn generic_addresses_reach_every_space() {
    let declarations = ".const .align 4 .u32 c[2] = {7, 11};\n.global .align 8 .u64 g[1] = {c+4};";
    let body = ".shared .u32 s[64];\n.local .u32 l[2];\nmov.u64 %rd1, l;\ncvta.local.u64 %rd1, %rd1;\n\
        st.u32 [%rd1+4], %r0;\nld.local.u32 %r1, [l+4];\nmov.u64 %rd2, s;\ncvta.shared.u64 %rd2, %rd2;\n\
        mad.wide.u32 %rd2, %r0, 4, %rd2;\nst.u32 [%rd2], %r1;\ncvta.to.shared.u64 %rd3, %rd2;\nld.shared.u32 %r2, [%rd3];\n\
        ld.global.u64 %rd4, [g];\ncvta.const.u64 %rd4, %rd4;\nld.u32 %r3, [%rd4];\nadd.u32 %r2, %r2, %r3;\n\
        isspacep.shared %p1, %rd2;\n@%p1 add.u32 %r2, %r2, 100;\nisspacep.shared %p1, %rd1;\n@%p1 add.u32 %r2, %r2, 1000;\n\
        st.u32 [%rd10], %r2;";
    let (words, outcome) = run_on_words(&mut Device::default(), declarations, body, 64, 64);
    assert_clean(&outcome);
    assert_eq!(words, (0..64).map(|i| i + 111).collect::<Vec<_>>());
}

#[test]
fn atomics_of_all_threads_add_up() {
    under_schedules(|device| {
        let body = "atom.global.add.u32 %r1, [%rd0], 1;\nred.global.max.s32 [%rd0+4], %r0;\n\
            atom.global.inc.u32 %r2, [%rd0+8], 9;\nred.global.or.b32 [%rd0+12], 0x100;\nmov.u64 %rd1, 3;\n\
            red.global.add.u64 [%rd0+16], %rd1;\nmov.f32 %f1, 0f3F000000;\nred.global.add.f32 [%rd0+24], %f1;\n\
            atom.global.min.u32 %r3, [%rd0+28], %r0;\nmov.u64 %rd2, -1;\natom.global.xor.b64 %rd3, [%rd0+32], %rd2;\n\
            atom.global.dec.u32 %r4, [%rd0+40], 4;";
        let program = device.load(&kernel(1, "", body));
        // the last word starts above the bound of `dec`
        let buffer = device.upload(&[0_u32, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9]);
        assert_clean(&device.launch(&program, "k", [5, 1, 1], [60, 1, 1], 0, &[Arg::from(&buffer)]));
        let words: Vec<u32> = device.download(&buffer);
        assert_eq!(words, [300, 59, 0, 0x100, 900, 0, 150_f32.to_bits(), 0, 0, 0, 0]);
    });
}

#[test]
fn asynchronous_copies_arrive_when_they_are_waited_for() {
    let body = ".shared .align 16 .b8 s[1024];\nmov.u32 %r1, s;\nshl.b32 %r2, %r0, 4;\nadd.u32 %r1, %r1, %r2;\n\
        mul.wide.u32 %rd1, %r0, 16;\nadd.u64 %rd1, %rd1, %rd0;\ncp.async.cg.shared.global [%r1], [%rd1], 16;\n\
        cp.async.commit_group;\ncp.async.wait_group 0;\nbar.sync 0;\nxor.b32 %r2, %r2, 16;\nmov.u32 %r3, s;\n\
        add.u32 %r3, %r3, %r2;\nld.shared.u32 %r4, [%r3+12];\nbar.sync 0;\nst.global.u32 [%rd1], %r4;\n\
        mov.u32 %r5, 5;\ncp.async.ca.shared.global [%r1], [%rd1+4], 8, %r5;\ncp.async.wait_all;\n\
        ld.shared.u64 %rd2, [%r1];\nst.global.u64 [%rd1+8], %rd2;";
    under_schedules(|device| {
        let program = device.load(&kernel(1, "", body));
        let buffer = device.upload(&(0..256).map(|i| i | 0x0a0b_0c00).collect::<Vec<u32>>());
        assert_clean(&device.launch(&program, "k", [1; 3], [64, 1, 1], 0, &[Arg::from(&buffer)]));
        let words: Vec<u32> = device.download(&buffer);
        for thread in 0..64 {
            let neighbour = (thread ^ 1) as u32;
            assert_eq!(words[4 * thread], (4 * neighbour + 3) | 0x0a0b_0c00);
            // five bytes, then zeros
            let kept = words[4 * thread + 1];
            assert_eq!(words[4 * thread + 2..][..2], [kept, (4 * thread as u32 + 2) & 0xff]);
        }
    });
}

#[test]
fn matrices_are_spread_over_lanes() {
    // 16 x 8 elements with value 100 row + column; x2 gives lane l elements (l / 4, 2 (l % 4)) of both
    let body = ".shared .align 16 .b8 s[256];\nmov.u32 %r1, s;\nshl.b32 %r2, %r0, 3;\nadd.u32 %r3, %r1, %r2;\n\
        shr.u32 %r4, %r0, 1;\nmul.lo.u32 %r4, %r4, 100;\nand.b32 %r5, %r0, 1;\nshl.b32 %r5, %r5, 2;\nadd.u32 %r4, %r4, %r5;\n\
        cvt.u16.u32 %rs0, %r4;\nadd.u16 %rs1, %rs0, 1;\nadd.u16 %rs2, %rs0, 2;\nadd.u16 %rs3, %rs0, 3;\n\
        st.shared.v4.u16 [%r3], {%rs0, %rs1, %rs2, %rs3};\nbar.sync 0;\nand.b32 %r6, %r0, 15;\nshl.b32 %r6, %r6, 4;\n\
        add.u32 %r6, %r6, %r1;\nldmatrix.sync.aligned.m8n8.x2.shared.b16 {%r7, %r8}, [%r6];\n\
        st.global.u32 [%rd10], %r7;\nst.global.u32 [%rd10+128], %r8;\n\
        ldmatrix.sync.aligned.m8n8.x1.trans.shared.b16 {%r9}, [%r6];\nst.global.u32 [%rd10+256], %r9;";
    under_schedules(|device| {
        let (words, outcome) = run_on_words(device, "", body, 32, 96);
        assert_clean(&outcome);
        for lane in 0..32_u32 {
            let (row, column) = (lane / 4, 2 * (lane % 4));
            let pair = |a: u32, b: u32| a | b << 16;
            let element = |row: u32, column: u32| 100 * row + column;
            let lane = lane as usize;
            assert_eq!(words[lane], pair(element(row, column), element(row, column + 1)));
            assert_eq!(words[32 + lane], pair(element(row + 8, column), element(row + 8, column + 1)));
            assert_eq!(words[64 + lane], pair(element(column, row), element(column + 1, row)));
        }
    });
}

#[test]
fn large_parameters_are_read_by_any_index() {
    let mut device = Device::default();
    let ptx = kernel(
        1,
        "",
        "and.b32 %r1, %r0, 3;\nmul.wide.u32 %rd1, %r1, 4;\nmov.b64 %rd2, p1;\nadd.u64 %rd3, %rd2, %rd1;\n\
        ld.param.u32 %r2, [%rd3];\ncvta.param.u64 %rd4, %rd3;\nld.u32 %r3, [%rd4];\nisspacep.param %p1, %rd4;\n\
        setp.ne.and.u32 %p2, %r2, %r3, %p1;\n@%p2 trap;\n@!%p1 trap;\nst.global.u32 [%rd10], %r2;",
    )
    .replace(".param .u64 p0)", ".param .u64 p0, .param .align 4 .b8 p1[16])");
    let program = device.load(&ptx);
    let buffer = device.zeros::<f32>(32);
    let arguments = [Arg::from(&buffer), Arg::from([1.5_f32, 2.5, 3.5, 4.5])];
    assert_clean(&device.launch(&program, "k", [1; 3], [32, 1, 1], 0, &arguments));
    assert_eq!(device.download::<f32>(&buffer)[..6], [1.5, 2.5, 3.5, 4.5, 1.5, 2.5]);
}

#[test]
fn signed_parameters_fill_their_registers_and_no_more() {
    let mut device = Device::default();
    let body = "ld.param.s8 %rs1, [p1];\nmov.u16 %rs2, 1;\nmov.b32 %r1, {%rs1, %rs2};\nst.global.u32 [%rd0], %r1;\n\
        ld.param.s8 %r2, [p1];\nst.global.u32 [%rd0+4], %r2;\nld.param.s8 %rd1, [p1];\nst.global.u64 [%rd0+8], %rd1;";
    let program = device.load(&kernel(1, "", body).replace(".param .u64 p0)", ".param .u64 p0, .param .s8 p1)"));
    let buffer = device.zeros::<u32>(4);
    assert_clean(&device.launch(&program, "k", [1; 3], [1; 3], 0, &[Arg::from(&buffer), Arg::from(-2_i8)]));
    assert_eq!(device.download::<u32>(&buffer), [0x1_fffe, 0xffff_fffe, 0xffff_fffe, 0xffff_ffff]);
}
