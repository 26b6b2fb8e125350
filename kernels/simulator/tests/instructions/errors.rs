//! What is not allowed or not modelled is an error that names it.

use mdetr_simulator::options::Approximation;

use super::harness::Machine;

#[test]
fn errors_name_what_is_wrong() {
    let cases = [
        ("add.foo.s32 %r0, %r1, %r2", ".foo is not modelled"),
        ("add.sat.u32 %r0, %r1, %r2", ".sat is not modelled"),
        ("add.b32 %r0, %r1, %r2", ".b32 is not modelled"),
        ("add.s32 %r0, %r1", "expected 3 operands, found 2"),
        ("add.s32 %rd0, %r1, %r2", "%rd0 has 64 bits, the instruction 32"),
        ("add.s32 %r0, %p1, %r2", "%p1 is a predicate"),
        ("mul.s32 %r0, %r1, %r2", "expected one of .lo, .hi, .wide"),
        ("add.rz.f16 %rs0, %rs1, %rs2", "only .rn"),
        ("add.sat.f64 %fd0, %fd1, %fd2", ".sat is not modelled"),
        ("fma.rn.oob.f16 %rs0, %rs1, %rs2, %rs3", ".oob is not modelled"),
        ("div.f32 %f0, %f1, %f2", "expected .approx or a rounding"),
        ("sin.approx.f16 %rs0, %rs1", ".f16 is not modelled"),
        ("setp.lo.s32 %p0, %r1, %r2", "expected one of .eq, .ne, .lt"),
        ("setp.lt.and.s32 %p0, %r1, %r2", "expected 4 operands, found 3"),
        ("setp.lt.s32 %r0, %r1, %r2", "%r0 is no predicate"),
        ("selp.b32 %r0, %r1, %r2, %r3", "%r3 is no predicate"),
        ("lop3.b32 %r0, %r1, %r2, %r3, %r4", "expected an integer"),
        ("lop3.or.b32 %r0, %r1, %r2, %r3, 1, %p0", "a predicate and .or or .and go together"),
        ("cvt.s32.f32 %r0, %f1", "expected a rounding to whole numbers"),
        ("cvt.f32.f64 %f0, %fd1", "a rounding is there if and only if"),
        ("cvt.rn.f64.f32 %fd0, %f1", "a rounding is there if and only if"),
        ("cvt.u64.u32 %r0, %r1", "a register is narrower than its type"),
        ("cvt.rn.satfinite.e4m3x2.f32 %rs0, %f1, %f2", ".e4m3x2 is not modelled"),
        ("mov.b64 %rd0, {%r1, %r2, %r3}", "3 parts do not make up 64 bits"),
        ("mov.b32 %r0, {%r1, %r2}", "expected a register of 16 bits, found 32"),
        ("cvta.shared.u32 %r0, %r1", "expected .u64"),
        ("isspacep.const %p0, %rd1", ".const is not modelled"),
        ("shfl.bfly.b32 %r0, %r1, 1, 31", "expected 5 operands, found 4"),
        ("vote.all.pred %p0, %p1", "expected 3 operands, found 2"),
        (
            "mma.sync.aligned.m8n8k4.row.col.f32.f16.f16.f32 {%f0, %f1}, {%r0, %r1}, {%r2, %r3}, {%f2, %f3}",
            "expected one of .m16n8k8",
        ),
        (
            "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%f0, %f1, %f2}, {%r0, %r1, %r2, %r3}, {%r4, %r5}, {%f0, %f1, %f2, %f3}",
            "expected 4 registers as operand 0, found 3",
        ),
        ("vadd4.u32.u32.u32 %r0, %r1, %r2, %r3", "nothing that touches registers only"),
        ("mov.u64 %rd0, %clock64", "nothing that touches registers only"),
    ];
    for (text, expected) in cases {
        match Machine::new(text, Approximation::Exact) {
            Ok(_) => panic!("{text} is lowered"),
            Err(message) => assert!(message.contains(expected), "{text}: {message:?}, expected {expected:?}"),
        }
    }
}
