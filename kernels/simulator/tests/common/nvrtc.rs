//! The real NVRTC, as `scripts/fetch-nvrtc` leaves it in `target/nvrtc`.

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::io::{Write, stderr};
use std::path::{Path, PathBuf};
use std::sync::Once;

use libloading::{Library, Symbol};

/// A compiler version and a virtual architecture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// `12.9` or `13`.
    pub version: &'static str,
    /// `80` for `compute_80`.
    pub architecture: u32,
}

/// Versions that are tested.
const VERSIONS: [&str; 2] = ["12.9", "13"];
/// Architectures that are tested.
const ARCHITECTURES: [u32; 2] = [80, 90];

fn folder(version: &str) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("nvrtc").join(version)
}

/// Versions whose wheels are there; says once which are not.
pub fn versions() -> Vec<&'static str> {
    static SAY: Once = Once::new();
    let (there, missing): (Vec<_>, Vec<_>) = VERSIONS.into_iter().partition(|version| folder(version).is_dir());
    if !missing.is_empty() {
        // not by eprintln, whose output the harness keeps for tests that fail
        SAY.call_once(|| {
            let missing = missing.join(", ");
            let _ = writeln!(stderr(), "left out: kernels by NVRTC {missing}, which scripts/fetch-nvrtc brings");
        });
    }
    there
}

/// Compiles `tests/kernels/NAME.cu` by every compiler for every architecture, and gives the PTX to `test`.
pub fn for_each_compiler(name: &str, mut test: impl FnMut(&Target, &str)) {
    for version in versions() {
        for architecture in ARCHITECTURES {
            let target = Target { version, architecture };
            test(&target, &compile_file(name, &target));
        }
    }
}

/// By the first compiler there is, for `compute_80`; `None` if there is none.
pub fn compile_once(name: &str) -> Option<String> {
    let version = versions().into_iter().next()?;
    Some(compile_file(name, &Target { version, architecture: 80 }))
}

/// Where kernels of tests are.
pub fn source(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/kernels").join(format!("{name}.cu"))
}

fn compile_file(name: &str, target: &Target) -> String {
    let path = source(name);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    compile(&format!("{name}.cu"), &text, target)
}

/// Files and folders called so, below a folder.
fn below(folder: &Path, wanted: impl Fn(&str) -> bool + Copy) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let mut found = Vec::new();
    for path in entries.filter_map(|entry| Some(entry.ok()?.path())) {
        if path.file_name().and_then(|name| name.to_str()).is_some_and(wanted) {
            found.push(path.clone());
        }
        if path.is_dir() {
            found.extend(below(&path, wanted));
        }
    }
    found.sort();
    found
}

/// Compiles a source with line information.
pub fn compile(name: &str, source: &str, target: &Target) -> String {
    let folder = folder(target.version);
    let library = below(&folder, |name| name.starts_with("libnvrtc.so"));
    let library = library.first().unwrap_or_else(|| panic!("{} has no libnvrtc", folder.display()));
    let mut options = vec![
        format!("--gpu-architecture=compute_{}", target.architecture),
        "-lineinfo".to_owned(),
        "-default-device".to_owned(),
        "--std=c++17".to_owned(),
    ];
    options.extend(
        below(&folder, |name| name == "include" || name == "cccl").iter().map(|p| format!("-I{}", p.display())),
    );
    // SAFETY: the functions have the signatures of nvrtc.h, and every pointer outlives its call.
    unsafe { compile_by(library, name, source, &options) }
}

/// # Safety
/// `library` has to be NVRTC.
unsafe fn compile_by(library: &Path, name: &str, source: &str, options: &[String]) -> String {
    type Program = *mut c_void;
    type Create = unsafe extern "C" fn(
        *mut Program,
        *const c_char,
        *const c_char,
        c_int,
        *const c_void,
        *const c_void,
    ) -> c_int;
    type Compile = unsafe extern "C" fn(Program, c_int, *const *const c_char) -> c_int;
    type Size = unsafe extern "C" fn(Program, *mut usize) -> c_int;
    type Text = unsafe extern "C" fn(Program, *mut c_char) -> c_int;
    let [name, source] = [name, source].map(|text| CString::new(text).expect("no zero in it"));
    let options: Vec<CString> = options.iter().map(|o| CString::new(o.as_str()).expect("no zero in it")).collect();
    let options: Vec<*const c_char> = options.iter().map(|o| o.as_ptr()).collect();
    // SAFETY: see above.
    unsafe {
        let library = Library::new(library).unwrap_or_else(|e| panic!("{}: {e}", library.display()));
        let create: Symbol<'_, Create> = library.get(b"nvrtcCreateProgram").expect("a symbol of NVRTC");
        let compile: Symbol<'_, Compile> = library.get(b"nvrtcCompileProgram").expect("a symbol of NVRTC");
        let text = |size: &[u8], text: &[u8], program| {
            let size: Symbol<'_, Size> = library.get(size).expect("a symbol of NVRTC");
            let text: Symbol<'_, Text> = library.get(text).expect("a symbol of NVRTC");
            let mut bytes = 0;
            assert_eq!(size(program, &raw mut bytes), 0);
            let mut buffer = vec![0_u8; bytes.max(1)];
            assert_eq!(text(program, buffer.as_mut_ptr().cast()), 0);
            CStr::from_bytes_until_nul(&buffer).expect("a C string").to_string_lossy().into_owned()
        };
        let mut program: Program = std::ptr::null_mut();
        let none = std::ptr::null();
        assert_eq!(create(&raw mut program, source.as_ptr(), name.as_ptr(), 0, none, none), 0);
        if compile(program, options.len() as c_int, options.as_ptr()) != 0 {
            panic!("{}", text(b"nvrtcGetProgramLogSize", b"nvrtcGetProgramLog", program));
        }
        let ptx = text(b"nvrtcGetPTXSize", b"nvrtcGetPTX", program);
        // unloading NVRTC is not safe while its threads may run
        std::mem::forget(library);
        ptx
    }
}
