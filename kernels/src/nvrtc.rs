//! CUDA C++ to PTX by NVRTC, at run time, with a cache on disk.
//!
//! Kernels need nothing of a CUDA installation but NVRTC's library: their headers are in the binary. A cached file's name is
//! a hash of everything that PTX depends on, so that the cache never needs clearing.

use std::ffi::{CStr, CString};
use std::path::PathBuf;

use anyhow::{Context, Result, bail, ensure};
use cudarc::nvrtc::sys;
use sha2::{Digest, Sha256};

use crate::kernel_source::KernelSource;

/// Headers that kernels may include, by name.
pub const HEADERS: &[(&str, &str)] = &[
    ("activation.cuh", include_str!("../include/activation.cuh")),
    ("columns.cuh", include_str!("../include/columns.cuh")),
    ("convolution.cuh", include_str!("../include/convolution.cuh")),
    ("boxes.cuh", include_str!("../include/boxes.cuh")),
    ("attention.cuh", include_str!("../include/attention.cuh")),
    ("attention_mma.cuh", include_str!("../include/attention_mma.cuh")),
    ("dtype.cuh", include_str!("../include/dtype.cuh")),
    ("exp.cuh", include_str!("../include/exp.cuh")),
    ("matching.cuh", include_str!("../include/matching.cuh")),
    ("mma.cuh", include_str!("../include/mma.cuh")),
    ("philox.cuh", include_str!("../include/philox.cuh")),
    ("product.cuh", include_str!("../include/product.cuh")),
    ("reduce.cuh", include_str!("../include/reduce.cuh")),
    ("rows.cuh", include_str!("../include/rows.cuh")),
];

/// The PTX of a kernel file for a compute capability (90 for 9.0), with macros defined as `defines` say (`-DELEMENT_T=f16`).
/// Errors: no NVRTC, or its messages with the file's lines.
pub fn compile(source: &KernelSource, defines: &[String], capability: u32) -> Result<CString> {
    // SAFETY: only looks whether the library is there.
    let is_present = unsafe { sys::is_culib_present() };
    ensure!(
        is_present,
        "NVRTC is missing: CUDA kernels are compiled when they are first used. Install the CUDA toolkit or the \
         nvidia-cuda-nvrtc-cu12 wheel, and put the folder of libnvrtc.so on LD_LIBRARY_PATH"
    );
    let capability = newest_capability(capability)?;
    let mut options = vec![
        format!("--gpu-architecture=compute_{capability}"),
        "--std=c++17".to_string(),
        "--generate-line-info".to_string(),
        "--device-as-default-execution-space".to_string(),
    ];
    options.extend_from_slice(defines);
    let cached = cache_file(source, &options)?;
    if let Some(ptx) = cached.as_ref().and_then(|path| CString::new(std::fs::read(path).ok()?).ok()) {
        return Ok(ptx);
    }
    let ptx = Program::new(source)?.ptx(source.name, &options)?;
    if let Some(path) = cached {
        // A cache that cannot be written costs time and nothing else.
        let _ = store(&path, ptx.as_bytes());
    }
    Ok(ptx)
}

/// Whole under its name or not at all: several processes may compile at once.
fn store(path: &std::path::Path, ptx: &[u8]) -> std::io::Result<()> {
    std::fs::create_dir_all(path.parent().unwrap_or(path))?;
    let temporary = path.with_extension(format!("{}-{:?}", std::process::id(), std::thread::current().id()));
    std::fs::write(&temporary, ptx)?;
    std::fs::rename(&temporary, path)
}

fn cache_file(source: &KernelSource, options: &[String]) -> Result<Option<PathBuf>> {
    let Some(folder) = crate::cache::folder() else { return Ok(None) };
    let (major, minor) = version()?;
    let mut hash = Sha256::new();
    let texts = HEADERS.iter().flat_map(|(name, text)| [*name, text]).chain([source.name, source.text]);
    let version = format!("NVRTC {major}.{minor}");
    for text in texts.chain(options.iter().map(String::as_str)).chain([version.as_str()]) {
        hash.update((text.len() as u64).to_le_bytes());
        hash.update(text);
    }
    let digest: String = hash.finalize().iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    Ok(Some(folder.join(format!("{}-{digest}.ptx", source.name))))
}

fn version() -> Result<(i32, i32)> {
    let (mut major, mut minor) = (0, 0);
    // SAFETY: writes two integers.
    unsafe { sys::nvrtcVersion(&mut major, &mut minor) }.result().context("NVRTC does not tell its version")?;
    Ok((major, minor))
}

/// The newest capability that NVRTC compiles for and a GPU of `capability` runs.
fn newest_capability(capability: u32) -> Result<u32> {
    let mut count = 0;
    // SAFETY: writes the length of the list.
    unsafe { sys::nvrtcGetNumSupportedArchs(&mut count) }.result().context("NVRTC lists no architectures")?;
    let mut list = vec![0i32; usize::try_from(count)?];
    // SAFETY: the list has the length that NVRTC asked for.
    unsafe { sys::nvrtcGetSupportedArchs(list.as_mut_ptr()) }.result().context("NVRTC lists no architectures")?;
    let known = list.into_iter().filter_map(|known| u32::try_from(known).ok());
    known.filter(|&known| known <= capability).max().with_context(|| {
        format!("NVRTC compiles for no GPU as old as this one, of compute capability {capability}: use an older one")
    })
}

struct Program(sys::nvrtcProgram);

impl Program {
    fn new(source: &KernelSource) -> Result<Self> {
        let text = CString::new(source.text)?;
        let name = CString::new(format!("{}.cu", source.name))?;
        let strings = |of: fn(&(&str, &str)) -> String| -> Result<Vec<CString>> {
            HEADERS.iter().map(|h| Ok(CString::new(of(h))?)).collect()
        };
        let (names, texts) = (strings(|h| h.0.to_string())?, strings(|h| h.1.to_string())?);
        let pointers = |strings: &[CString]| strings.iter().map(|s| s.as_ptr()).collect::<Vec<_>>();
        let mut program = std::ptr::null_mut();
        // SAFETY: all strings outlive the call, which copies them; both lists have as many entries as it says.
        unsafe {
            sys::nvrtcCreateProgram(
                &mut program,
                text.as_ptr(),
                name.as_ptr(),
                i32::try_from(HEADERS.len())?,
                pointers(&texts).as_ptr(),
                pointers(&names).as_ptr(),
            )
        }
        .result()
        .context("NVRTC takes no program")?;
        Ok(Program(program))
    }

    fn ptx(&self, name: &str, options: &[String]) -> Result<CString> {
        let options: Vec<CString> = options.iter().map(|o| CString::new(o.as_str())).collect::<Result<_, _>>()?;
        let pointers: Vec<_> = options.iter().map(|o| o.as_ptr()).collect();
        // SAFETY: the program is alive, and so are as many options as it says.
        let compiled = unsafe { sys::nvrtcCompileProgram(self.0, i32::try_from(pointers.len())?, pointers.as_ptr()) };
        if compiled.result().is_err() {
            bail!("{name}.cu does not compile:\n{}", self.log());
        }
        let mut size = 0;
        // SAFETY: the program is alive and compiled.
        unsafe { sys::nvrtcGetPTXSize(self.0, &mut size) }.result().context("NVRTC gives no PTX")?;
        let mut ptx = vec![0u8; size];
        // SAFETY: the buffer has the size that NVRTC asked for.
        unsafe { sys::nvrtcGetPTX(self.0, ptx.as_mut_ptr().cast()) }.result().context("NVRTC gives no PTX")?;
        Ok(CStr::from_bytes_until_nul(&ptx)?.to_owned())
    }

    fn log(&self) -> String {
        // SAFETY: the program is alive.
        let log = unsafe { cudarc::nvrtc::result::get_program_log(self.0) }.unwrap_or_default();
        let bytes: Vec<u8> = log.into_iter().map(|c| c as u8).take_while(|&c| c != 0).collect();
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // SAFETY: made by `new`, destroyed once.
        let _ = unsafe { sys::nvrtcDestroyProgram(&mut self.0) };
    }
}
