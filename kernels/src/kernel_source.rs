//! A `.cu` file, and what it declares about its kernels.
//!
//! Beside each kernel a line says under which role and variant it can be launched, and how:
//!
//! ```text
//! //@ layer_norm_fwd warp: grid rows/8; block 256; registers 40
//! ```
//!
//! The kernel's name is then `layer_norm_fwd_warp`. A grid has up to three sizes, divided by commas, each a product (`*`)
//! of numbers and of sizes that the op names at the launch; `rows/8` is rounded up. `registers` bounds what a thread may
//! use, and `tensor cores` says that it must use them where T is a half type: both are held against the machine code in
//! `kernels/tests/ptxas`. Of the variants of a role the first is taken, unless [`crate::cuda::Cuda::choose`] says
//! otherwise. `library` instead of a grid names a vendor's library as a variant. So a new variant touches its `.cu` alone.

use std::collections::HashMap;
use std::sync::{LazyLock, Mutex};

use crate::cuda::lock;

/// A kernel file of an op: its name and text. Made by [`crate::kernel_source!`].
#[derive(Clone, Copy, Debug)]
pub struct KernelSource {
    /// The file's name without `.cu`.
    pub name: &'static str,
    /// CUDA C++.
    pub text: &'static str,
    /// Lists of macros under which tests compile it: `["-DHEAD_DIM=32"]`. Each stands for all dtypes, unless it names the
    /// file's: `["-DELEMENT_T=float"]`.
    pub specializations: &'static [&'static [&'static str]],
}

/// The specializations of a file that computes in f32 alone.
pub const ONLY_F32: &[&[&str]] = &[&["-DELEMENT_T=float"]];

/// The `.cu` file of that name beside this Rust file.
#[macro_export]
macro_rules! kernel_source {
    ($name:literal) => {
        $crate::kernel_source!($name, &[&[]])
    };
    ($name:literal, $specializations:expr) => {
        $crate::kernel_source::KernelSource {
            name: $name,
            text: include_str!(concat!($name, ".cu")),
            specializations: $specializations,
        }
    };
}

/// What a `//@` line declares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Declaration {
    /// What the kernel is for; an op launches roles.
    pub role: &'static str,
    /// Which of the role's implementations it is.
    pub variant: &'static str,
    /// Products of numbers and named sizes; empty for a library.
    grid: Vec<Vec<Factor>>,
    /// Threads of a block; 0 for a library.
    pub block: u32,
    /// The most registers that a thread may use.
    pub registers: Option<u32>,
    /// Whether the machine code must hold tensor-core instructions.
    pub tensor_cores: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Factor {
    /// `None`: 1.
    size: Option<&'static str>,
    /// Multiplies a number, divides (rounding up) a size.
    number: usize,
}

impl KernelSource {
    /// All declarations, in order, read once a program. Panics, naming file and line, at one that it cannot read.
    pub fn declarations(&self) -> &'static [Declaration] {
        type Read = Mutex<HashMap<usize, &'static [Declaration]>>;
        static READ: LazyLock<Read> = LazyLock::new(Mutex::default);
        lock(&READ).entry(self.text.as_ptr() as usize).or_insert_with(|| self.read_declarations().leak())
    }

    fn read_declarations(&self) -> Vec<Declaration> {
        let lines = self.text.lines().enumerate();
        lines
            .filter_map(|(i, line)| Some((i, line.trim().strip_prefix("//@")?)))
            .map(|(i, line)| {
                Declaration::parse(line)
                    .unwrap_or_else(|| panic!("{}.cu:{}: cannot read the declaration //@{line}", self.name, i + 1))
            })
            .collect()
    }
}

impl Declaration {
    fn parse(line: &'static str) -> Option<Self> {
        let (names, clauses) = line.split_once(':')?;
        let [role, variant] = names.split_whitespace().collect::<Vec<_>>().try_into().ok()?;
        let mut it = Declaration { role, variant, grid: Vec::new(), block: 0, registers: None, tensor_cores: false };
        let mut is_library = false;
        for clause in clauses.split(';').map(str::trim) {
            match clause.split_once(' ') {
                None if clause == "library" => is_library = true,
                Some(("grid", sizes)) => it.grid = sizes.split(',').map(product).collect::<Option<_>>()?,
                Some(("block", n)) => it.block = n.parse().ok()?,
                Some(("registers", n)) => it.registers = Some(n.parse().ok()?),
                Some(("tensor", "cores")) => it.tensor_cores = true,
                _ => return None,
            }
        }
        let is_kernel = (1..=3).contains(&it.grid.len()) && it.block > 0;
        (is_library != is_kernel).then_some(it)
    }

    /// Whether a vendor's library does it.
    pub fn is_library(&self) -> bool {
        self.block == 0
    }

    /// The kernel's name in the `.cu`.
    pub fn kernel(&self) -> String {
        format!("{}_{}", self.role, self.variant)
    }

    /// Blocks along x, y, z for these sizes. Panics when a size is not among them.
    #[track_caller]
    pub fn blocks(&self, sizes: &[(&str, usize)]) -> [usize; 3] {
        let value = |f: &Factor| match f.size {
            None => f.number,
            Some(name) => {
                let size = sizes.iter().find(|(known, _)| *known == name);
                size.unwrap_or_else(|| panic!("{}: the launch names no size {name}", self.kernel()))
                    .1
                    .div_ceil(f.number)
            }
        };
        let mut blocks = [1; 3];
        for (blocks, factors) in blocks.iter_mut().zip(&self.grid) {
            *blocks = factors.iter().map(value).product();
        }
        blocks
    }
}

/// `rows/8 * heads` or `1`.
fn product(text: &'static str) -> Option<Vec<Factor>> {
    let factor = |text: &'static str| {
        let (size, number) = text.split_once('/').map_or((text, "1"), |(s, n)| (s.trim(), n.trim()));
        let is_name = |s: &str| s.starts_with(|c: char| c.is_ascii_lowercase());
        match size.parse() {
            Ok(number) => Some(Factor { size: None, number }),
            Err(_) if is_name(size) => {
                Some(Factor { size: Some(size), number: number.parse().ok().filter(|&n| n > 0)? })
            }
            Err(_) => None,
        }
    };
    text.split('*').map(|f| factor(f.trim())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn declarations() {
        let text = "// text\n//@ op_fwd warp: grid rows/8 * 2, heads; block 256; registers 40; tensor cores\n//@ op_fwd lt: library\n";
        let source = KernelSource { name: "op", text, specializations: &[&[]] };
        let [kernel, library] = source.declarations() else { panic!("two declarations") };
        assert_eq!((kernel.kernel().as_str(), kernel.block, kernel.registers), ("op_fwd_warp", 256, Some(40)));
        assert!(kernel.tensor_cores && !kernel.is_library() && library.is_library());
        assert_eq!(kernel.blocks(&[("heads", 3), ("rows", 17)]), [6, 3, 1]);
        for broken in [
            "a b",
            "a: grid 1; block 2",
            "a b: grid 1",
            "a b: block 2",
            "a b: grid rows/0; block 1",
            "a b: library; grid 1; block 1",
            "a b: grid 1; block 1; speed 2",
        ] {
            assert_eq!(Declaration::parse(broken), None, "{broken}");
        }
    }
}
