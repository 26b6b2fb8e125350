//! Named tensors in files: safetensors, and what PyTorch saves (`.pth`, `.pt`, `.bin`). A file's directory is read when it
//! is opened, tensors when they are asked for, so that a checkpoint's optimizer state is never in memory.

mod pickle;
mod safetensors;
mod torch;
mod torch_legacy;
mod torch_zip;
mod value;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use ::safetensors::Dtype;
use anyhow::{Context, Result, bail, ensure};
use half::{bf16, f16};

pub use torch::TorchFile;
pub use value::Value;

/// A view may repeat elements of its storage (an expanded dimension), up to so many in all.
const MAX_REPEATED: usize = 1 << 24;

/// Tensors by name. Each is a strided view of a range of the file.
#[derive(Debug)]
pub struct StateDict {
    path: PathBuf,
    file: File,
    entries: BTreeMap<String, Entry>,
}

/// Where a tensor lies.
#[derive(Clone, Debug)]
pub struct Entry {
    dtype: Dtype,
    shape: Vec<usize>,
    /// In elements.
    strides: Vec<usize>,
    /// Of the first element, in bytes from the file's beginning.
    start: u64,
    /// From the first element to behind the last one, in elements.
    extent: usize,
}

impl StateDict {
    /// Opens a file of either kind. A PyTorch file may hold the tensors itself or below one of `parts` (`model`,
    /// `state_dict`): the first one that is there is taken.
    pub fn open(path: &Path, parts: &[&str]) -> Result<Self> {
        if torch::is_torch(path)? {
            let file = TorchFile::open(path)?;
            let root = file.root();
            let part = parts.iter().filter_map(|part| root.get(part)).find(|value| value.items().is_some());
            return file.state_dict(part.unwrap_or(root));
        }
        let file = open(path)?;
        let entries = safetensors::entries(&file).with_context(|| not_whole(path, "safetensors"))?;
        Ok(StateDict { path: path.into(), file, entries })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Names in alphabetical order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.keys().map(String::as_str)
    }

    /// The tensor called `name`.
    pub fn get(&self, name: &str) -> Option<&Entry> {
        self.entries.get(name)
    }

    /// The same tensors under other names; those without one are left out.
    pub fn rename(self, name: impl Fn(&str) -> Option<String>) -> Self {
        let entries = self.entries.into_iter().filter_map(|(old, entry)| Some((name(&old)?, entry))).collect();
        StateDict { entries, ..self }
    }

    /// A tensor's values, row-major.
    pub fn read(&self, entry: &Entry) -> Result<Vec<f32>> {
        if entry.extent == 0 {
            return Ok(Vec::new());
        }
        let mut bytes = vec![0; entry.extent * (entry.dtype.bitsize() / 8)];
        let mut file = &self.file;
        file.seek(SeekFrom::Start(entry.start))
            .and_then(|_| file.read_exact(&mut bytes))
            .with_context(|| format!("cannot read {}", self.path.display()))?;
        let values = to_f32(entry.dtype, &bytes);
        Ok(if entry.is_contiguous() { values } else { entry.offsets().into_iter().map(|i| values[i]).collect() })
    }
}

impl Entry {
    /// A view of `storage` elements that begin at byte `start` of the file; `offset` is the first one's. An error if it
    /// reaches outside of them.
    fn new(
        dtype: Dtype,
        shape: Vec<usize>,
        strides: Vec<usize>,
        start: u64,
        offset: usize,
        storage: usize,
    ) -> Result<Self> {
        ensure!(shape.len() == strides.len(), "{} dimensions have {} strides", shape.len(), strides.len());
        let count = shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d));
        let span = shape
            .iter()
            .zip(&strides)
            .try_fold(0usize, |n, (&d, &s)| n.checked_add(d.saturating_sub(1).checked_mul(s)?));
        let end = span.and_then(|n| n.checked_add(1)?.checked_add(offset));
        let (Some(count), Some(end)) = (count, end) else { bail!("its shape {shape:?} is beyond all memory") };
        ensure!(count == 0 || end <= storage, "it reaches to element {end} of a storage of {storage}");
        ensure!(count <= storage.max(MAX_REPEATED), "it repeats {storage} elements to {count}");
        let (offset, extent) = if count == 0 { (0, 0) } else { (offset, end - offset) };
        let start = start + (offset * (dtype.bitsize() / 8)) as u64;
        Ok(Entry { dtype, shape, strides, start, extent })
    }

    /// Sizes of the dimensions.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The type of the elements.
    pub fn dtype(&self) -> Dtype {
        self.dtype
    }

    /// Whether the elements are real numbers, and no integers or booleans.
    pub fn is_float(&self) -> bool {
        matches!(self.dtype, Dtype::F32 | Dtype::F16 | Dtype::BF16 | Dtype::F64)
    }

    fn is_contiguous(&self) -> bool {
        self.strides == row_major(&self.shape)
    }

    /// Where the elements are in the order of the shape, counted from the first one.
    fn offsets(&self) -> Vec<usize> {
        let dimensions = self.shape.iter().zip(&self.strides);
        dimensions.fold(vec![0], |offsets, (&d, &stride)| {
            offsets.into_iter().flat_map(|o| (0..d).map(move |i| o + i * stride)).collect()
        })
    }
}

/// The strides of a tensor without gaps.
fn row_major(shape: &[usize]) -> Vec<usize> {
    let mut strides = vec![1usize; shape.len()];
    for i in (1..shape.len()).rev() {
        strides[i - 1] = strides[i].saturating_mul(shape[i].max(1));
    }
    strides
}

/// Little-endian elements as f32, rounded to the nearest; booleans are 0 or 1.
fn to_f32(dtype: Dtype, bytes: &[u8]) -> Vec<f32> {
    fn map<const N: usize>(bytes: &[u8], value: impl Fn([u8; N]) -> f32) -> Vec<f32> {
        bytes.as_chunks::<N>().0.iter().map(|&b| value(b)).collect()
    }
    match dtype {
        Dtype::F32 => map(bytes, f32::from_le_bytes),
        Dtype::F16 => map(bytes, |b| f16::from_le_bytes(b).to_f32()),
        Dtype::BF16 => map(bytes, |b| bf16::from_le_bytes(b).to_f32()),
        Dtype::F64 => map(bytes, |b| f64::from_le_bytes(b) as f32),
        Dtype::I64 => map(bytes, |b| i64::from_le_bytes(b) as f32),
        Dtype::I32 => map(bytes, |b| i32::from_le_bytes(b) as f32),
        Dtype::I16 => map(bytes, |b| f32::from(i16::from_le_bytes(b))),
        Dtype::I8 => map(bytes, |b| f32::from(i8::from_le_bytes(b))),
        Dtype::U8 | Dtype::BOOL => map(bytes, |[b]| f32::from(b)),
        other => unreachable!("{other:?} is refused when a file is opened"),
    }
}

/// Whether elements of this type are read.
fn is_read(dtype: Dtype) -> bool {
    use Dtype::{BF16, BOOL, F16, F32, F64, I8, I16, I32, I64, U8};
    matches!(dtype, F32 | F16 | BF16 | F64 | I64 | I32 | I16 | I8 | U8 | BOOL)
}

fn open(path: &Path) -> Result<File> {
    File::open(path).with_context(|| format!("cannot read {}", path.display()))
}

fn not_whole(path: &Path, kind: &str) -> String {
    format!("{} is not a whole {kind} file", path.display())
}

#[cfg(test)]
mod tests;
