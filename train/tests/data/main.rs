//! Host data and metrics against recorded behaviour of the reference implementation.

mod annotation_files;
mod coco_evaluator;
mod dataset;
mod pictures;
mod positive_map;
mod preprocess;
mod tokenizer;
mod transforms;

use mdetr_train::data::Tokenizer;
use serde::de::DeserializeOwned;
use std::path::PathBuf;
use std::sync::Arc;

fn golden(name: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/goldens")).join(name)
}

fn golden_json<T: DeserializeOwned>(name: &str) -> T {
    let path = golden(name);
    serde_json::from_slice(&std::fs::read(&path).unwrap())
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn tiny_tokenizer() -> Arc<Tokenizer> {
    Arc::new(Tokenizer::from_files(&golden("tokenizer/vocab.json"), &golden("tokenizer/merges.txt")).unwrap())
}

/// The tensors of a recorded safetensors file.
struct Tensors(Vec<u8>);

impl Tensors {
    fn open(name: &str) -> Self {
        Self(std::fs::read(golden(name)).unwrap())
    }

    fn names(&self) -> Vec<String> {
        let file = safetensors::SafeTensors::deserialize(&self.0).unwrap();
        file.names().into_iter().map(str::to_owned).collect()
    }

    fn shape_and_bytes(&self, name: &str) -> (Vec<usize>, Vec<u8>) {
        let file = safetensors::SafeTensors::deserialize(&self.0).unwrap();
        let view = file.tensor(name).unwrap();
        (view.shape().to_vec(), view.data().to_vec())
    }

    fn u8(&self, name: &str) -> Vec<u8> {
        self.shape_and_bytes(name).1
    }

    fn f32(&self, name: &str) -> Vec<f32> {
        let (_, bytes) = self.shape_and_bytes(name);
        bytes.as_chunks::<4>().0.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect()
    }

    /// A (height, width, 3) image of bytes.
    fn image(&self, name: &str) -> image::RgbImage {
        let (shape, bytes) = self.shape_and_bytes(name);
        image::RgbImage::from_raw(shape[1] as u32, shape[0] as u32, bytes).unwrap()
    }
}
