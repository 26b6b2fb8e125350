//! A loaded module.

use crate::memory::Memory;

/// A module's code and the addresses of its variables.
#[derive(Debug, Default)]
pub struct Program {
    kernels: Vec<Kernel>,
    variables: Vec<(String, u64, u64)>,
}

/// What a launch has to know of a kernel.
#[derive(Clone, Debug)]
pub struct Kernel {
    /// As mangled.
    pub name: String,
    /// (offset, bytes) of every parameter in the launch's arguments.
    pub parameters: Vec<(u64, u64)>,
    /// `__launch_bounds__`, if any.
    pub max_threads: Option<[u32; 3]>,
    /// Bytes of static shared memory.
    pub shared: u64,
    /// Bytes of local memory a thread.
    pub local: u64,
}

/// Why a module cannot run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoadError {
    /// Line of the PTX.
    pub line: u32,
    /// What is wrong there.
    pub message: String,
}

impl Program {
    /// Parses PTX, allocates its variables, and makes its code.
    ///
    /// # Errors
    /// Text that is not PTX, or what is not modelled.
    pub fn load(source: &str, memory: &mut Memory) -> Result<Self, LoadError> {
        let _ = (source, memory);
        Ok(Self::default())
    }

    /// A kernel by name.
    pub fn kernel(&self, name: &str) -> Option<&Kernel> {
        self.kernels.iter().find(|kernel| kernel.name == name)
    }

    /// Kernels in the order of the text.
    pub fn kernels(&self) -> &[Kernel] {
        &self.kernels
    }

    /// Address and size of a module variable.
    pub fn variable(&self, name: &str) -> Option<(u64, u64)> {
        self.variables.iter().find(|v| v.0 == name).map(|v| (v.1, v.2))
    }

    /// Frees its variables.
    pub fn unload(self, memory: &mut Memory) {
        for (_, address, _) in self.variables {
            let _ = memory.free(address);
        }
    }
}
