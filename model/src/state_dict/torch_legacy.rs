//! PyTorch's files before 1.6, and with `_use_new_zipfile_serialization=False`: five pickles (a magic number, a version,
//! the machine, the object, the keys of the storages), then for each key the number of its elements and the elements.

use std::collections::HashMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};

use anyhow::{Context, Result, ensure};
use safetensors::Dtype;

use super::pickle::Pickle;
use super::torch::{MAX_PICKLE, Storage, Storages};

/// The magic number's pickle begins so.
pub(super) const SIGNATURE: &[u8] = b"\x80\x02\x8a\x0a";

const VERSION: usize = 1001;

/// The pickle, and where the storages are.
pub(super) fn read(mut file: &File) -> Result<(Pickle, Storages)> {
    let length = file.metadata()?.len();
    let mut bytes = Vec::new();
    file.seek(SeekFrom::Start(0))?;
    file.take(MAX_PICKLE).read_to_end(&mut bytes)?;
    let rest = &mut bytes.as_slice();
    let _magic = Pickle::read(rest)?;
    let version = Pickle::read(rest)?.root().as_usize();
    ensure!(version == Some(VERSION), "its version is {version:?}, not {VERSION}");
    let machine = Pickle::read(rest)?.root().json()?;
    ensure!(machine["little_endian"] == true, "it was not written on a little-endian machine");
    let pickle = Pickle::read(rest)?;
    let keys = Pickle::read(rest)?;
    let keys = keys.root().elements().context("it has no list of storages")?;

    let dtypes = dtypes(&pickle)?;
    let mut at = (bytes.len() - rest.len()) as u64;
    let mut storages = Storages::new();
    for key in keys {
        let key = key.as_str().context("a storage without a name")?;
        let dtype = dtypes.get(key).with_context(|| format!("nothing says what the storage {key} holds"))?;
        let mut count = [0; 8];
        file.seek(SeekFrom::Start(at))?;
        file.read_exact(&mut count).context("it ends too early")?;
        let size = u64::from_le_bytes(count).checked_mul(dtype.bitsize() as u64 / 8);
        let end = size.and_then(|size| size.checked_add(at + 8)).filter(|&end| end <= length);
        let end = end.with_context(|| format!("its storage {key} reaches beyond its end"))?;
        storages.insert(key.into(), at + 8..end);
        at = end;
    }
    Ok((pickle, storages))
}

/// What each storage holds, by its key.
fn dtypes(pickle: &Pickle) -> Result<HashMap<&str, Dtype>> {
    let storages = pickle.persistent().map(Storage::new);
    storages.map(|storage| storage.and_then(|s| Ok((s.key, s.dtype()?)))).collect()
}
