//! Parameters on disk: safetensors files under the published names, in the published shapes.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use mdetr_autograd::Parameters;
use mdetr_kernels::{Device, Tensor};
use safetensors::tensor::{Dtype, TensorView};

use crate::state_dict::StateDict;

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
    let fit = fill(parameters, "", &StateDict::open(path, &[])?)?;
    let unknown = fit.unexpected.iter().map(|name| format!("{name} is not a parameter of this model"));
    let problems = fit.problems().chain(unknown).collect();
    refuse(path, "the model that its configuration describes", problems)
}

/// How a file's tensors and a model's parameters fit.
#[derive(Debug, Default)]
pub struct Fit {
    /// Parameters that the file has not; they keep their values.
    pub missing: Vec<String>,
    /// Tensors of the file that are no parameters.
    pub unexpected: Vec<String>,
    /// What is in both and cannot be taken, and why.
    pub mismatched: Vec<String>,
}

impl Fit {
    /// Why a model that needs all of its parameters cannot use the file.
    pub fn problems(&self) -> impl Iterator<Item = String> {
        self.missing.iter().map(|name| format!("{name} is missing")).chain(self.mismatched.iter().cloned())
    }
}

/// Gives every parameter below `prefix` the tensor of its name and shape.
pub fn fill(parameters: &mut Parameters, prefix: &str, weights: &StateDict) -> Result<Fit> {
    let unexpected = weights.names().filter(|name| parameters.find(name).is_none()).map(str::to_string).collect();
    let mut fit = Fit { unexpected, ..Fit::default() };
    for (_, p) in parameters.iter_mut().filter(|(_, p)| p.name.starts_with(prefix)) {
        let (name, expected) = (&p.name, p.published_shape());
        let Some(tensor) = weights.get(name) else {
            fit.missing.push(name.clone());
            continue;
        };
        if tensor.shape() != expected {
            fit.mismatched.push(format!("{name} is {:?}, expected {expected:?}", tensor.shape()));
        } else if !tensor.is_float() {
            fit.mismatched.push(format!("{name} holds {:?}, expected floats", tensor.dtype()));
        } else {
            let values = weights.read(tensor)?;
            p.value = Tensor::from_slice(&p.from_published(&values), p.value.shape(), Device::Cpu);
        }
    }
    Ok(fit)
}

/// An error that lists the first of `problems`, if there are any; `what` the file should fit.
pub fn refuse(path: &Path, what: &str, mut problems: Vec<String>) -> Result<()> {
    let count = problems.len();
    problems.truncate(5);
    ensure!(count == 0, "{} does not fit {what} ({count} problems):\n  {}", path.display(), problems.join("\n  "));
    Ok(())
}
