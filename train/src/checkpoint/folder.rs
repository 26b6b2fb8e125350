//! Folders and files that are on disk whole or not at all, at whatever moment the program or the machine stops.
//!
//! A folder is filled and synced under another name (`checkpoint.new`); then the earlier one moves away (`checkpoint.old`),
//! the new one gets the name, and the earlier one is removed. What a stop leaves of this, [`recover`] understands.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use mdetr_model::checkpoint::write_synced;

const NEW: &str = ".new";
const OLD: &str = ".old";

/// Makes the folder `path` of what `fill` writes into the folder that it is given; an earlier one is replaced. After an
/// error the earlier one is as it was.
pub fn replace(path: &Path, fill: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let (new, old) = (sibling(path, NEW), sibling(path, OLD));
    remove(&new)?;
    let make = || fs::create_dir_all(&new).with_context(|| format!("cannot make {}", new.display()));
    let written = make().and_then(|()| fill(&new)).and_then(|()| sync(&new));
    if written.is_err() {
        // The disk may be full: what failed first is the message.
        let _ = fs::remove_dir_all(&new);
        return written;
    }
    if path.exists() {
        remove(&old)?;
        rename(path, &old)?;
    }
    rename(&new, path)?;
    sync(parent(path))?;
    remove(&old)
}

/// Gives the folder `copy` the files of the complete folder `original`, which are never written again: the same ones where
/// the file system has hard links.
pub fn share(original: &Path, copy: &Path) -> Result<()> {
    replace(copy, |new| {
        for entry in fs::read_dir(original)? {
            let (from, to) = (original.join(entry?.file_name()), new);
            let to = to.join(from.file_name().unwrap_or_default());
            fs::hard_link(&from, &to)
                .or_else(|_| fs::copy(&from, &to).and_then(|_| fs::File::open(&to)?.sync_all()))
                .with_context(|| format!("cannot copy {} to {}", from.display(), to.display()))?;
        }
        Ok(())
    })
}

/// Writes a file beside `path` and gives it the name when it is complete.
pub fn replace_file(path: &Path, bytes: &[u8]) -> Result<()> {
    let new = sibling(path, NEW);
    write_synced(&new, bytes)?;
    rename(&new, path)
}

/// Undoes what was under way in the folder `dir` when a program stopped: a folder that had moved away comes back, unfinished
/// and superseded ones are removed. Only names that `is_ours` are looked at.
pub fn recover(dir: &Path, is_ours: impl Fn(&str) -> bool) -> Result<()> {
    for (suffix, comes_back) in [(OLD, true), (NEW, false)] {
        for name in names(dir)? {
            let Some(original) = name.strip_suffix(suffix).filter(|name| is_ours(name)) else { continue };
            let (path, left) = (dir.join(original), dir.join(&name));
            match comes_back && !path.exists() {
                true => rename(&left, &path)?,
                false => remove(&left)?,
            }
        }
    }
    Ok(())
}

/// What a stop between two renames left of the folder `path`.
pub fn moved_away(path: &Path) -> PathBuf {
    sibling(path, OLD)
}

/// The names in a folder, in order; none where there is no such folder.
pub fn names(dir: &Path) -> Result<Vec<String>> {
    if !dir.exists() {
        return Ok(Vec::new());
    }
    let read = || -> std::io::Result<Vec<String>> {
        let entries = fs::read_dir(dir)?.collect::<std::io::Result<Vec<_>>>()?;
        Ok(entries.into_iter().filter_map(|e| e.file_name().into_string().ok()).collect())
    };
    let mut names = read().with_context(|| format!("cannot read the folder {}", dir.display()))?;
    names.sort();
    Ok(names)
}

/// Removes a folder, if it is there.
pub fn remove(path: &Path) -> Result<()> {
    if path.exists() {
        fs::remove_dir_all(path).with_context(|| format!("cannot remove {}", path.display()))?;
    }
    Ok(())
}

fn sibling(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(suffix);
    path.with_file_name(name)
}

fn parent(path: &Path) -> &Path {
    path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn rename(from: &Path, to: &Path) -> Result<()> {
    fs::rename(from, to).with_context(|| format!("cannot rename {} to {}", from.display(), to.display()))
}

fn sync(folder: &Path) -> Result<()> {
    let sync = || fs::File::open(folder)?.sync_all();
    sync().with_context(|| format!("cannot sync {}", folder.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What each file of a folder of folders holds.
    fn contents(dir: &Path) -> Vec<(String, String)> {
        let mut all = Vec::new();
        for folder in names(dir).unwrap() {
            for file in names(&dir.join(&folder)).unwrap() {
                all.push((format!("{folder}/{file}"), fs::read_to_string(dir.join(&folder).join(file)).unwrap()));
            }
        }
        all
    }

    fn written(names: &[(&str, &str)]) -> Vec<(String, String)> {
        names.iter().map(|(name, text)| (name.to_string(), text.to_string())).collect()
    }

    #[test]
    fn whatever_a_stop_leaves_becomes_one_complete_folder() {
        for (left, expected) in [
            (&[("c", "1"), ("c.new", "2")][..], "1"), // while the new one was written
            (&[("c.old", "1"), ("c.new", "2")], "1"), // between the renames
            (&[("c", "2"), ("c.old", "1")], "2"),     // before the old one was removed
            (&[("c", "1")], "1"),
        ] {
            let dir = tempfile::tempdir().unwrap();
            for (folder, text) in left.iter().chain(&[("mine.new", "0")]) {
                fs::create_dir(dir.path().join(folder)).unwrap();
                fs::write(dir.path().join(folder).join("f"), text).unwrap();
            }
            recover(dir.path(), |name| name == "c").unwrap();
            assert_eq!(contents(dir.path()), written(&[("c/f", expected), ("mine.new/f", "0")]), "{left:?}");
        }
    }

    #[test]
    fn a_failure_leaves_the_earlier_folder_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("c");
        let write = |text: &'static str| move |new: &Path| Ok(fs::write(new.join("f"), text)?);
        replace(&path, write("1")).unwrap();
        let fails = |new: &Path| write("half")(new).and_then(|()| anyhow::bail!("the disk is full"));
        assert!(replace(&path, fails).is_err());
        assert_eq!(contents(dir.path()), written(&[("c/f", "1")]));
        share(&path, &dir.path().join("copy")).unwrap();
        replace(&path, write("2")).unwrap();
        assert_eq!(contents(dir.path()), written(&[("c/f", "2"), ("copy/f", "1")]));
    }
}
