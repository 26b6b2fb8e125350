//! Where the records are.

use std::path::{Path, PathBuf};

/// A file or folder of the goldens: of the package that the environment names (cargo does), for a program that was built
/// somewhere else.
pub fn golden(name: &str) -> PathBuf {
    let package = std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
    Path::new(&package).join("tests/goldens").join(name)
}
