//! Parameters on disk: safetensors files under the published names, in the published shapes.

use std::borrow::Cow;
use std::fmt::Display;
use std::path::Path;

use anyhow::{Context, Result, anyhow, bail, ensure};
use mdetr_autograd::{Parameter, Parameters};
use mdetr_kernels::{Device, Tensor};
use safetensors::tensor::{Dtype, SafeTensors, View};

/// A tensor that lies as a parameter does (its value, its moving average, a moment), as a file holds it: f32 in the
/// published shape.
#[derive(Clone, Debug)]
pub struct Published<'a> {
    parameter: &'a Parameter,
    tensor: &'a Tensor,
    shape: Vec<usize>,
}

impl<'a> Published<'a> {
    /// `tensor`, on any device, lies as the value of `parameter`.
    pub fn new(parameter: &'a Parameter, tensor: &'a Tensor) -> Self {
        Published { parameter, tensor, shape: parameter.published_shape() }
    }
}

impl View for Published<'_> {
    fn dtype(&self) -> Dtype {
        Dtype::F32
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        let values = self.parameter.to_published(self.tensor);
        values.iter().flat_map(|&v| (v as f32).to_le_bytes()).collect()
    }

    fn data_len(&self) -> usize {
        self.tensor.len() * size_of::<f32>()
    }
}

/// Writes values that lie as the parameters do (the parameters themselves, or their moving average).
pub fn save(path: &Path, parameters: &Parameters, values: &[Tensor]) -> Result<()> {
    save_tensors(path, parameters.iter().zip(values).map(|((_, p), t)| (p.name.as_str(), Published::new(p, t))))
}

/// Writes tensors under their names.
pub fn save_tensors<'a, N>(path: &Path, tensors: impl Iterator<Item = (N, Published<'a>)>) -> Result<()>
where
    N: AsRef<str> + Ord + Display,
{
    write_synced(path, &safetensors::serialize(tensors, None)?)
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
        match read(&file, &p.name, p) {
            Ok(value) => p.value = value,
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

/// The tensor called `name`, on the host, as it lies beside the value of `parameter`.
pub fn read(file: &SafeTensors, name: &str, parameter: &Parameter) -> Result<Tensor> {
    let shape = parameter.published_shape();
    let view = file.tensor(name).map_err(|_| anyhow!("{name} is missing"))?;
    ensure!(view.shape() == shape, "{name} is {:?}, expected {shape:?}", view.shape());
    ensure!(view.dtype() == Dtype::F32, "{name} holds {:?}, expected F32", view.dtype());
    let floats = view.data().chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]));
    let values: Vec<f32> = floats.collect();
    Ok(Tensor::from_slice(&parameter.from_published(&values), parameter.value.shape(), Device::Cpu))
}
