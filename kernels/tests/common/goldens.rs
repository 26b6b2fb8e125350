//! What was recorded of PyTorch and SciPy: `tests/goldens`.

use std::path::{Path, PathBuf};

use mdetr_kernels::{Device, Tensor};
use safetensors::SafeTensors;
use serde_json::Value;

/// A file of `tests/goldens`, beside the package that the environment names (cargo does), for a program that was built
/// somewhere else.
pub fn golden_path(name: &str) -> PathBuf {
    let package = std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
    Path::new(&package).join("../tests/goldens").join(name)
}

/// Recorded tensors, as f64.
pub struct Goldens {
    bytes: Vec<u8>,
}

impl Goldens {
    /// A safetensors file of `tests/goldens`.
    pub fn open(name: &str) -> Self {
        let path = golden_path(name);
        Goldens { bytes: std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display())) }
    }

    /// One tensor, floats as f64, integers and masks as i32.
    #[track_caller]
    pub fn get(&self, name: &str) -> Tensor {
        let file = SafeTensors::deserialize(&self.bytes).expect("a safetensors file");
        let view = file.tensor(name).unwrap_or_else(|e| panic!("{name}: {e}"));
        let bytes = view.data();
        let ints = |values: Vec<i32>| Tensor::from_slice(&values, view.shape(), Device::Cpu);
        match view.dtype() {
            safetensors::Dtype::F32 => {
                let values: Vec<f64> =
                    bytes.chunks(4).map(|b| f64::from(f32::from_le_bytes(b.try_into().unwrap()))).collect();
                Tensor::from_slice(&values, view.shape(), Device::Cpu)
            }
            safetensors::Dtype::I64 => {
                ints(bytes.chunks(8).map(|b| i64::from_le_bytes(b.try_into().unwrap()) as i32).collect())
            }
            safetensors::Dtype::U8 => ints(bytes.iter().map(|&b| i32::from(b)).collect()),
            other => panic!("{name}: dtype {other:?}"),
        }
    }
}

/// A list in a JSON file of `tests/goldens`.
pub fn json(name: &str) -> Vec<Value> {
    let path = golden_path(name);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    serde_json::from_str(&text).expect("a list")
}
