//! Where files are kept that can be made or had again.

use std::path::PathBuf;

/// `$MDETR_CACHE`, or `mdetr` in the user's cache folder; none without a home.
pub fn folder() -> Option<PathBuf> {
    let variable = |name| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    variable("MDETR_CACHE").or_else(|| {
        let caches = variable("XDG_CACHE_HOME").or_else(|| Some(variable("HOME")?.join(".cache")))?;
        Some(caches.join("mdetr"))
    })
}
