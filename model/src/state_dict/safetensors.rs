//! The safetensors format: a JSON header with the place of every tensor, then their bytes.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;

use anyhow::{Result, ensure};
use safetensors::tensor::Metadata;

use super::{Entry, is_read, row_major};

/// The tensors of a file.
pub(super) fn entries(mut file: &File) -> Result<BTreeMap<String, Entry>> {
    let length = file.metadata()?.len();
    let mut header_length = [0; 8];
    file.read_exact(&mut header_length)?;
    let data = 8u64.saturating_add(u64::from_le_bytes(header_length));
    ensure!(data <= length, "its header of {} bytes does not fit", data - 8);
    let mut header = Vec::new();
    file.take(data - 8).read_to_end(&mut header)?;
    let metadata: Metadata = serde_json::from_slice(&header)?;
    let expected = data + metadata.data_len() as u64;
    ensure!(expected == length, "it has {length} bytes, its header speaks of {expected}");
    let tensors = metadata.tensors().into_iter().filter(|(_, info)| is_read(info.dtype));
    let entry = |info: &safetensors::tensor::TensorInfo| {
        let (begin, shape) = (info.data_offsets.0 as u64, info.shape.clone());
        let count = shape.iter().product();
        Entry::new(info.dtype, shape.clone(), row_major(&shape), data + begin, 0, count)
    };
    tensors.map(|(name, info)| Ok((name, entry(info)?))).collect()
}
