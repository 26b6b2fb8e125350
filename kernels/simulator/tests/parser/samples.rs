//! What the compilers emit, whole.

use mdetr_simulator::ptx::ast::{Body, Function, Instruction, Operand};
use mdetr_simulator::ptx::parse;

use crate::{SAMPLES, tree};

/// Without comments and white space, and with one way to write an offset.
fn squeezed(source: &str) -> String {
    let lines = source.lines().map(|line| line.split("//").next().unwrap_or_default());
    lines.flat_map(str::split_whitespace).collect::<String>().replace("+0]", "]").replace("+-", "-")
}

fn written(instruction: &Instruction, function: &Function, body: &Body) -> String {
    let guard = instruction.guard.map_or(String::new(), |(register, negated)| {
        format!("@{}{}", if negated { "!" } else { "" }, body.registers[register].0)
    });
    let operands: Vec<_> = instruction.operands.iter().map(|operand| tree::text(operand, function, body)).collect();
    format!("{guard}{}{}", instruction.opcode.join("."), operands.join(","))
}

/// Trees are written back and sought in the source: nothing is lost, nothing is invented, labels lie where they were.
#[test]
fn trees_say_what_the_source_says() {
    for sample in SAMPLES {
        let module = parse(sample).unwrap();
        tree::check(&module);
        let source = squeezed(sample);
        let mut position = 0;
        let mut rest = String::new();
        for function in &module.functions {
            let Some(body) = &function.body else { continue };
            let mut spans = Vec::new();
            for instruction in &body.instructions {
                let text = written(instruction, function, body);
                let is_jump = matches!(instruction.operands[..], [Operand::Label(_)]);
                let ends = |at: &usize| is_jump || source[at + text.len()..].starts_with([';', ',']);
                let mut places = source[position..].match_indices(&text).map(|(at, _)| position + at);
                let start = places.find(ends).unwrap_or_else(|| panic!("{text} after {}", &source[..position]));
                rest += &source[position..start];
                position = start + text.len();
                if is_jump {
                    position += source[position..].find(';').unwrap();
                }
                spans.push((start, position));
            }
            for (instruction, &(start, end)) in body.instructions.iter().zip(&spans) {
                if let [Operand::Label(target)] = instruction.operands[..] {
                    let label = &source[start..end][written(instruction, function, body).len()..];
                    let before = &source[spans[target - 1].1..spans[target].0];
                    assert!(before.contains(&format!("{label}:")), "{label} before {before}");
                }
            }
        }
        rest += &source[position..];
        for statement in rest.split(';') {
            let statement = statement.rsplit(['{', '}', ':']).next().unwrap_or_default();
            let is_skipped = ["", ",prototype_"].iter().any(|s| statement.trim_end_matches(char::is_numeric) == *s);
            assert!(is_skipped || statement.starts_with('.'), "{statement} is in no tree");
        }
    }
}

/// What round trips do not show.
#[test]
fn modules_hold_what_stands_outside_of_code() {
    let modules = SAMPLES.map(|sample| parse(sample).unwrap());
    assert_eq!(modules.each_ref().map(|m| m.version), [(8, 8), (8, 8), (9, 5)]);
    assert_eq!(modules.each_ref().map(|m| m.target.as_str()), ["sm_80", "sm_90", "sm_100"]);
    for module in [&modules[0], &modules[2]] {
        assert_eq!(module.files[&1], "calls.cu");
        let variable = |name: &str| module.variables.iter().find(|v| v.name == name).unwrap();
        let function = |name: &str| module.functions.iter().find(|f| f.name == name).unwrap();
        assert_eq!(variable("packed").relocations, [(1, "target".into(), 0)]);
        assert_eq!(variable("packed").initial, [1, 0, 0, 0, 0, 0, 0, 0, 0, 7, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 8, 0]);
        assert_eq!(variable("names").relocations, [(0, "text".into(), 0), (8, "text".into(), 1)]);
        assert_eq!(variable("last").relocations, [(0, "target".into(), 36)]);
        assert_eq!(variable("_ZTV4Base").relocations, [(16, "_ZNK4Base1fEf".into(), 0)]);
        assert_eq!(variable("total").initial, 3.25_f64.to_le_bytes());
        assert_eq!(variable("steps").initial, [255, 255, 2]);
        assert_eq!((variable("steps").bytes, variable("steps").align), (6, 2));
        assert!(variable("dynamic").external && variable("dynamic").bytes == 0);
        assert_eq!(function("calls").max_threads, Some([256, 1, 1]));
        assert!(function("calls").is_kernel && !function("vprintf").is_kernel);
        assert_eq!(
            function("calls").parameters.iter().map(|p| (p.bytes, p.align)).collect::<Vec<_>>(),
            [(8, 8), (4, 4), (16, 8)]
        );
        assert_eq!((function("vprintf").body.is_none(), function("vprintf").returns.len()), (true, 1));
        let calls = function("calls").body.as_ref().unwrap();
        assert_eq!(calls.variables[1].bytes, 160);
        let printf = calls.instructions.iter().find(|i| i.opcode[0] == "call" && i.location == Some((1, 26)));
        assert!(printf.is_some());
    }
}
