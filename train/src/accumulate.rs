//! Several batches that make one step: their gradients are added up.
//!
//! The losses of a batch are means over its boxes, so each batch weighs as many boxes as it has: the step is that of one
//! batch of all the images (but for padding, which is a batch's own).

use std::collections::VecDeque;

use anyhow::Result;

use crate::collate::Collated;

/// Batches in groups of `count`, each with its share of the group's boxes. The last group may have fewer.
pub fn with_shares(
    mut batches: impl Iterator<Item = Result<Collated>>,
    count: usize,
) -> impl Iterator<Item = Result<Collated>> {
    let mut group = VecDeque::new();
    std::iter::from_fn(move || {
        if group.is_empty() {
            match batches.by_ref().take(count).collect::<Result<VecDeque<_>>>() {
                Ok(next) => group = next,
                Err(e) => return Some(Err(e)),
            }
            let all: usize = group.iter().map(boxes).sum();
            group.iter_mut().for_each(|batch| batch.share = boxes(batch).max(1) as f64 / all.max(1) as f64);
        }
        group.pop_front().map(Ok)
    })
}

fn boxes(batch: &Collated) -> usize {
    batch.targets.counts.iter().sum()
}

#[cfg(test)]
mod tests {
    use mdetr_kernels::Precision;
    use mdetr_model::Mdetr;
    use mdetr_model::criterion::Criterion;

    use super::*;
    use crate::collate::Collator;
    use crate::config::RunConfig;
    use crate::data::{Dataset, DatasetConfig, ImageFolders, Split, Tokenizer};
    use crate::emoji::{self, EmojiConfig};
    use crate::engine::{StepReport, Trainer};
    use crate::optimizer::Optimizer;
    use crate::schedule::Rates;
    use crate::settings::Settings;

    const RATES: Rates = Rates { base: 1e-3, backbone: 1e-3, text_encoder: 1e-3 };

    fn config() -> RunConfig {
        let mut settings = Settings::default();
        // Without the alignment loss, which sees the padding of captions.
        let json = r#"{"backbone": "conv5", "text_encoder_type": "words", "hidden_dim": 16, "nheads": 2, "enc_layers": 1,
            "dec_layers": 2, "dim_feedforward": 16, "num_queries": 5, "dropout": 0.0, "contrastive_align_loss": false,
            "train_scales": [64], "max_size": 64, "random_crop": false,
            "text_config": {"vocab_size": 50265, "hidden_size": 8, "max_position_embeddings": 64}}"#;
        settings.add_json(json, "tiny").unwrap();
        settings.resolve().unwrap()
    }

    /// Two steps on the four scenes of `dataset` each, in batches of `size`.
    fn train(config: &RunConfig, dataset: &Dataset, size: usize) -> Vec<StepReport> {
        let mut model = Mdetr::new(&config.model, 1).unwrap();
        let optimizer = Optimizer::new(&model.parameters, Precision::F32, Default::default());
        let mut trainer = Trainer { accumulate: 4 / size, ..Trainer::new(&mut model, optimizer, Precision::F32) };
        let collator = Collator::new(&config.model, Tokenizer::roberta_base().pad_id());
        let batch = |first: usize| {
            let examples = (first..first + size).map(|i| dataset.example(i % 4, 0)).collect::<Result<Vec<_>>>();
            examples.map(|examples| collator.collate(examples))
        };
        trainer.train(&Criterion::new(&config.criterion), (0..8).step_by(size).map(batch), |_| RATES).unwrap()
    }

    #[test]
    fn several_batches_make_the_step_of_a_large_one() {
        let dir = tempfile::tempdir().unwrap();
        let scenes =
            EmojiConfig { seed: 4, size: 64, train: 4, pretrain: 1, val: 1, val_unseen: 1, ..Default::default() };
        emoji::generate(dir.path(), &scenes, &|_, _| {}).unwrap();
        let config = config();
        let ann = dir.path().join("train.json");
        let of_training = DatasetConfig {
            folders: ImageFolders::one(dir.path().join("images")),
            split: Split::Train,
            transforms: config.data.transforms(),
            max_tokens: config.model.max_tokens(),
            skip_bad: false,
        };
        let dataset = Dataset::load(&ann, Tokenizer::roberta_base(), of_training).unwrap();
        let boxes: Vec<usize> = (0..4).map(|i| dataset.example(i, 0).unwrap().target.objects.len()).collect();
        assert_ne!(boxes[0] + boxes[1], boxes[2] + boxes[3], "unequal batches, so that shares matter: {boxes:?}");
        let large = train(&config, &dataset, 4);
        for size in [1, 2] {
            for (small, large) in train(&config, &dataset, size).iter().zip(&large) {
                for (name, [got, want]) in [
                    ("gradient norm", [small, large].map(|report| report.grad_norm.unwrap())),
                    ("loss", [small, large].map(|report| report.losses[0].1)),
                ] {
                    assert!((got - want).abs() < 1e-4 * want, "batches of {size}: {name} is {got}, of 4: {want}");
                }
            }
        }
    }
}
