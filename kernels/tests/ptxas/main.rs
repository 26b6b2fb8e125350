//! Machine code of every `.cu`: what ptxas and the disassembler say of it for sm_80, sm_90 and sm_100, held against the
//! kernels' declarations. No GPU is needed. `OP=linear` looks at one op.

mod assemble;
mod findings;
mod planted;
#[allow(dead_code, reason = "nothing runs on the simulator here")]
#[path = "../../simulator/tests/common/process.rs"]
mod process;

use mdetr_kernels::DType;
use mdetr_kernels::kernel_source::KernelSource;
use mdetr_kernels::launch::element;
use mdetr_kernels::registry::{OPS, kernel_sources};
use rayon::prelude::*;

use crate::assemble::{assemble, cache_folder};

/// Ampere, Hopper, Blackwell.
const CAPABILITIES: [u32; 3] = [80, 90, 100];

/// The lists of options under which a file is compiled: its specializations, each in all dtypes unless it names one.
fn options(source: &KernelSource) -> Vec<Vec<String>> {
    let named = |list: &&[&str]| list.iter().any(|define| define.starts_with("-DELEMENT_T="));
    let owned = |list: &[&str]| list.iter().map(|define| define.to_string()).collect::<Vec<_>>();
    let dtypes = || [DType::F32, DType::F16, DType::BF16].map(|dtype| element("T", dtype));
    let lists = source.specializations.iter();
    let all = lists.flat_map(|list| match named(list) {
        true => vec![owned(list)],
        false => dtypes().map(|dtype| [vec![dtype], owned(list)].concat()).to_vec(),
    });
    all.collect()
}

/// What is wrong with the machine code of these files.
fn findings(sources: &[KernelSource]) -> Vec<String> {
    let modules = sources.iter().flat_map(|source| options(source).into_iter().map(move |defines| (source, defines)));
    let modules: Vec<_> = modules.collect();
    let mut findings: Vec<String> = modules
        .par_iter()
        .flat_map_iter(|(source, defines)| CAPABILITIES.map(|capability| (source, defines, capability)))
        .flat_map_iter(|(source, defines, capability)| {
            let module = format!("{}.cu for sm_{capability} {}", source.name, defines.join(" "));
            match assemble(source, defines, capability) {
                Ok(kernels) => findings::of(source, defines, &kernels),
                Err(error) => vec![format!("{error:#}")],
            }
            .into_iter()
            .map(move |finding| format!("{module}: {finding}"))
        })
        .collect();
    findings.sort();
    findings
}

/// Runs the body of the test `name` in a process that finds NVRTC.
fn with_nvrtc(name: &str, body: impl FnOnce()) {
    let cache = cache_folder().display().to_string();
    let report = process::simulated(name, &[(process::NVRTC, "12.9"), ("MDETR_CACHE", &cache)], body);
    report.iter().for_each(process::Report::assert_clean);
}

#[test]
fn kernels_are_as_declared() {
    with_nvrtc("kernels_are_as_declared", || {
        let sources = match std::env::var("OP") {
            Ok(name) => OPS.iter().filter(|op| op.name == name).flat_map(|op| op.kernels).copied().collect(),
            Err(_) => kernel_sources(),
        };
        let findings = findings(&sources);
        assert!(findings.is_empty(), "{}", findings.join("\n"));
    });
}
