//! Errors name the line, what was expected and what is there.

use mdetr_simulator::ptx::parse;

use crate::{HEADER, kernel};

#[test]
fn modules() {
    let cases = [
        ("", 1, "expected `.version`, found the end of the text"),
        ("\n\n int main()", 3, "expected `.version`, found `int`"),
        (".version eight", 1, "expected a version such as `8.8`, found `eight`"),
        (".version 8.8\n.target 80", 2, "expected a target such as `sm_80`, found `80`"),
        (".version 8.8 .target sm_80\n.address_size 32", 2, "expected an address size of 64, found `32`"),
    ];
    for (text, line, message) in cases {
        let error = parse(text).expect_err(text);
        assert_eq!((error.line, error.message.as_str()), (line, message), "{text}");
    }
}

#[test]
fn top_level() {
    // Line 1 is the first behind the header.
    let cases = [
        ("\nadd;", 2, "expected a directive, found `add`"),
        (".alias a, b;", 1, "expected the directive of a variable, a function, or a file, found `.alias`"),
        (".global .b32 a;\n.const .b32 a;", 2, "`a` is declared twice"),
        (".global .b32 a;\n.func a;", 2, "`a` is declared twice"),
        (".func a {}\n.func a {}", 2, "`a` is declared twice"),
        (".func a(.param .b32 x,\n.param .b32 x);", 2, "`x` is declared twice"),
        (".func a(.reg .b32 x);", 1, "expected `.param`, found `.reg`"),
        (".func 1;", 1, "expected the name of a function, found `1`"),
        (".func a\n", 2, "expected `{`, found the end of the text"),
        (".global .align 3 .b8 a;", 1, "expected an alignment (a power of two up to 65536), found `3`"),
        (".global a;", 1, "expected a type, found `a`"),
        (".global .b32 .b64 a;", 1, "`.b64` has no place in a declaration"),
        (".global .quad a;", 1, "`.quad` has no place in a declaration"),
        (".global .b8 a[2][0];", 1, "expected an extent above 0, found `0`"),
        (".global .b8 a[1.5];", 1, "expected an extent above 0, found `1.5`"),
        (".global .b8 a[4294967296][4294967296];", 1, "`a` is larger than any memory"),
        (".global .b64 a[18446744073709551615];", 1, "`a` is larger than any memory"),
        (".global .b8 a[1][1][1][1][1][1][1][1][1];", 1, "an array has 8 dimensions at most"),
        (".shared .b8 a = 1;", 1, "only `.global` and `.const` variables have initial values"),
        (".global .b8 a[2] = {1, 2, 3};", 1, "the initializer does not fit `a`"),
        (".global .b8 a[2][2] = {1, {2, 3}};", 1, "a row begins inside of another"),
        (".global .b8 a[2] = {{1}};", 1, "expected a number, found `{`"),
        (".global .b8 a[1000][300000000] = {{1}, {1}};", 1, "more than 67108864 initial bytes in a module"),
        (".global .f32 a = 1;", 1, "expected a value of type F32, found `1`"),
        (".global .u32 a = 1.0;", 1, "expected a value of type U32, found `1.0`"),
        (".global .u32 a = a;", 1, "expected a number (an address takes 8 bytes), found `a`"),
        (".global .u64 a = {\n1};", 1, "expected a number, found `{`"),
        (".global .u64 a =\nb;", 2, "`b` is not declared"),
        (".global .b8 a[8] = {0xFF(a), 5};", 1, "expected the mask 0xFF00, found `5`"),
        (".global .b8 a[8] = {0xFF(a), 0xFF00(a+1)};", 1, "expected eight bytes of one address"),
        (".file 1 a", 1, "expected a path in quotes, found `a`"),
        (".file 1 \"a", 1, "this string has no end"),
        (".section .debug\n{ {", 2, "the `{` of line 5 is not closed"),
        ("/* a", 1, "this comment has no end"),
        ("/* a\n*/ é", 2, "'é' has no place in PTX"),
        (". a", 1, "expected a name after `.`"),
    ];
    for (text, line, message) in cases {
        let whole = format!("{HEADER}{text}");
        let error = parse(&whole).expect_err(text);
        assert_eq!((error.line - 3, error.message.as_str()), (line, message), "{text}");
    }
}

#[test]
fn statements() {
    let nested = "{".repeat(64);
    let long_range = format!(".reg .b32 {}<2>;", "r".repeat(65));
    let cases = [
        ("x %r1;", "register `%r1` is not declared"),
        (".reg .b32 %r<2>; x %r2;", "register `%r2` is not declared"),
        (".reg .b32 %r<2>; x %r01;", "register `%r01` is not declared"),
        ("{ .reg .b32 %t; } x %t;", "register `%t` is not declared"),
        ("x t;", "`t` is not declared"),
        ("x [t];", "`t` is not declared"),
        ("call f;", "`f` is not declared"),
        ("bra l;", "label `l` is not declared"),
        ("bra l; { l: }", "label `l` is not declared"),
        ("call k, (), c;", "label `c` is not declared"),
        ("bra l; l: .branchtargets m; m:", "label `l` stands before something else than is needed here"),
        ("brx.idx 0, l; l:", "label `l` stands before something else than is needed here"),
        ("l: .branchtargets m;", "label `m` is not declared"),
        ("l: l:", "`l` is declared twice"),
        (".reg .b32 t, t;", "`t` is declared twice"),
        (".reg .b32 t<2>; .reg .b32 t<3>;", "`t` is declared twice"),
        (".reg .b32 t<2>, t1;", "`t1` is declared twice"),
        (".shared .b32 k_param_0;", "`k_param_0` is declared twice"),
        (".reg .b32 %r<4000000000>;", "more than 1048576 registers in a module"),
        (".reg .b32 %r<900000>; .reg .b32 %s<900000>;", "more than 1048576 registers in a module"),
        (".reg .v4 .f32 t;", "expected the type of a register, found `.v4`"),
        (".reg t;", "expected the type of a register, found `t`"),
        (".global .b32 t;", "expected a statement, found `.global`"),
        ("@t ret;", "`t` is not declared as a predicate register"),
        (".reg .b32 t; @t ret;", "`t` is not declared as a predicate register"),
        (".reg .b32 t; x !t;", "`t` is not declared as a predicate register"),
        (".reg .b32 t; x -t;", "expected a number, found `t`"),
        ("x (1+2)*4;", "expected `)`, found `+`"),
        ("x 1+2;", "expected `;`, found `+`"),
        ("x 12ab;", "`12ab` is not a number of 64 bits"),
        ("x 0f3F8;", "`0f3F8` is not a number of 64 bits"),
        ("x 09;", "`09` is not a number of 64 bits"),
        ("x 0x;", "`0x` is not a number of 64 bits"),
        ("x 18446744073709551616;", "`18446744073709551616` is not a number of 64 bits"),
        ("x 1e999;", "`1e999` is not a number of 64 bits"),
        ("x 1,;", "expected an operand, found `;`"),
        ("x {1;", "expected `}`, found `;`"),
        ("x [1;", "expected `]`, found `;`"),
        ("x [1.0];", "expected an integer, found `1.0`"),
        ("x {{{{{{1}}}}}};", "operands are nested too deeply"),
        (&long_range, "the name of a range has 64 letters at most"),
        ("x %tid.x.y;", "expected `;`, found `.y`"),
        (&nested, "blocks are nested too deeply"),
        ("x 1", "expected `;`, found `}`"),
        ("= 1;", "expected a statement, found `=`"),
        (".loc 1 2 3, inlined_by 1 2 3", "expected `function_name` or `inlined_at`, found `inlined_by`"),
        (".loc 1 99999999999 3", "expected an integer of 32 bits, found `99999999999`"),
        ("p: .callprototype _ }", "expected `;`, found `}`"),
    ];
    for (text, message) in cases {
        let error = parse(&kernel(text)).expect_err(text);
        assert_eq!(error.message, message, "{text}");
        assert!((5..=6).contains(&error.line), "{text}: {error}");
    }
}
