//! Moving, choosing, and addresses.

use mdetr_simulator::memory::{LOCAL_WINDOW, PARAM_WINDOW, SHARED_WINDOW};

use super::harness::check;

const SIZES: [(&str, &str); 3] = [("16", "%rs"), ("32", "%r"), ("64", "%rd")];

#[test]
fn copies() {
    for (width, r) in SIZES {
        for sign in ["b", "u", "s"] {
            check(&format!("mov.{sign}{width} {r}0, {r}1"), |x| [x[0]]);
        }
        check(&format!("mov.b{width} {r}0, 77"), |_| [77]);
    }
    check("mov.f32 %f0, %f1", |x| [x[0]]);
    check("mov.b32 %f0, %r1", |x| [x[0]]);
    check("mov.f64 %fd0, %fd1", |x| [x[0]]);
    check("mov.f32 %f0, 0f3F800000", |_| [0x3f80_0000]);
    check("mov.f64 %fd0, 0d3FF0000000000000", |_| [0x3ff0_0000_0000_0000]);
    check("mov.f32 %f0, 0.1", |_| [0.1f32.to_bits().into()]);
    check("mov.s16 %rs0, -2", |_| [0xfffe]);
    check("mov.pred %p0, %p1", |x| [x[0]]);
    check("mov.pred %p0, !%p1", |x| [x[0] ^ 1]);
    check("mov.pred %p0, 1", |_| [1]);
}

#[test]
fn packing() {
    check("mov.b32 %r0, {%rs1, %rs2}", |x| [x[0] | x[1] << 16]);
    check("mov.b64 %rd0, {%r1, %r2}", |x| [x[0] | x[1] << 32]);
    check("mov.b64 %rd0, {%f1, %r2}", |x| [x[0] | x[1] << 32]);
    check("mov.b64 %fd0, {%r1, 1072693248}", |x| [x[0] | 0x3ff0_0000 << 32]);
    check("mov.b64 %rd0, {%rs1, %rs2, %rs3, %rs4}", |x| [x[0] | x[1] << 16 | x[2] << 32 | x[3] << 48]);
    check("mov.b32 {%rs0, %rs1}, %r1", |x| [x[0] & 0xffff, x[0] >> 16]);
    check("mov.b64 {%r0, %r1}, %rd1", |x| [x[0] & 0xffff_ffff, x[0] >> 32]);
    check("mov.b64 {%r0, %r1}, %fd1", |x| [x[0] & 0xffff_ffff, x[0] >> 32]);
    check("mov.b64 {_, %r1}, %rd1", |x| [x[0] >> 32]);
    check("mov.b64 {%rs0, %rs1, %rs2, %rs3}, %rd1", |x| [x[0], x[0] >> 16, x[0] >> 32, x[0] >> 48]);
    check("mov.b64 {%r0, _}, {%r1, 7}", |x| [x[0]]);
    check("mov.b64 {%rs0, %rs1, %rs2, %rs3}, {%r1, %r2}", |x| [x[0], x[0] >> 16, x[1], x[1] >> 16]);
    // a register may be taken apart into itself
    check("mov.b32 %r1, {%rs1, %rs2}; mov.b32 {%rs2, %rs1}, %r1", |x| [x[0] | x[1] << 16, x[0], x[1]]);
}

#[test]
fn choices() {
    for (width, r) in SIZES {
        check(&format!("selp.b{width} {r}0, {r}1, {r}2, %p1"), |x| [if x[2] == 1 { x[0] } else { x[1] }]);
        check(&format!("selp.u{width} {r}0, {r}1, -1, !%p1"), |x| [if x[1] == 0 { x[0] } else { u64::MAX }]);
        check(&format!("slct.b{width}.s32 {r}0, {r}1, {r}2, %r3"), |x| [if x[2] as i32 >= 0 { x[0] } else { x[1] }]);
        check(&format!("slct.u{width}.f32 {r}0, {r}1, {r}2, %f3"), |x| {
            [if f32::from_bits(x[2] as u32) >= 0.0 { x[0] } else { x[1] }]
        });
        check(&format!("slct.ftz.s{width}.f32 {r}0, {r}1, {r}2, %f3"), |x| {
            let c = f32::from_bits(x[2] as u32);
            [if c >= 0.0 || c.is_subnormal() { x[0] } else { x[1] }]
        });
    }
    check("selp.f32 %f0, %f1, %f2, %p1", |x| [if x[2] == 1 { x[0] } else { x[1] }]);
    check("selp.f64 %fd0, %fd1, 0d0000000000000000, %p1", |x| [if x[1] == 1 { x[0] } else { 0 }]);
}

#[test]
fn addresses() {
    for (space, base) in [
        ("global", 0),
        ("const", 0),
        ("param", PARAM_WINDOW),
        ("shared", SHARED_WINDOW),
        ("shared::cta", SHARED_WINDOW),
        ("local", LOCAL_WINDOW),
    ] {
        check(&format!("cvta.{space}.u64 %rd0, %rd1"), |x| [x[0].wrapping_add(base)]);
        check(&format!("cvta.to.{space}.u64 %rd0, %rd1"), |x| [x[0].wrapping_sub(base)]);
    }
    let inside = |base: u64, x: u64| base <= x && x < base + (1 << 32);
    for (space, base) in [("shared", SHARED_WINDOW), ("local", LOCAL_WINDOW), ("param", PARAM_WINDOW)] {
        check(&format!("isspacep.{space} %p0, %rd1"), |x| [inside(base, x[0]).into()]);
        for offset in [0, 1, 0xffff_ffff] {
            check(&format!("mov.u64 %rd0, {}; isspacep.{space} %p0, %rd0", base + offset), |_| [base + offset, 1]);
        }
        for address in [base - 1, base + (1 << 32)] {
            check(&format!("mov.u64 %rd0, {address}; isspacep.{space} %p0, %rd0"), |_| [address, 0]);
            check(&format!("mov.u64 %rd0, {address}; isspacep.global %p0, %rd0"), |_| [address, 1]);
        }
        check(&format!("mov.u64 %rd0, {base}; isspacep.global %p0, %rd0"), |_| [base, 0]);
    }
}

#[test]
fn hints_do_nothing() {
    for text in ["nanosleep.u32 100", "pmevent 1", "prefetch.global.L2 [%rd1]", "prefetchu.L1 [%rd1]"] {
        check(&format!("mov.u32 %r0, 5; {text}"), |_| [5]);
    }
}
