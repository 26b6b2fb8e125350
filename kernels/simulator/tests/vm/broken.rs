//! Programs that are broken on purpose: they load or do not, run or are stopped, and never bring the simulator down.
//! `PROPTEST_CASES=100000 cargo test --release -p mdetr-simulator --test vm broken` looks longer.

use std::sync::LazyLock;

use mdetr_simulator::memory::{Memory, Work};
use mdetr_simulator::options::Options;
use mdetr_simulator::vm::launch::{Launch, run};
use mdetr_simulator::vm::program::Program;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

use crate::kernel;

/// Many instructions in few lines; mutations mix their opcodes, types and operands.
const BODY: &str = ".shared .align 16 .b8 s[512];\n.local .b32 l[4];\nmov.u32 %r1, s;\nshl.b32 %r2, %r0, 4;\nadd.u32 %r3, %r1, %r2;\n\
    st.shared.v4.f32 [%r3], {%f0, %f1, %f2, %f3};\ncp.async.ca.shared.global [%r3], [%rd10], 4;\ncp.async.commit_group;\n\
    cp.async.wait_group 0;\nbar.sync 0;\nld.shared.v2.u32 {%r4, %r5}, [%r3];\nshfl.sync.bfly.b32 %r6|%p1, %r4, 1, 31, -1;\n\
    vote.sync.ballot.b32 %r7, %p1, 0xffffffff;\nbar.warp.sync %r7;\n@%p1 bra SKIP;\nst.local.u32 [l+4], %r6;\n\
    ld.local.s8 %r8, [l+4];\nSKIP:\nsetp.lt.and.s32 %p2|%p3, %r8, 5, !%p1;\nselp.b32 %r9, %r8, %r6, %p2;\n\
    mad.wide.s32 %rd5, %r9, 4, %rd0;\ndiv.u32 %r10, %r9, %r8;\nbfe.s32 %r11, %r10, 3, 40;\nprmt.b32 %r12, %r11, %r10, 0x5410;\n\
    cvt.rzi.sat.s16.f32 %rs1, %f1;\ncvt.rn.f32.u64 %f4, %rd5;\nfma.rn.f32 %f5, %f4, %f1, 0f3F800000;\nex2.approx.ftz.f32 %f6, %f5;\n\
    atom.global.add.f32 %f7, [%rd10], %f6;\nred.global.max.u32 [%rd0], %r12;\nldmatrix.sync.aligned.m8n8.x2.shared.b16 {%r13, %r14}, [%r3];\n\
    mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%f0, %f1, %f2, %f3}, {%r13, %r14}, {%r12}, {%f0, %f1, %f2, %f3};\n\
    redux.sync.add.u32 %r15, %r9, 0xffffffff;\nmatch.any.sync.b32 %r16, %r15, 0xffffffff;\nmembar.gl;\nbar.red.popc.u32 %r17, 1, %p2;\n\
    TABLE: .branchtargets A, B;\nand.b32 %r18, %r17, 1;\nbrx.idx %r18, TABLE;\nA:\nadd.cc.u32 %r19, %r18, -1;\naddc.u32 %r20, %r19, 0;\n\
    B:\nlop3.b32 %r21, %r19, %r20, %r18, 0x96;\nshf.l.wrap.b32 %r22, %r21, %r20, 35;\nst.global.u8 [%rd10+3], %r22;\n\
    setp.ne.u32 %p4, %r22, 0;\n@!%p4 bra SKIP;\nmov.b64 {%r23, %r24}, %rd5;\nmov.u64 %rd6, %clock64;\nactivemask.b32 %r25;\n\
    ld.volatile.global.u16 %rs2, [%rd0+6];\nfence.acq_rel.gpu;\ndp4a.u32.s32 %r26, %r25, %r24, %r23;\nexit;";

/// Functions, and what device code calls: `printf` and `assert`.
const FUNCTIONS: &str = ".extern .func (.param .b32 r) vprintf(.param .b64 f, .param .b64 a);\n\
    .extern .func __assertfail(.param .b64 m, .param .b64 f, .param .b32 l, .param .b64 n, .param .b64 s);\n\
    .global .align 1 .b8 text[6] = {37, 100, 37, 115, 10};\n.global .align 8 .u64 table[2] = {text, generic(text)};\n\
    .func (.param .b64 out) f(.param .align 8 .b8 in[16])\n{\n.reg .b64 %rd<3>;\n.reg .pred %p;\n.local .align 8 .b8 l[32];\n\
    ld.param.u64 %rd0, [in+8];\nst.local.u64 [l+8], %rd0;\nsetp.eq.u64 %p, %rd0, 0;\n@%p bra END;\nsub.u64 %rd0, %rd0, 1;\n\
    {\n.param .align 8 .b8 a[16];\n.param .b64 r;\nst.param.v2.b64 [a], {%rd0, %rd0};\ncall (r), f, (a);\nld.param.b64 %rd1, [r];\n}\n\
    END:\nld.local.u64 %rd1, [l+8];\nst.param.b64 [out], %rd1;\nret;\n}";

/// Calls them.
const CALLS: &str = ".local .align 8 .b8 l[16];\nand.b32 %r1, %r0, 3;\ncvt.u64.u32 %rd1, %r1;\n{\n.param .align 8 .b8 a[16];\n\
    .param .b64 r;\nst.param.b64 [a+8], %rd1;\ncall.uni (r), f, (a);\nld.param.b64 %rd2, [r];\n}\nst.local.u32 [l], %rd2;\n\
    mov.u64 %rd3, text;\nst.local.u64 [l+8], %rd3;\nmov.u64 %rd4, l;\ncvta.local.u64 %rd4, %rd4;\n{\n.param .b64 a;\n\
    .param .b64 b;\n.param .b32 r;\nst.param.b64 [a], %rd3;\nst.param.b64 [b], %rd4;\ncall.uni (r), vprintf, (a, b);\n\
    ld.param.b32 %r2, [r];\n}\nsetp.gt.u32 %p1, %r2, 5;\n@%p1 trap;\n@!%p1 bra.uni END;\n{\n.param .b64 a;\n.param .b32 c;\n\
    st.param.b64 [a], %rd3;\nst.param.b32 [c], 7;\ncall __assertfail, (a, a, c, a, a);\n}\nEND:\nld.global.u64 %rd5, [table+8];\n\
    ld.u8 %r3, [%rd5+1];\nst.global.u32 [%rd10], %r3;";

static TEXTS: LazyLock<Vec<String>> = LazyLock::new(|| vec![kernel(1, "", BODY), kernel(1, FUNCTIONS, CALLS)]);

/// Words and what separates them.
static PIECES: LazyLock<Vec<Vec<&'static str>>> = LazyLock::new(|| {
    let cut = |text: &'static str| text.split_inclusive(|c: char| !c.is_ascii_alphanumeric() && c != '_').collect();
    TEXTS.iter().map(|text| cut(text)).collect()
});

/// What a piece may be exchanged for and still be read: a register for one of its kind, a word for a word.
fn class(piece: &str) -> (&str, Option<char>) {
    let name = piece.trim_end_matches(|c: char| !c.is_ascii_alphanumeric());
    let kind = name.trim_end_matches(|c: char| c.is_ascii_digit());
    let is_register = kind.len() < name.len() && ["r", "rd", "rs", "f", "p"].contains(&kind);
    (if is_register { kind } else { "" }, piece.chars().last())
}

/// Loads a text and launches every kernel that it holds.
fn survive(text: &str, seed: u64) {
    let options = Options { seed, limit: 3000, ..Options::default() };
    let mut memory = Memory::new(true);
    let Ok(program) = Program::load(text, &mut memory) else { return };
    let buffer = memory.allocate(256, "");
    if let Ok((allocation, _)) = memory.find(buffer, 256) {
        allocation.write(0, &[1; 256]);
    }
    for kernel in program.kernels() {
        let size = kernel.parameters.last().map_or(0, |(offset, size)| offset + size) as usize;
        let arguments: Vec<u8> = buffer.to_le_bytes().into_iter().cycle().take(size).collect();
        let launch = Launch {
            program: &program,
            kernel: &kernel.name,
            grid: [2, 1, 1],
            block: [40, 1, 1],
            dynamic_shared: 64,
            arguments: &arguments,
        };
        run(&launch, &memory, &Work::in_order(1), &options);
    }
}

#[test]
fn texts_are_fine_as_they_are() {
    for text in &*TEXTS {
        let loaded = Program::load(text, &mut Memory::new(true));
        assert!(loaded.as_ref().is_ok_and(|program| !program.kernels().is_empty()), "{:?}", loaded.err());
        survive(text, 0);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16 * ProptestConfig::default().cases, ..ProptestConfig::default() })]

    #[test]
    fn mixed_pieces(sample in 0..2_usize, swaps in vec((any::<Index>(), any::<Index>()), 1..6), seed in 0..4_u64) {
        let mut pieces = PIECES[sample].clone();
        for (to, from) in swaps {
            let to = to.index(pieces.len());
            let alike: Vec<&str> = pieces.iter().copied().filter(|piece| class(piece) == class(pieces[to])).collect();
            pieces[to] = alike[from.index(alike.len())];
        }
        survive(&pieces.concat(), seed);
    }

    #[test]
    fn missing_pieces(sample in 0..2_usize, at in any::<Index>(), count in 1..5_usize, seed in 0..4_u64) {
        let mut pieces = PIECES[sample].clone();
        let at = at.index(pieces.len());
        let end = pieces.len().min(at + count);
        pieces.drain(at..end);
        survive(&pieces.concat(), seed);
    }
}
