//! The splits: how many scenes, of what kind, each from a seed of its own.

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use super::plan::Recipe;
use super::{EmojiConfig, Preset};

/// A part of the dataset, in a file of its own.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Split {
    Train,
    Pretrain,
    Val,
    ValUnseen,
}

impl Split {
    pub const ALL: [Self; 4] = [Self::Train, Self::Pretrain, Self::Val, Self::ValUnseen];

    /// The stem of the annotation file, and of the pictures' names.
    pub fn name(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Pretrain => "pretrain",
            Self::Val => "val",
            Self::ValUnseen => "val_unseen",
        }
    }

    pub fn scenes(self, config: &EmojiConfig) -> usize {
        match self {
            Self::Train => config.train,
            Self::Pretrain => config.pretrain,
            Self::Val => config.val,
            Self::ValUnseen => config.val_unseen,
        }
    }

    pub fn recipe(self, preset: Preset) -> Recipe {
        let hard = preset == Preset::Hard;
        let recipe = Recipe {
            phrases: if hard { 1..=3 } else { 1..=4 },
            unnamed: 1..=3,
            absent: 0.2,
            sides: 0.12..0.35,
            around_held_out: false,
            hard,
        };
        match self {
            Self::Train | Self::Val => recipe,
            Self::Pretrain => Recipe { unnamed: 0..=0, absent: 0.0, sides: 0.30..0.45, hard: false, ..recipe },
            Self::ValUnseen => {
                Recipe { phrases: 2..=*recipe.phrases.end(), absent: 0.0, around_held_out: true, ..recipe }
            }
        }
    }

    /// The random stream of scene `index`: no two scenes of any splits share one.
    pub fn rng(self, seed: u64, index: usize) -> ChaCha8Rng {
        let mut key = [0; 32];
        key[..8].copy_from_slice(&seed.to_le_bytes());
        key[8..16].copy_from_slice(&(1 + self as u64).to_le_bytes());
        key[16..24].copy_from_slice(&(index as u64).to_le_bytes());
        ChaCha8Rng::from_seed(key)
    }
}
