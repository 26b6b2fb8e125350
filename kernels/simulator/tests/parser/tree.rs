//! Facts that hold for every tree.

use mdetr_simulator::ptx::ast::{Body, Function, Module, Operand, Symbol, Type};

/// Every index leads somewhere, every symbol is declared, every initial value fits.
pub fn check(module: &Module) {
    let is_declared = |name: &String| {
        module.variables.iter().any(|v| v.name == *name) || module.functions.iter().any(|f| f.name == *name)
    };
    for variable in &module.variables {
        assert!(variable.align.is_power_of_two());
        assert!(variable.initial.len() as u64 <= variable.bytes, "{variable:?}");
        for (position, symbol, ..) in &variable.relocations {
            assert!(position + 8 <= variable.initial.len() as u64, "{variable:?}");
            assert!(is_declared(symbol), "{symbol}");
        }
    }
    for function in &module.functions {
        let Some(body) = &function.body else { continue };
        assert!(body.targets.iter().flatten().all(|&target| target <= body.instructions.len()));
        for instruction in &body.instructions {
            assert!(instruction.guard.is_none_or(|(register, _)| body.registers[register].1 == Type::Pred));
            assert!(!instruction.opcode.is_empty() && instruction.line > 0);
            for operand in &instruction.operands {
                check_operand(operand, function, body, &is_declared);
            }
        }
    }
}

fn check_operand(operand: &Operand, function: &Function, body: &Body, is_declared: &dyn Fn(&String) -> bool) {
    match operand {
        Operand::Register(register) => assert!(*register < body.registers.len()),
        Operand::Not(register) => assert_eq!(body.registers[*register].1, Type::Pred),
        Operand::Label(label) => assert!(*label <= body.instructions.len()),
        Operand::Targets(list) => assert!(*list < body.targets.len()),
        Operand::Symbol(Symbol::Local(variable), _) => assert!(*variable < body.variables.len()),
        Operand::Symbol(Symbol::Parameter(parameter), _) => assert!(*parameter < function.parameters.len()),
        Operand::Symbol(Symbol::Return(value), _) => assert!(*value < function.returns.len()),
        Operand::Symbol(Symbol::Module(name), _) => assert!(is_declared(name), "{name}"),
        Operand::Vector(parts) | Operand::List(parts) => {
            parts.iter().for_each(|part| check_operand(part, function, body, is_declared));
        }
        Operand::Pair(a, b) => [a, b].iter().for_each(|part| check_operand(part, function, body, is_declared)),
        Operand::Address(base, _) => check_operand(base, function, body, is_declared),
        Operand::Integer(_) | Operand::Float(_) | Operand::Double(_) | Operand::Special(_) | Operand::Sink => {}
    }
}

/// An operand without white space, as NVRTC writes it; labels are left out.
pub fn text(operand: &Operand, function: &Function, body: &Body) -> String {
    let text = |operand: &Operand| text(operand, function, body);
    let list = |parts: &[Operand]| parts.iter().map(text).collect::<Vec<_>>().join(",");
    let offset = |offset: i64| if offset == 0 { String::new() } else { format!("{offset:+}") };
    match operand {
        Operand::Register(register) => body.registers[*register].0.clone(),
        Operand::Not(register) => format!("!{}", body.registers[*register].0),
        Operand::Integer(value) => value.cast_signed().to_string(),
        Operand::Float(bits) => format!("0f{bits:08X}"),
        Operand::Double(bits) => format!("0d{bits:016X}"),
        Operand::Special(name) => name.clone(),
        Operand::Sink => "_".into(),
        Operand::Vector(parts) => format!("{{{}}}", list(parts)),
        Operand::List(parts) => format!("({})", list(parts)),
        Operand::Pair(a, b) => format!("{}|{}", text(a), text(b)),
        Operand::Address(base, by) => format!("[{}{}]", text(base), offset(*by)),
        Operand::Symbol(symbol, by) => {
            let name = match symbol {
                Symbol::Local(variable) => &body.variables[*variable].name,
                Symbol::Parameter(parameter) => &function.parameters[*parameter].name,
                Symbol::Return(value) => &function.returns[*value].name,
                Symbol::Module(name) => name,
            };
            format!("{name}{}", offset(*by))
        }
        Operand::Label(_) | Operand::Targets(_) => String::new(),
    }
}
