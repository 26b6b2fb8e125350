//! Several annotation files as one training set.

use std::sync::Arc;

use anyhow::Result;

use super::{Dataset, Example};

/// Whatever a loader makes batches of.
pub trait Examples: Send + Sync {
    /// The example at `index`, whose augmentation depends on `epoch_seed` and `index` alone. Errors name the image file.
    fn example(&self, index: usize, epoch_seed: u64) -> Result<Example>;
}

impl Examples for Dataset {
    fn example(&self, index: usize, epoch_seed: u64) -> Result<Example> {
        Dataset::example(self, index, epoch_seed)
    }
}

/// Datasets one after the other.
#[derive(Debug)]
pub struct Concat {
    parts: Vec<Arc<Dataset>>,
}

impl Concat {
    /// Of `parts`.
    pub fn new(parts: Vec<Arc<Dataset>>) -> Self {
        Self { parts }
    }

    /// The datasets.
    pub fn parts(&self) -> &[Arc<Dataset>] {
        &self.parts
    }

    /// Image records of all together.
    pub fn len(&self) -> usize {
        self.parts.iter().map(|part| part.len()).sum()
    }

    /// Whether there is no image record.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Examples for Concat {
    #[track_caller]
    fn example(&self, index: usize, epoch_seed: u64) -> Result<Example> {
        let mut local = index;
        for (place, part) in self.parts.iter().enumerate() {
            if local < part.len() {
                return part.example(local, epoch_seed.wrapping_add((place as u64) << 32));
            }
            local -= part.len();
        }
        panic!("example {index} of {}", self.len())
    }
}
