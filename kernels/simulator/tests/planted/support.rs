//! A case is a pair of kernels, `bug_NAME` and `fixed_NAME`, and what has to be said of the first.

use mdetr_simulator::findings::{Kind, Thread};
use mdetr_simulator::options::Options;
use mdetr_simulator::vm::launch::Outcome;
use mdetr_simulator::vm::program::Program;

use crate::common::{Arg, Device, assert_clean, nvrtc};

/// A module on a device of its own.
pub struct Loaded {
    pub device: Device,
    pub program: Program,
}

impl Loaded {
    pub fn new(ptx: &str, options: Options) -> Self {
        let mut device = Device::new(options);
        let program = device.load(ptx);
        Self { device, program }
    }

    /// In one dimension.
    pub fn launch(&mut self, kernel: &str, blocks: u32, threads: u32, args: &[Arg]) -> Outcome {
        self.device.launch(&self.program, kernel, [blocks, 1, 1], [threads, 1, 1], 0, args)
    }
}

pub struct Case {
    pub name: &'static str,
    /// Any of them.
    pub kinds: &'static [Kind],
    /// How the argument or the variable ends, if one is at fault.
    pub argument: Option<&'static str>,
    /// Threads that can be the first to meet it.
    pub thread: fn(Thread) -> bool,
    /// Launches the kernel of this name.
    pub launch: fn(&mut Loaded, &str) -> Outcome,
}

pub const SEEDS: std::ops::Range<u64> = 0..5;

/// The lines of a kernel that end in `// BUG`, as findings name them.
fn marked_lines(file: &str, kernel: &str) -> Vec<String> {
    let path = nvrtc::source(file);
    let source = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let mut inside = false;
    let mut lines = Vec::new();
    for (number, line) in (1..).zip(source.lines()) {
        if line.contains("__global__") {
            inside = line.contains(&format!(" {kernel}("));
        }
        if inside && line.ends_with("// BUG") {
            lines.push(format!("{file}.cu:{number}"));
        }
    }
    assert!(!lines.is_empty(), "{kernel} has no line marked as its bug");
    lines
}

/// Every finding of the bug is the one that was planted, and there is one; the twin has none.
pub fn check(file: &str, cases: &[Case]) {
    let options = SEEDS.map(|seed| Options { seed, limit: 100_000, ..Options::default() });
    let options: Vec<Options> = options.collect();
    nvrtc::for_each_compiler(file, |target, ptx| {
        for case in cases {
            let bug = format!("bug_{}", case.name);
            let lines = marked_lines(file, &bug);
            for options in &options {
                let context = format!("{bug}, {target:?}, seed {}", options.seed);
                let outcome = (case.launch)(&mut Loaded::new(ptx, options.clone()), &bug);
                assert!(!outcome.findings.is_empty(), "{context}: nothing was found");
                for finding in &outcome.findings {
                    let argument = finding.argument.as_deref().unwrap_or_default();
                    let right = case.kinds.contains(&finding.kind)
                        && finding.place == bug
                        && finding
                            .line
                            .as_ref()
                            .is_some_and(|line| lines.iter().any(|marked| line.ends_with(marked)))
                        && argument.ends_with(case.argument.unwrap_or_default())
                        && finding.thread.is_some_and(case.thread);
                    assert!(
                        right,
                        "{context}: expected {:?} at {lines:?}, {:?}, found\n{finding}",
                        case.kinds, case.argument
                    );
                }
                let fixed = format!("fixed_{}", case.name);
                eprintln!("{fixed}, {target:?}, seed {}", options.seed); // shown if it fails
                assert_clean(&(case.launch)(&mut Loaded::new(ptx, options.clone()), &fixed));
            }
        }
    });
}
