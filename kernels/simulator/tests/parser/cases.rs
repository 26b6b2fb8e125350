//! Each construct by hand.

use mdetr_simulator::ptx::ast::Operand::*;
use mdetr_simulator::ptx::ast::{Body, Module, Operand, Space, Symbol, Type};
use mdetr_simulator::ptx::parse;

use crate::{HEADER, kernel, tree};

fn module(text: &str) -> Module {
    let module = parse(text).unwrap_or_else(|error| panic!("{error}\n{text}"));
    tree::check(&module);
    module
}

fn body(text: &str) -> Body {
    let kernel = module(&kernel(text)).functions.into_iter().find(|function| function.is_kernel);
    kernel.unwrap().body.unwrap()
}

/// Registers of the operand cases: `%r0` to `%r9` are 0 to 9, `%r10` to `%r14` of `%r1<5>` 10 to 14, `p` is 15, `%p` 16.
const REGISTERS: &str = ".reg .b32 %r<10>; .reg .f32 %r1<5>; .reg .pred p, %p; .param .b64 a; .shared .b8 s[4];";

#[test]
fn operands() {
    let address = |base: Operand, offset| Address(Box::new(base), offset);
    let module_symbol = |name: &str, offset| Operand::Symbol(Symbol::Module(name.into()), offset);
    let cases = [
        ("ret", vec![]),
        (
            "mov.b32 %r1, 0x1F, 017, 0b101, 7U, 0",
            vec![Register(1), Integer(31), Integer(15), Integer(5), Integer(7), Integer(0)],
        ),
        (
            "x -1, -9223372036854775808, 18446744073709551615, 0xFFFFFFFFFFFFFFFFU",
            vec![Integer(u64::MAX), Integer(1 << 63), Integer(u64::MAX), Integer(u64::MAX)],
        ),
        (
            "x 0f3F800000, 0Fbf800000, 0d3FF0000000000000",
            vec![Float(0x3f80_0000), Float(0xbf80_0000), Double(1.0_f64.to_bits())],
        ),
        (
            "x 1.5, -2.5e-3, 1e5, 1E+5, 12.0",
            vec![
                Double(1.5_f64.to_bits()),
                Double((-2.5e-3_f64).to_bits()),
                Double(1e5_f64.to_bits()),
                Double(1e5_f64.to_bits()),
                Double(12_f64.to_bits()),
            ],
        ),
        ("x %r10, %r9, %p, !p, _", vec![Register(10), Register(9), Register(16), Not(15), Sink]),
        (
            "x %r1|p, _|%p, %r3",
            vec![
                Pair(Box::new(Register(1)), Box::new(Register(15))),
                Pair(Box::new(Sink), Box::new(Register(16))),
                Register(3),
            ],
        ),
        ("x {%r1, _, -1}, {}", vec![Vector(vec![Register(1), Sink, Integer(u64::MAX)]), Vector(vec![])]),
        (
            "x [%r1], [%r1+8], [%r1+-8], [%r1-8], [%r1+0x10+4], [16], [-16]",
            vec![
                address(Register(1), 0),
                address(Register(1), 8),
                address(Register(1), -8),
                address(Register(1), -8),
                address(Register(1), 20),
                address(Integer(16), 0),
                address(Integer(0_u64.wrapping_sub(16)), 0),
            ],
        ),
        (
            "x [a+4], [k_param_1+8], [s], [g-4], [%r1+1, {%r2}]",
            vec![
                address(Operand::Symbol(Symbol::Local(0), 0), 4),
                address(Operand::Symbol(Symbol::Parameter(1), 0), 8),
                address(Operand::Symbol(Symbol::Local(1), 0), 0),
                address(module_symbol("g", 0), -4),
                address(List(vec![Register(1), Vector(vec![Register(2)])]), 1),
            ],
        ),
        (
            "x s, s+4, g, g-4, f",
            vec![
                Operand::Symbol(Symbol::Local(1), 0),
                Operand::Symbol(Symbol::Local(1), 4),
                module_symbol("g", 0),
                module_symbol("g", -4),
                module_symbol("f", 0),
            ],
        ),
        ("x %tid.x, %laneid, %clock64, WARP_SZ, %envreg3, %lanemask_lt", {
            ["%tid.x", "%laneid", "%clock64", "WARP_SZ", "%envreg3", "%lanemask_lt"].map(|s| Special(s.into())).into()
        }),
        ("call.uni f", vec![module_symbol("f", 0)]),
        (
            "call.uni (a), f, (s, 1)",
            vec![
                List(vec![Operand::Symbol(Symbol::Local(0), 0)]),
                module_symbol("f", 0),
                List(vec![Operand::Symbol(Symbol::Local(1), 0), Integer(1)]),
            ],
        ),
        ("c: .callprototype (.param .b32 _) _ (.param .b8 _[4]); call %r1, (), c", vec![Register(1), List(vec![])]),
        (
            "c: .calltargets f, f; call (a), %r1, c",
            vec![List(vec![Operand::Symbol(Symbol::Local(0), 0)]), Register(1)],
        ),
    ];
    for (statement, expected) in cases {
        let text = format!("{REGISTERS}\n{statement};}}\n.global .u32 g; .func f {{ ret; ");
        let body = body(&text);
        assert_eq!(body.instructions.last().unwrap().operands, expected, "{statement}");
    }
}

#[test]
fn opcodes_guards_and_lines() {
    let text =
        format!("{REGISTERS}\n/* two\nlines */ @!p ld.shared::cta.v2.b32 %r1, [%r2]; // @p\n@%p bra.uni\n l; l:");
    let body = body(&text);
    let [load, jump] = &body.instructions[..] else { panic!("{body:?}") };
    assert_eq!((load.opcode.join(" "), load.guard, load.line), ("ld shared::cta v2 b32".into(), Some((15, true)), 7));
    assert_eq!((jump.opcode.join(" "), jump.guard, jump.line), ("bra uni".into(), Some((16, false)), 8));
    assert_eq!(jump.operands, [Label(2)]);
    assert_eq!(body.registers[14], ("%r14".into(), Type::F32));
}

/// The `.loc` in force, which ends with the function.
#[test]
fn locations() {
    let locs =
        "a; .loc 1 7 3\n b; .loc 2 0 3 c; .loc 2 9 1, function_name s0+4, inlined_at 1 5 3 d; { .loc 3 1 1 } e;";
    let text = format!("{}.entry j {{ f; }}", kernel(locs));
    let module = module(&text);
    let of = |function: usize| module.functions[function].body.as_ref().unwrap().instructions.iter();
    let locations: Vec<_> = of(0).chain(of(1)).map(|instruction| instruction.location).collect();
    assert_eq!(locations, [None, Some((1, 7)), Some((2, 0)), Some((2, 9)), Some((3, 1)), None]);
}

/// Names of a block hide outer ones until it ends; labels may be named before they stand.
#[test]
fn scopes() {
    let cases: [(&str, &[&[Operand]]); 5] = [
        (
            ".reg .b32 t; { .reg .b64 t; x t; { .reg .f32 t; x t; } x t; } x t;",
            &[&[Register(1)], &[Register(2)], &[Register(1)], &[Register(0)]],
        ),
        (
            ".reg .b32 %r<2>; { .reg .b64 %r<1>; x %r0, %r1; } { .reg .b64 %r1; x %r0, %r1; }",
            &[&[Register(2), Register(1)], &[Register(0), Register(3)]],
        ),
        (
            "bra l; { bra l; l: bra l; { bra l; } } l: bra l; { bra m; } m:",
            &[&[Label(4)], &[Label(2)], &[Label(2)], &[Label(2)], &[Label(4)], &[Label(6)]],
        ),
        (
            ".reg .b32 i; brx.idx i, t; t: .branchtargets a, b; a: b: brx.idx i, t;",
            &[&[Register(0), Targets(0)], &[Register(0), Targets(0)]],
        ),
        (
            "{ .param .b32 v; x v; } { .param .b64 v; x v; } .pragma \"nounroll\"; ;",
            &[&[Operand::Symbol(Symbol::Local(0), 0)], &[Operand::Symbol(Symbol::Local(1), 0)]],
        ),
    ];
    for (text, expected) in cases {
        let body = body(text);
        let operands: Vec<_> = body.instructions.iter().map(|instruction| &instruction.operands[..]).collect();
        assert_eq!(operands, expected, "{text}");
        assert!(body.targets.iter().all(|list| *list == [1, 1]), "{:?}", body.targets);
    }
}

#[test]
fn variables() {
    let bytes_of = |values: &[f32]| values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<_>>();
    // Declaration, alignment, size, initial bytes.
    let cases: [(&str, u64, u64, Vec<u8>); 18] = [
        (".global .u32 x;", 4, 4, vec![]),
        (".visible .global .align 16 .b8 x[2][3];", 16, 6, vec![]),
        (".extern .shared .align 8 .b8 x[];", 8, 0, vec![]),
        (".shared .b8 x[99999999999];", 1, 99_999_999_999, vec![]),
        (".global .attribute(.managed) .align 4 .u32 x = 5;", 4, 4, vec![5, 0, 0, 0]),
        (".const .s16 x[3] = {-2, 0x102};", 2, 6, vec![254, 255, 2, 1]),
        (".global .b8 x[] = {1, 2, 3,};", 1, 3, vec![1, 2, 3]),
        (".global .b8 x[][2] = {{1}, {2}, 3};", 1, 6, vec![1, 0, 2, 0, 3]),
        (".global .b8 x[2][2][2] = {{{1}, {2, 3}}, {{4}}};", 1, 8, vec![1, 0, 2, 3, 4]),
        (".global .b8 x[2][2] = {1, 2, {3, 4}};", 1, 4, vec![1, 2, 3, 4]),
        (".global .b8 x[2][2] = {{}, {3}};", 1, 4, vec![0, 0, 3]),
        (".global .f32 x[3] = {1.5, -0.1, 0f40000000};", 4, 12, bytes_of(&[1.5, -0.1, 2.0])),
        (".global .v4 .f32 x = {1.0, 2.0};", 16, 16, bytes_of(&[1.0, 2.0])),
        (".global .f64 x = 0d400A000000000000;", 8, 8, 3.25_f64.to_le_bytes().into()),
        (".global .b32 x = 0f3F800000;", 4, 4, bytes_of(&[1.0])),
        (".weak .global .u64 x = 18446744073709551615;", 8, 8, vec![255; 8]),
        (".extern .global .b8 x[]; .global .b8 x[2] = {7};", 1, 2, vec![7]),
        (".global .b8 x[2] = {7}; .extern .global .b8 x[];", 1, 2, vec![7]),
    ];
    for (text, align, bytes, initial) in cases {
        let module = module(&format!("{HEADER}{text}"));
        let [variable] = &module.variables[..] else { panic!("{text}: {:?}", module.variables) };
        assert_eq!((variable.align, variable.bytes, &variable.initial), (align, bytes, &initial), "{text}");
        assert_eq!(variable.external, bytes == 0, "{text}");
    }
}

#[test]
fn addresses_as_initial_values() {
    let text = ".global .u64 x[3] = {x+8, generic(x)-8, f}; .func f;
        .global .b8 y[9] = {1, 0XFF(x), 0xFF00(x), 0xFF0000(x), 0xFF000000(x), 0xFF00000000(x), 0xFF0000000000(x),
            0xFF000000000000(x), 0xFF00000000000000(x)};";
    let module = module(&format!("{HEADER}{text}"));
    let expected = [(0, "x".into(), 8), (8, "x".into(), -8), (16, "f".into(), 0)];
    assert_eq!(module.variables[0].relocations, expected);
    assert_eq!(module.variables[1].relocations, [(1, "x".into(), 0)]);
}

#[test]
fn functions() {
    let text = ".version 9.10 .target sm_90a, debug .address_size 64
        .func (.param .align 8 .b8 r[16]) f (.param .b64 a, .param .b8 b[]) .noreturn;
        .extern .func g .abi_preserve 5 ;
        .weak .entry k(.param .u64 .ptr .global .align 16 p, .param .u64 .ptr q) .explicitcluster .reqnctapercluster 2, 1, 1
            .maxntid 16, 4 .minnctapersm 2 .pragma \"x\"; .maxnreg 64 { .local .align 16 .b8 d[8]; ret; }
        .visible .func (.param .align 8 .b8 r[16]) f (.param .b64 c, .param .b8 b[]) { st.param.b64 [r+8], c; call g; }
        .func f(.param .b64 c); .section .debug_x { .b8 1, \"}\" { } } .file 1 \"a \\\" b.cu\", 1, 2";
    let module = module(text);
    assert_eq!((module.version, module.target.as_str()), ((9, 10), "sm_90a"));
    assert_eq!(module.files[&1], "a \\\" b.cu");
    let [f, g, k] = &module.functions[..] else { panic!("{:?}", module.functions) };
    assert_eq!([&f.name, &g.name, &k.name], ["f", "g", "k"]);
    assert_eq!(
        [f, g, k].map(|function| (function.is_kernel, function.body.is_some())),
        [(false, true), (false, false), (true, true)]
    );
    assert_eq!((f.parameters[0].name.as_str(), f.parameters[1].bytes, f.returns[0].bytes), ("c", 0, 16));
    assert_eq!((k.max_threads, f.max_threads), (Some([16, 4, 1]), None));
    assert!(k.parameters.iter().all(|p| (p.align, p.bytes, p.ty, p.space) == (8, 8, Type::U64, Space::Param)));
    let [store, call] = &f.body.as_ref().unwrap().instructions[..] else { panic!("{f:?}") };
    assert_eq!(store.operands[1], Operand::Symbol(Symbol::Parameter(0), 0));
    assert_eq!(store.operands[0], Address(Box::new(Operand::Symbol(Symbol::Return(0), 0)), 8));
    assert_eq!(call.operands, [Operand::Symbol(Symbol::Module("g".into()), 0)]);
    assert_eq!(k.body.as_ref().unwrap().variables[0].space, Space::Local);
}
