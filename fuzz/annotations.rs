//! Annotation files: parsed, checked, and their good rows made into examples.

#![no_main]

use libfuzzer_sys::fuzz_target;
use mdetr_train::data::{CropConfig, Dataset, DatasetConfig, ImageFolders, Split, Tokenizer, TransformConfig};
use std::path::Path;

/// Examples that are made of a file at most.
const EXAMPLES: usize = 4;

fuzz_target!(|bytes: &[u8]| {
    let path = std::env::temp_dir().join(format!("mdetr-fuzz-{}.json", std::process::id()));
    std::fs::write(&path, bytes).expect("a folder for temporary files");
    let config = DatasetConfig {
        folders: ImageFolders::one(Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/goldens/pictures")),
        split: Split::Train,
        transforms: TransformConfig {
            train_scales: vec![16],
            max_size: 24,
            crop: Some(CropConfig { scales: vec![12, 20], min_size: 8, max_size: 16 }),
            cautious: false,
            ..TransformConfig::default()
        },
        max_tokens: 512,
        skip_bad: true,
    };
    let Ok(dataset) = Dataset::read(&path, Tokenizer::roberta_base(), config) else { return };
    for index in 0..dataset.len().min(EXAMPLES) {
        let _ = dataset.example(index, bytes.len() as u64);
    }
});
