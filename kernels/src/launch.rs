//! Launching kernels by role.

use std::collections::HashMap;
use std::ffi::{CString, c_void};

use cudarc::driver::{result, sys};

use crate::cuda::{Cuda, lock};
use crate::kernel_source::{Declaration, KernelSource};
use crate::op::GradSlot;
use crate::philox::Philox;
use crate::tensor::{Tensor, TensorMut};
use crate::{DType, nvrtc};

/// A kernel's argument.
#[derive(Clone, Copy, Debug, Hash)]
pub struct Arg {
    /// Its bytes, little-endian, as many as its type has.
    words: [u64; 6],
}

impl Arg {
    /// A pointer that kernels take for "not there".
    pub const NULL: Arg = Arg { words: [0; 6] };

    /// `struct Philox` of `philox.cuh`: a stream counted from the number at a device address (0: from nothing); zeros where
    /// nothing is drawn.
    pub fn philox(philox: Option<Philox>, base: u64) -> Self {
        philox.map_or(Arg::NULL, |p| Arg { words: [p.seed, p.stream, base, 0, 0, 0] })
    }

    /// A struct of 32-bit members, at most twelve.
    pub fn words<const N: usize>(members: [u32; N]) -> Self {
        let mut words = [0; 12];
        words[..N].copy_from_slice(&members);
        Arg { words: bytemuck::cast(words) }
    }

    /// A struct of ints, at most twelve.
    #[track_caller]
    pub fn ints<const N: usize>(ints: [usize; N]) -> Self {
        Arg::words(ints.map(|v| int(v) as u32))
    }

    fn word(word: u64) -> Self {
        Arg { words: [word, 0, 0, 0, 0, 0] }
    }
}

impl From<&Tensor> for Arg {
    fn from(t: &Tensor) -> Self {
        Arg::word(t.device_address())
    }
}

impl From<&mut Tensor> for Arg {
    #[track_caller]
    fn from(t: &mut Tensor) -> Self {
        Arg::word(t.device_address_mut())
    }
}

impl From<Option<&Tensor>> for Arg {
    fn from(t: Option<&Tensor>) -> Self {
        t.map_or(Arg::NULL, Arg::from)
    }
}

impl From<Option<&mut Tensor>> for Arg {
    #[track_caller]
    fn from(t: Option<&mut Tensor>) -> Self {
        t.map_or(Arg::NULL, Arg::from)
    }
}

impl From<&mut TensorMut<'_>> for Arg {
    #[track_caller]
    fn from(t: &mut TensorMut) -> Self {
        Arg::word(t.device_address_mut())
    }
}

impl From<i32> for Arg {
    fn from(v: i32) -> Self {
        Arg::word(u64::from(v as u32))
    }
}

impl From<bool> for Arg {
    fn from(v: bool) -> Self {
        Arg::from(i32::from(v))
    }
}

/// Sizes and indices are `int` in kernels.
impl From<usize> for Arg {
    #[track_caller]
    fn from(v: usize) -> Self {
        Arg::from(int(v))
    }
}

#[track_caller]
fn int(v: usize) -> i32 {
    i32::try_from(v).unwrap_or_else(|_| panic!("a kernel's size is {v}, more than an int holds"))
}

impl From<u64> for Arg {
    fn from(v: u64) -> Self {
        Arg::word(v)
    }
}

impl From<f32> for Arg {
    fn from(v: f32) -> Self {
        Arg::word(u64::from(v.to_bits()))
    }
}

impl GradSlot<'_> {
    /// The slot as a kernel's two arguments: its address (null for `Skip`) and whether to add.
    #[track_caller]
    pub fn args(&mut self) -> [Arg; 2] {
        let (address, accumulate) = self.address().unwrap_or_default();
        [Arg::from(address), Arg::from(accumulate)]
    }

    /// The slot as a library takes it: its address and whether to add; `None` for `Skip`.
    #[track_caller]
    pub fn address(&mut self) -> Option<(u64, bool)> {
        match self {
            GradSlot::Skip => None,
            GradSlot::Write(t) => Some((t.device_address_mut(), false)),
            GradSlot::Accumulate(t) => Some((t.device_address_mut(), true)),
        }
    }
}

/// A list of kernel arguments: tensors, numbers, in the order of the kernel's parameters.
#[macro_export]
macro_rules! args {
    ($($arg:expr),* $(,)?) => { [$($crate::launch::Arg::from($arg)),*] };
}

/// The option that makes a kernel file's type T (or U, a second one) a dtype: `element("T", F16)` is `-DELEMENT_T=f16`.
pub fn element(name: &str, dtype: DType) -> String {
    let element = match dtype {
        DType::F32 => "float",
        DType::F16 => "f16",
        DType::BF16 => "bf16",
        DType::F64 => "double",
        DType::I32 => "int",
    };
    format!("-DELEMENT_{name}={element}")
}

/// How many 16-byte vectors `n` elements fill: threads of elementwise kernels.
pub fn vectors(n: usize, dtype: DType) -> usize {
    n.div_ceil(16 / dtype.size())
}

/// How many chunks a row of `c` elements has for kernels that read it by `Columns` of `rows.cuh`.
pub fn row_chunks(c: usize, dtype: DType) -> usize {
    vectors(c, dtype).div_ceil(32)
}

/// Loaded modules by file and options, and their functions by name.
#[derive(Default)]
pub(crate) struct Modules {
    loaded: HashMap<(&'static str, String), Module>,
}

struct Module {
    handle: sys::CUmodule,
    functions: HashMap<String, sys::CUfunction>,
}

// SAFETY: handles of a context; the driver takes them from any thread.
unsafe impl Send for Module {}

impl Cuda {
    /// Launches a kernel on the compute stream: the variant of `role` that is chosen now, compiled with `defines`, with as
    /// many blocks as its declaration makes of `sizes`. Does nothing where that is none.
    #[track_caller]
    pub fn launch(
        &self,
        source: &KernelSource,
        role: &str,
        defines: &[String],
        sizes: &[(&str, usize)],
        args: &[Arg],
    ) {
        self.launch_variant(source, role, self.variant(source, role), defines, sizes, args);
    }

    /// [`Self::launch`] of this variant, whichever is chosen: where a library refuses, a kernel does not do a type, or a
    /// role's variants lie in several files.
    #[track_caller]
    pub fn launch_variant(
        &self,
        source: &KernelSource,
        role: &str,
        variant: &str,
        defines: &[String],
        sizes: &[(&str, usize)],
        args: &[Arg],
    ) {
        let declarations = source.declarations();
        let declared = declarations.iter().find(|d| d.role == role && d.variant == variant);
        let declared = declared.unwrap_or_else(|| panic!("{}.cu declares no {role} {variant}", source.name));
        assert!(!declared.is_library(), "{role} {variant} is a library's, not a kernel");
        let blocks = declared.blocks(sizes);
        if blocks.contains(&0) || self.has_failed() {
            return;
        }
        self.bind();
        if let Some(function) = self.function(source, defines, declared) {
            self.launch_function(function, declared, blocks, args);
        }
    }

    fn launch_function(&self, function: sys::CUfunction, declared: &Declaration, blocks: [usize; 3], args: &[Arg]) {
        if !self.makes(("kernel", function, declared.block, blocks, args)) {
            return;
        }
        let [x, y, z] = blocks.map(|n| u32::try_from(n).unwrap_or(u32::MAX));
        let mut pointers: Vec<*mut c_void> =
            args.iter().map(|a| std::ptr::from_ref(&a.words).cast_mut().cast()).collect();
        // SAFETY: the function is loaded; as many arguments are given, of the types that its `.cu` names, as tests of every
        // op check; tensors among them are alive until what is enqueued after this launch.
        let launched = unsafe {
            result::launch_kernel(function, (x, y, z), (declared.block, 1, 1), 0, self.stream(), &mut pointers)
        };
        self.remember(launched, || format!("{} ({blocks:?} blocks of {})", declared.kernel(), declared.block));
    }

    fn function(&self, source: &KernelSource, defines: &[String], declared: &Declaration) -> Option<sys::CUfunction> {
        let mut modules = lock(&self.modules);
        let key = (source.name, defines.join(" "));
        if !modules.loaded.contains_key(&key) {
            let module = match nvrtc::compile(source, defines, self.capability()) {
                Ok(ptx) => self.load(source, &ptx)?,
                Err(error) => {
                    self.fail(format!("{error:#}"));
                    return None;
                }
            };
            modules.loaded.insert(key.clone(), module);
        }
        let module = modules.loaded.get_mut(&key)?;
        let name = declared.kernel();
        if let Some(&function) = module.functions.get(&name) {
            return Some(function);
        }
        let symbol = CString::new(name.as_str()).ok()?;
        // SAFETY: the module is loaded and never unloaded.
        let found = unsafe { result::module::get_function(module.handle, symbol) };
        let function = self.remember(found, || format!("{}.cu has no kernel {name}", source.name))?;
        module.functions.insert(name, function);
        Some(function)
    }

    fn load(&self, source: &KernelSource, ptx: &CString) -> Option<Module> {
        // SAFETY: PTX text that ends with a zero.
        let loaded = unsafe { result::module::load_data(ptx.as_ptr().cast()) };
        let handle = self.remember(loaded, || {
            format!(
                "loading {}.cu (a driver refuses the PTX of a newer NVRTC: use one of the driver's CUDA version)",
                source.name
            )
        })?;
        Some(Module { handle, functions: HashMap::new() })
    }
}
