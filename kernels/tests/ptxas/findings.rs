//! What machine code may not be: slower by local memory than the `.cu` looks, or other than its declaration says.

use mdetr_kernels::DType;
use mdetr_kernels::kernel_source::KernelSource;
use mdetr_kernels::launch::element;

use crate::assemble::Kernel;

/// What is wrong with the kernels of a file that was compiled with these options.
pub fn of(source: &KernelSource, defines: &[String], kernels: &[Kernel]) -> Vec<String> {
    let declarations = source.declarations();
    let is_half = !defines.contains(&element("T", DType::F32));
    let mut findings = Vec::new();
    for kernel in kernels {
        let mut find = |what: String| findings.push(format!("{} {what}", kernel.name));
        let Some(declared) = declarations.iter().find(|d| !d.is_library() && d.kernel() == kernel.name) else {
            find("has no declaration".into());
            continue;
        };
        if let Some(bound) = declared.registers.filter(|&bound| kernel.registers > u64::from(bound)) {
            find(format!("uses {} registers, {bound} are declared", kernel.registers));
        }
        if kernel.spilled > 0 {
            find(format!("spills registers: {} bytes a thread", kernel.spilled));
        } else if kernel.stack > 0 || kernel.local > 0 {
            find(format!("uses {} bytes of local memory by {} instructions", kernel.stack, kernel.local));
        }
        if declared.tensor_cores && is_half && kernel.tensor == 0 {
            find("does not use the tensor cores".into());
        }
    }
    for declared in declarations.iter().filter(|d| !d.is_library()) {
        if kernels.iter().all(|kernel| kernel.name != declared.kernel()) {
            findings.push(format!("{} is declared and not there", declared.kernel()));
        }
    }
    findings
}
