//! Modules and libraries of kernels: PTX, loaded.

use std::collections::HashMap;
use std::ffi::{CStr, c_char, c_uint, c_void};
use std::ptr::without_provenance_mut;

use cudarc::driver::sys::{
    CUdeviceptr, CUfunction, CUjit_option, CUkernel, CUlibrary, CUlibraryOption, CUmodule,
    CUresult::{self, *},
};

use super::books::finding;
use super::function::Function;
use super::{Answer, Driver, Out, call_bound, put, refuse};
use crate::findings::Kind;
use crate::options::options;
use crate::vm::program::Program;

/// A module or a library.
pub struct Module {
    /// Its code.
    pub program: Program,
    /// Handles of the kernels that were asked for.
    functions: HashMap<String, usize>,
}

/// Buffers for what the compiler says.
#[derive(Default)]
struct Logs {
    buffer: Option<*mut c_char>,
    bytes: usize,
}

impl Logs {
    /// # Safety
    /// `count` options, with values as their types have them.
    unsafe fn read(options: *const CUjit_option, values: *const *mut c_void, count: c_uint) -> Self {
        let mut logs = Self::default();
        for index in 0..count as usize {
            // SAFETY: there are `count`. An option may be newer than the enumeration, so it is read as a number.
            let (option, value) = unsafe { (options.cast::<c_uint>().add(index).read(), values.add(index).read()) };
            if option == CUjit_option::CU_JIT_ERROR_LOG_BUFFER as c_uint {
                logs.buffer = Some(value.cast::<c_char>()).filter(|buffer| !buffer.is_null());
            } else if option == CUjit_option::CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES as c_uint {
                logs.bytes = value.addr() as u32 as usize;
            }
        }
        logs
    }

    /// Writes a message and its end, cut to the buffer.
    fn write(&self, message: &str) {
        let (Some(buffer), Some(room)) = (self.buffer, self.bytes.checked_sub(1)) else { return };
        let bytes = message.len().min(room);
        // SAFETY: the caller of the load gave a buffer of `self.bytes` bytes.
        unsafe {
            buffer.cast::<u8>().copy_from_nonoverlapping(message.as_ptr(), bytes);
            buffer.add(bytes).write(0);
        }
    }
}

/// Why the claimed device cannot run PTX for `target` (`sm_80`, `sm_90a`).
fn too_new(target: &str) -> Option<String> {
    let here = options().compute_capability;
    let digits = target.strip_prefix("sm_")?;
    let number: u32 = digits.trim_end_matches(|c: char| c.is_ascii_lowercase()).parse().ok()?;
    let only_there = digits.ends_with('a') && number != here;
    (number > here || only_there).then(|| format!("PTX for {target} on a device that is sm_{here}"))
}

impl Driver {
    fn load(&mut self, image: &[u8], logs: &Logs) -> Answer<usize> {
        if image.starts_with(b"\x7fELF") || image.starts_with(&0xba55_ed50_u32.to_le_bytes()) {
            let message = "machine code cannot run here: load PTX".to_owned();
            self.books.found(finding(Kind::Unsupported, "cuModuleLoad", message));
            return Err(CUDA_ERROR_NO_BINARY_FOR_GPU);
        }
        let source = str::from_utf8(image).map_err(|_| CUDA_ERROR_INVALID_IMAGE)?;
        let target = source.lines().find_map(|line| line.strip_prefix(".target")).unwrap_or_default();
        if let Some(message) = target.split(',').find_map(|target| too_new(target.trim())) {
            logs.write(&message);
            return refuse(CUDA_ERROR_NO_BINARY_FOR_GPU, &message);
        }
        let program = Program::load(source, &mut self.memory).or_else(|error| {
            let message = format!("line {} of the PTX: {}", error.line, error.message);
            logs.write(&message);
            refuse(CUDA_ERROR_INVALID_PTX, &message)
        })?;
        Ok(self.modules.insert(Module { program, functions: HashMap::new() }))
    }

    fn load_file(&mut self, path: *const c_char, logs: &Logs) -> Answer<usize> {
        // SAFETY: the caller passes a string.
        let path = unsafe { text(path) }?;
        let path = path.to_str().map_err(|_| CUDA_ERROR_INVALID_VALUE)?;
        let image =
            std::fs::read(path).or_else(|error| refuse(CUDA_ERROR_FILE_NOT_FOUND, &format!("{path}: {error}")))?;
        self.load(&image, logs)
    }

    fn unload(&mut self, module: usize) -> Answer {
        let Module { program, functions } = self.modules.remove(module)?;
        functions.values().for_each(|&function| drop(self.functions.remove(function)));
        program.unload(&mut self.memory);
        Ok(())
    }

    fn get_function(&mut self, module: usize, name: *const c_char) -> Answer<usize> {
        // SAFETY: the caller passes a string.
        let name = unsafe { text(name) }?.to_string_lossy();
        let of = self.modules.get_mut(module)?;
        if let Some(&known) = of.functions.get(&*name) {
            return Ok(known);
        }
        let kernel = of.program.kernel(&name).ok_or(CUDA_ERROR_NOT_FOUND)?.clone();
        let function = self.functions.insert(Function::new(module, kernel));
        of.functions.insert(name.into_owned(), function);
        Ok(function)
    }

    fn get_global(
        &mut self,
        (address, bytes): (Out<'_, CUdeviceptr>, Out<'_, usize>),
        module: usize,
        name: *const c_char,
    ) -> Answer {
        // SAFETY: the caller passes a string.
        let name = unsafe { text(name) }?.to_string_lossy();
        let (start, size) = self.modules.get(module)?.program.variable(&name).ok_or(CUDA_ERROR_NOT_FOUND)?;
        if let Some(address) = address {
            address.write(start);
        }
        if let Some(bytes) = bytes {
            bytes.write(size as usize);
        }
        Ok(())
    }
}

/// A caller's string.
///
/// # Safety
/// Null, or ends with a zero and lives on.
unsafe fn text<'a>(text: *const c_char) -> Answer<&'a CStr> {
    if text.is_null() {
        return Err(CUDA_ERROR_INVALID_VALUE);
    }
    // SAFETY: it ends with a zero, by contract.
    Ok(unsafe { CStr::from_ptr(text) })
}

/// The bytes of an image: up to the zero that ends PTX. Of machine code, which has zeros, that is enough to know it.
///
/// # Safety
/// Null, or an image of a module that lives on.
unsafe fn image<'a>(image: *const c_void) -> Answer<&'a [u8]> {
    // SAFETY: PTX ends with a zero, and headers of machine code have one.
    unsafe { text(image.cast()) }.map(CStr::to_bytes)
}

/// # Safety
/// `path` is a string.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuModuleLoad(out: Out<'_, CUmodule>, path: *const c_char) -> CUresult {
    call_bound("cuModuleLoad", |driver| put(out, without_provenance_mut(driver.load_file(path, &Logs::default())?)))
}

/// # Safety
/// `data` is an image of a module.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuModuleLoadData(out: Out<'_, CUmodule>, data: *const c_void) -> CUresult {
    call_bound("cuModuleLoadData", |driver| {
        // SAFETY: an image, by contract.
        let image = unsafe { image(data) }?;
        put(out, without_provenance_mut(driver.load(image, &Logs::default())?))
    })
}

/// # Safety
/// `data` is an image of a module; there are `count` options.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuModuleLoadDataEx(
    out: Out<'_, CUmodule>,
    data: *const c_void,
    count: c_uint,
    options: *mut CUjit_option,
    values: *mut *mut c_void,
) -> CUresult {
    call_bound("cuModuleLoadDataEx", |driver| {
        // SAFETY: an image and its options, by contract.
        let (image, logs) = unsafe { (image(data)?, Logs::read(options, values, count)) };
        put(out, without_provenance_mut(driver.load(image, &logs)?))
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuModuleUnload(module: CUmodule) -> CUresult {
    call_bound("cuModuleUnload", |driver| driver.unload(module.addr()))
}

/// # Safety
/// `name` is a string.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuModuleGetFunction(
    out: Out<'_, CUfunction>,
    module: CUmodule,
    name: *const c_char,
) -> CUresult {
    call_bound("cuModuleGetFunction", |driver| {
        put(out, without_provenance_mut(driver.get_function(module.addr(), name)?))
    })
}

/// # Safety
/// `name` is a string.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuModuleGetGlobal_v2(
    address: Out<'_, CUdeviceptr>,
    bytes: Out<'_, usize>,
    module: CUmodule,
    name: *const c_char,
) -> CUresult {
    call_bound("cuModuleGetGlobal", |driver| driver.get_global((address, bytes), module.addr(), name))
}

/// # Safety
/// `data` is an image of a module; there are `count` options.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuLibraryLoadData(
    out: Out<'_, CUlibrary>,
    data: *const c_void,
    options: *mut CUjit_option,
    values: *mut *mut c_void,
    count: c_uint,
    _library_options: *mut CUlibraryOption,
    _library_values: *mut *mut c_void,
    _library_count: c_uint,
) -> CUresult {
    call_bound("cuLibraryLoadData", |driver| {
        // SAFETY: an image and its options, by contract.
        let (image, logs) = unsafe { (image(data)?, Logs::read(options, values, count)) };
        put(out, without_provenance_mut(driver.load(image, &logs)?))
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuLibraryUnload(library: CUlibrary) -> CUresult {
    call_bound("cuLibraryUnload", |driver| driver.unload(library.addr()))
}

/// # Safety
/// `name` is a string.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuLibraryGetKernel(
    out: Out<'_, CUkernel>,
    library: CUlibrary,
    name: *const c_char,
) -> CUresult {
    call_bound("cuLibraryGetKernel", |driver| {
        put(out, without_provenance_mut(driver.get_function(library.addr(), name)?))
    })
}

/// # Safety
/// `name` is a string.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuLibraryGetGlobal(
    address: Out<'_, CUdeviceptr>,
    bytes: Out<'_, usize>,
    library: CUlibrary,
    name: *const c_char,
) -> CUresult {
    call_bound("cuLibraryGetGlobal", |driver| driver.get_global((address, bytes), library.addr(), name))
}

/// A kernel and its function are one here.
#[unsafe(no_mangle)]
pub extern "C" fn cuKernelGetFunction(out: Out<'_, CUfunction>, kernel: CUkernel) -> CUresult {
    call_bound("cuKernelGetFunction", |driver| {
        driver.functions.get(kernel.addr())?;
        put(out, kernel.cast())
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuLibraryGetModule(out: Out<'_, CUmodule>, library: CUlibrary) -> CUresult {
    call_bound("cuLibraryGetModule", |driver| {
        driver.modules.get(library.addr())?;
        put(out, library.cast())
    })
}
