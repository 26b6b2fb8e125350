//! Parameters on disk: safetensors files under the published names, in the published shapes.

use std::borrow::Cow;
use std::fmt::Display;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use mdetr_autograd::{Parameter, Parameters};
use mdetr_kernels::{Device, Tensor};
use safetensors::tensor::{Dtype, View};

use crate::state_dict::StateDict;

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
        if weights.get(&p.name).is_none() {
            fit.missing.push(p.name.clone());
            continue;
        }
        match read(weights, &p.name, p) {
            Ok(value) => p.value = value,
            Err(error) => fit.mismatched.push(format!("{error:#}")),
        }
    }
    Ok(fit)
}

/// The tensor called `name`, on the host, as it lies beside the value of `parameter`.
pub fn read(weights: &StateDict, name: &str, parameter: &Parameter) -> Result<Tensor> {
    let expected = parameter.published_shape();
    let tensor = weights.get(name).with_context(|| format!("{name} is missing"))?;
    ensure!(tensor.shape() == expected, "{name} is {:?}, expected {expected:?}", tensor.shape());
    ensure!(tensor.is_float(), "{name} holds {:?}, expected floats", tensor.dtype());
    let values = weights.read(tensor).with_context(|| format!("reading {name}"))?;
    Ok(Tensor::from_slice(&parameter.from_published(&values), parameter.value.shape(), Device::Cpu))
}

/// An error that lists the first of `problems`, if there are any; `what` the file should fit.
pub fn refuse(path: &Path, what: &str, mut problems: Vec<String>) -> Result<()> {
    let count = problems.len();
    problems.truncate(5);
    ensure!(count == 0, "{} does not fit {what} ({count} problems):\n  {}", path.display(), problems.join("\n  "));
    Ok(())
}
