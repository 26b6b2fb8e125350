//! A loaded module.

use std::collections::{BTreeMap, HashMap};

use super::code::Function;
use super::lower::{self, Symbols};
use super::special::Position;
use crate::memory::Memory;
use crate::ptx::ast::{self, Space, Variable};
use crate::ptx::parse;

/// Bits of a shared address below the variable's number: like allocations, each variable has room around it, so that an
/// address that strays from one is known as one of it.
pub const SHARED_SLOT_BITS: u32 = 24;
/// Shared variables that a kernel can have.
const SHARED_SLOTS: usize = 254;
/// Bytes of one variable, at most; local memory of a thread is what the hardware has.
const LARGEST: [(Space, u64); 5] = [
    (Space::Global, 4 << 30),
    (Space::Const, 64 << 10),
    (Space::Shared, 1 << 20),
    (Space::Local, 512 << 10),
    (Space::Param, 32 << 10),
];
/// Bytes of local memory for the frames of device functions that a kernel calls.
const STACK: u64 = 16 << 10;

/// A module's code and the addresses of its variables.
#[derive(Debug, Default)]
pub struct Program {
    kernels: Vec<Kernel>,
    /// Name, address, bytes.
    variables: Vec<(String, u64, u64)>,
    /// Of kernels and device functions.
    pub(super) functions: Vec<Function>,
    files: BTreeMap<u32, String>,
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
    /// Index of its code.
    pub(super) function: usize,
    /// (name, bytes) of shared variables by number; number 0 is dynamic shared memory.
    pub(super) shared_variables: Vec<(String, u64)>,
}

/// Why a module cannot run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoadError {
    /// Line of the PTX.
    pub line: u32,
    /// What is wrong there.
    pub message: String,
}

impl From<lower::Located> for LoadError {
    fn from((line, message): lower::Located) -> Self {
        Self { line, message }
    }
}

/// The address in shared space of variable `number`.
pub fn shared_address(number: usize) -> u64 {
    ((number as u64 + 1) << SHARED_SLOT_BITS) + (1 << (SHARED_SLOT_BITS - 1))
}

impl Program {
    /// Parses PTX, allocates its variables, and makes its code.
    ///
    /// # Errors
    /// Text that is not PTX, or what is not modelled.
    pub fn load(source: &str, memory: &mut Memory) -> Result<Self, LoadError> {
        let module = parse(source).map_err(|e| LoadError { line: e.line, message: e.message })?;
        check_sizes(&module)?;
        let mut program = Self { files: module.files.clone(), ..Self::default() };
        let mut symbols = Symbols::default();
        let mut shared = vec![(String::from("dynamic"), 0)];
        for variable in &module.variables {
            match variable.space {
                Space::Shared => program.add_shared(variable, &mut shared, &mut symbols),
                _ if variable.external => {
                    return Err((0, format!("{} is defined in no module", variable.name)).into());
                }
                _ => {
                    let address = memory.allocate(variable.bytes, &format!("variable {}", variable.name));
                    program.variables.push((variable.name.clone(), address, variable.bytes));
                    symbols.global.insert(variable.name.clone(), address);
                }
            }
        }
        let loaded = program
            .initialize(&module, &symbols, memory)
            .and_then(|()| program.add_functions(&module, symbols, shared));
        match loaded {
            Ok(()) => Ok(program),
            Err(error) => {
                program.unload(memory);
                Err(error.into())
            }
        }
    }

    fn add_shared(&self, variable: &Variable, shared: &mut Vec<(String, u64)>, symbols: &mut Symbols) {
        let number = if variable.external { 0 } else { shared.len() };
        if !variable.external {
            shared.push((variable.name.clone(), variable.bytes));
        }
        symbols.shared.insert(variable.name.clone(), shared_address(number));
    }

    /// Writes what variables start with: as declared, else zeros.
    fn initialize(&self, module: &ast::Module, symbols: &Symbols, memory: &Memory) -> Result<(), lower::Located> {
        for variable in module.variables.iter().filter(|variable| variable.space != Space::Shared) {
            let address = symbols.global[&variable.name];
            let mut bytes = variable.initial.clone();
            bytes.resize(variable.bytes as usize, 0);
            for (position, symbol, offset) in &variable.relocations {
                let function = module.functions.iter().position(|function| function.name == *symbol);
                let target = symbols.global.get(symbol).copied().or(function.map(code_address));
                let target = target.ok_or_else(|| (0, format!("{}: {symbol} has no address", variable.name)))?;
                let slot = bytes.get_mut(*position as usize..*position as usize + 8);
                let slot = slot.ok_or_else(|| (0, format!("{}: {symbol} does not fit", variable.name)))?;
                slot.copy_from_slice(&target.wrapping_add_signed(*offset).to_le_bytes());
            }
            if let Ok((allocation, _)) = memory.find(address, variable.bytes) {
                allocation.write(0, &bytes);
            }
        }
        Ok(())
    }

    fn add_functions(
        &mut self,
        module: &ast::Module,
        mut symbols: Symbols,
        mut shared: Vec<(String, u64)>,
    ) -> Result<(), lower::Located> {
        let defined: Vec<(&ast::Function, &ast::Body)> =
            module.functions.iter().filter_map(|f| Some((f, f.body.as_ref()?))).collect();
        symbols.functions = defined.iter().enumerate().map(|(i, (f, _))| (f.name.clone(), i)).collect();
        // those of device functions belong to every kernel
        let mut of_functions = HashMap::new();
        for (function, body) in defined.iter().filter(|(f, _)| !f.is_kernel) {
            of_functions.insert(&function.name, variables(body, &mut shared));
        }
        let calls = defined.iter().any(|(f, _)| !f.is_kernel);
        for (function, body) in &defined {
            let mut of_kernel = shared.clone();
            let (addresses, local) = match of_functions.remove(&function.name) {
                Some(known) => known,
                None => variables(body, &mut of_kernel),
            };
            if of_kernel.len() > SHARED_SLOTS {
                return Err((0, format!("{}: more than {SHARED_SLOTS} shared variables", function.name)));
            }
            let code = lower::function(function, body, module, &symbols, &addresses, local)?;
            if let Some((name, _)) = code.layout.specials.iter().find(|(name, _)| !Position::is_known(name)) {
                return Err((0, format!("{}: {name} is not modelled", function.name)));
            }
            if function.is_kernel {
                let (offsets, _) = lower::offsets(&function.parameters);
                let sizes = function.parameters.iter().map(|parameter| parameter.bytes);
                self.kernels.push(Kernel {
                    name: function.name.clone(),
                    parameters: offsets.into_iter().zip(sizes).collect(),
                    max_threads: function.max_threads,
                    shared: of_kernel.iter().map(|(_, bytes)| bytes.next_multiple_of(16)).sum(),
                    local: local + if calls { STACK } else { 0 },
                    function: self.functions.len(),
                    shared_variables: of_kernel,
                });
            }
            self.functions.push(code);
        }
        Ok(())
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
            // it was allocated when the module was loaded, and nobody else frees it
            let _ = memory.free(address);
        }
    }

    /// `file.cu:12` where line information says so, else `ptx:345`.
    pub(super) fn line(&self, location: Option<(u32, u32)>, line: u32) -> String {
        match location {
            Some((file, source)) if source > 0 && self.files.contains_key(&file) => {
                format!("{}:{source}", self.files[&file])
            }
            _ => format!("ptx:{line}"),
        }
    }
}

/// What a pointer to a function holds: no memory is there, and calls through it are not modelled.
fn code_address(function: usize) -> u64 {
    (function as u64 + 1) * 16
}

fn check_sizes(module: &ast::Module) -> Result<(), lower::Located> {
    let of_functions = module.functions.iter().flat_map(|function| {
        let locals = function.body.iter().flat_map(|body| &body.variables);
        function.parameters.iter().chain(&function.returns).chain(locals)
    });
    for variable in module.variables.iter().chain(of_functions) {
        let largest = LARGEST.iter().find(|(space, _)| *space == variable.space).map_or(0, |(_, bytes)| *bytes);
        if variable.bytes > largest {
            return Err((
                0,
                format!("{} has {} bytes, at most {largest} are possible", variable.name, variable.bytes),
            ));
        }
    }
    Ok(())
}

/// Addresses of a body's shared variables, which are added to `shared`, and offsets of its local ones, by index; and bytes
/// of the local ones.
fn variables(body: &ast::Body, shared: &mut Vec<(String, u64)>) -> (Vec<u64>, u64) {
    let mut local = 0_u64;
    let addresses = body.variables.iter().map(|variable| match variable.space {
        Space::Shared if variable.external => shared_address(0),
        Space::Shared => {
            shared.push((variable.name.clone(), variable.bytes));
            shared_address(shared.len() - 1)
        }
        Space::Local => {
            let offset = local.next_multiple_of(variable.align.max(1));
            local = offset + variable.bytes;
            offset
        }
        _ => 0,
    });
    (addresses.collect(), local.next_multiple_of(16))
}
