//! PyTorch's files: a pickle whose tensors are views of storages, and the storages, in a zip archive or (before 1.6) one
//! behind the other.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::Read;
use std::ops::Range;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use safetensors::Dtype;

use super::pickle::Pickle;
use super::{Entry, StateDict, Value, not_whole, open, torch_legacy, torch_zip};

/// Longer pickles are refused: that of a published checkpoint, optimizer included, has about 300 KB.
pub(super) const MAX_PICKLE: u64 = 16 << 20;

/// A file that `torch.save` wrote.
#[derive(Debug)]
pub struct TorchFile {
    path: PathBuf,
    file: File,
    pickle: Pickle,
    storages: Storages,
}

/// Ranges of the file in bytes, by the names that the pickle has for them.
pub(super) type Storages = HashMap<String, Range<u64>>;

/// Whether a file begins as PyTorch's do: with a zip archive, or a pickle.
pub(super) fn is_torch(path: &Path) -> Result<bool> {
    let mut start = Vec::new();
    open(path)?.take(4).read_to_end(&mut start).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(start.starts_with(torch_zip::SIGNATURE) || start.starts_with(torch_legacy::SIGNATURE))
}

impl TorchFile {
    /// Reads all but the storages.
    pub fn open(path: &Path) -> Result<Self> {
        let file = open(path)?;
        let read = if is_torch(path)? {
            let mut signature = [0; 4];
            (&file).read_exact(&mut signature)?;
            let is_zip = signature == torch_zip::SIGNATURE;
            if is_zip { torch_zip::read(&file) } else { torch_legacy::read(&file) }
        } else {
            Err(anyhow::anyhow!("it begins neither as a zip archive nor as a pickle"))
        };
        let (pickle, storages) = read.with_context(|| not_whole(path, "PyTorch"))?;
        Ok(TorchFile { path: path.into(), file, pickle, storages })
    }

    /// The object that was saved.
    pub fn root(&self) -> Value<'_> {
        self.pickle.root()
    }

    /// The tensors of a dictionary of this file. What is no tensor is left out, but for objects of classes that are not
    /// known: they are an error.
    pub fn state_dict(&self, dict: Value) -> Result<StateDict> {
        let items =
            dict.items().with_context(|| format!("{} holds no dictionary of tensors", self.path.display()))?;
        let mut entries = BTreeMap::new();
        for (name, value) in items {
            let entry = self.entry(value).with_context(|| format!("{}: {name}", self.path.display()))?;
            entries.extend(entry.map(|entry| (name.to_string(), entry)));
        }
        ensure!(!entries.is_empty(), "{} holds no dictionary of tensors", self.path.display());
        Ok(StateDict { path: self.path.clone(), file: self.file.try_clone()?, entries })
    }

    fn entry(&self, mut value: Value) -> Result<Option<Entry>> {
        loop {
            if value.items().is_some() {
                return Ok(None);
            }
            let Some((callee, args)) = value.as_call() else { return Ok(None) };
            value = match (callee, args.as_slice()) {
                (
                    "torch._utils._rebuild_tensor_v2" | "torch._utils._rebuild_tensor",
                    &[storage, offset, shape, stride, ..],
                ) => {
                    return self.view(storage, offset, shape, stride).map(Some);
                }
                (
                    "torch._utils._rebuild_parameter"
                    | "torch.nn.parameter.Parameter"
                    | "torch.autograd.variable.Variable",
                    &[data, ..],
                ) => data,
                _ => bail!("{callee} makes objects that are not read here"),
            }
        }
    }

    fn view(&self, storage: Value, offset: Value, shape: Value, strides: Value) -> Result<Entry> {
        let storage = Storage::new(storage.as_persistent().context("a tensor without a storage")?)?;
        let sizes = |v: Value| v.elements()?.into_iter().map(Value::as_usize).collect::<Option<Vec<_>>>();
        let (Some(shape), Some(strides)) = (sizes(shape), sizes(strides)) else { bail!("a tensor without a shape") };
        let offset =
            offset.as_usize().and_then(|o| o.checked_add(storage.offset)).context("a tensor without an offset")?;
        let dtype = storage.dtype()?;
        let range =
            self.storages.get(storage.key).with_context(|| format!("its storage {} is missing", storage.key))?;
        let in_file = (range.end - range.start) / (dtype.bitsize() / 8) as u64;
        Entry::new(dtype, shape, strides, range.start, offset, usize::try_from(in_file)?)
    }
}

/// What a pickle says of a storage: `("storage", class, key, device, elements, view)`.
pub(super) struct Storage<'a> {
    class: &'a str,
    pub key: &'a str,
    /// Of the view within what the key names, in elements.
    offset: usize,
}

impl<'a> Storage<'a> {
    pub fn new(name: Value<'a>) -> Result<Self> {
        let parts = name.elements().unwrap_or_default();
        let &[_, class, key, ..] = parts.as_slice() else { bail!("a storage without a name") };
        let (Some(class), Some(key)) = (class.as_global(), key.as_str()) else { bail!("a storage without a name") };
        // Legacy files name a storage that is a part of another one by (key, offset, elements).
        let view = parts.get(5).and_then(|view| view.elements()).unwrap_or_default();
        let offset = view.get(1).and_then(|offset| offset.as_usize()).unwrap_or(0);
        Ok(Storage { class, key, offset })
    }

    pub fn dtype(&self) -> Result<Dtype> {
        Ok(match self.class {
            "torch.FloatStorage" => Dtype::F32,
            "torch.HalfStorage" => Dtype::F16,
            "torch.BFloat16Storage" => Dtype::BF16,
            "torch.DoubleStorage" => Dtype::F64,
            "torch.LongStorage" => Dtype::I64,
            "torch.IntStorage" => Dtype::I32,
            "torch.ShortStorage" => Dtype::I16,
            "torch.CharStorage" => Dtype::I8,
            "torch.ByteStorage" => Dtype::U8,
            "torch.BoolStorage" => Dtype::BOOL,
            other => bail!("elements of {other} are not read here"),
        })
    }
}
