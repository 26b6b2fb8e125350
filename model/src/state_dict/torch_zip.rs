//! PyTorch's files since 1.6: an uncompressed zip archive with `data.pkl` and a member `data/KEY` a storage.

use std::fs::File;
use std::io::{BufReader, Read};

use anyhow::{Context, Result, ensure};
use zip::{CompressionMethod, ZipArchive};

use super::pickle::Pickle;
use super::torch::{MAX_PICKLE, Storages};

pub(super) const SIGNATURE: &[u8] = b"PK\x03\x04";

/// The pickle, and where the storages are.
pub(super) fn read(file: &File) -> Result<(Pickle, Storages)> {
    let length = file.metadata()?.len();
    let mut archive = ZipArchive::new(BufReader::new(file))?;
    let (mut pickle, mut storages) = (None, Storages::new());
    for i in 0..archive.len() {
        let mut member = archive.by_index_raw(i)?;
        let name = member.name()?.into_owned();
        let (start, size) = (member.data_start().unwrap_or(u64::MAX), member.size());
        let is_whole = member.compression() == CompressionMethod::Stored && !member.encrypted();
        ensure!(is_whole && member.compressed_size() == size, "its member {name} is compressed");
        let end = start.checked_add(size).filter(|&end| end <= length);
        let end = end.with_context(|| format!("its member {name} reaches beyond its end"))?;
        // All members lie in a folder that has the name of the file when it was written.
        let (_, name) = name.split_once('/').unwrap_or_default();
        match name.strip_prefix("data/") {
            Some(key) => _ = storages.insert(key.into(), start..end),
            None if name == "data.pkl" => {
                ensure!(size <= MAX_PICKLE, "its pickle has {size} bytes, more than {MAX_PICKLE}");
                let mut bytes = Vec::new();
                member.read_to_end(&mut bytes)?;
                pickle = Some(Pickle::read(&mut &*bytes)?);
            }
            None if name == "byteorder" => {
                let mut order = String::new();
                member.take(16).read_to_string(&mut order)?;
                ensure!(order == "little", "its byte order is {order:?}, not \"little\"");
            }
            None => {}
        }
    }
    Ok((pickle.context("it has no data.pkl (TorchScript archives are not read)")?, storages))
}
