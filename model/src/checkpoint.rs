//! Parameters on disk: safetensors files under the published names, in the published shapes.

use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use mdetr_autograd::Parameters;
use mdetr_kernels::{Device, Tensor};
use safetensors::tensor::{Dtype, SafeTensors, TensorView};

/// Writes values that lie as the parameters do (the parameters themselves, or their moving average).
pub fn save(path: &Path, parameters: &Parameters, values: &[Tensor]) -> Result<()> {
    let tensors: Vec<(String, Vec<usize>, Vec<u8>)> = parameters
        .iter()
        .zip(values)
        .map(|((_, p), value)| {
            let bytes = p.to_published(value).iter().flat_map(|&v| (v as f32).to_le_bytes()).collect();
            (p.name.clone(), p.published_shape(), bytes)
        })
        .collect();
    let views = tensors
        .iter()
        .map(|(name, shape, bytes)| Ok((name.as_str(), TensorView::new(Dtype::F32, shape.clone(), bytes)?)))
        .collect::<Result<Vec<_>>>()?;
    let bytes = safetensors::serialize(views, None)?;
    write_synced(path, &bytes)
}

/// Writes a file and waits until it is on the disk.
pub fn write_synced(path: &Path, bytes: &[u8]) -> Result<()> {
    use std::io::Write;
    let write = || {
        let mut file = std::fs::File::create(path)?;
        file.write_all(bytes)?;
        file.sync_all()
    };
    write().with_context(|| format!("cannot write {}", path.display()))
}

/// Reads every parameter. A missing name, a wrong shape or an unknown name is an error that lists the first ones.
pub fn load(path: &Path, parameters: &mut Parameters) -> Result<()> {
    let bytes = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let file = SafeTensors::deserialize(&bytes)
        .with_context(|| format!("{} is not a whole safetensors file", path.display()))?;
    let mut problems = Vec::new();
    for (_, p) in parameters.iter_mut() {
        match read(&file, &p.name, &p.published_shape()) {
            Ok(values) => {
                p.value = Tensor::from_slice(&p.from_published(&values), p.value.shape(), Device::Cpu);
            }
            Err(e) => problems.push(e.to_string()),
        }
    }
    let unknown = file.names().into_iter().filter(|name| parameters.find(name).is_none());
    problems.extend(unknown.map(|name| format!("{name} is not a parameter of this model")));
    if !problems.is_empty() {
        let count = problems.len();
        problems.truncate(5);
        bail!(
            "{} does not fit the model that its configuration describes ({count} problems):\n  {}",
            path.display(),
            problems.join("\n  ")
        );
    }
    Ok(())
}

fn read(file: &SafeTensors, name: &str, shape: &[usize]) -> Result<Vec<f32>> {
    let view = file.tensor(name).map_err(|_| anyhow::anyhow!("{name} is missing"))?;
    ensure!(view.shape() == shape, "{name} is {:?}, expected {shape:?}", view.shape());
    ensure!(view.dtype() == Dtype::F32, "{name} holds {:?}, expected F32", view.dtype());
    Ok(view.data().chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect())
}
