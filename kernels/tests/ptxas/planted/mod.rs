//! Kernels with one fault each, which has to be found on every architecture.

use mdetr_kernels::kernel_source;
use mdetr_kernels::kernel_source::KernelSource;

use crate::{CAPABILITIES, findings, with_nvrtc};

const HALF: &[&[&str]] = &[&["-DELEMENT_T=f16"]];

/// A file, and words of the only finding on each architecture.
const PLANTED: &[(KernelSource, &str)] = &[
    (kernel_source!("spill", HALF), "planted_spill spills registers"),
    (kernel_source!("local_array", HALF), "planted_local_array uses"),
    (kernel_source!("registers", HALF), "registers, 16 are declared"),
    (kernel_source!("no_tensor_cores", HALF), "planted_product does not use the tensor cores"),
    (kernel_source!("undeclared", HALF), "planted_undeclared has no declaration"),
    (kernel_source!("not_there", HALF), "planted_copy is declared and not there"),
    (kernel_source!("no_code", HALF), "does not compile"),
];

#[test]
fn faults_are_found() {
    with_nvrtc("planted::faults_are_found", || {
        for (source, words) in PLANTED {
            let findings = findings(&[*source]);
            let expected = findings.len() == CAPABILITIES.len() && findings.iter().all(|f| f.contains(words));
            assert!(expected, "{}.cu: {words}: {findings:#?}", source.name);
        }
    });
}
