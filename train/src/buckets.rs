//! Sizes of batches (`--buckets`): rounded up, few of them occur, so that a step's work can be recorded once for many batches.
//!
//! Images get more padding, as they would beside a larger one, which the backbone sees at their borders. Everything behind it
//! is the same: text gets padding that nothing sees, targets and packed tokens ([`Packing::Bucket`]) get rows that nothing
//! reads.

use mdetr_model::ModelConfig;
use mdetr_model::batch::Packing;

/// What the sizes of a batch are made multiples of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Buckets {
    pixels: usize,
    tokens: usize,
    targets: usize,
    most_tokens: usize,
    /// Of the tokens from the encoder on.
    pub packing: Packing,
}

impl Buckets {
    /// Every size as it is.
    pub const NONE: Buckets =
        Buckets { pixels: 1, tokens: 1, targets: 1, most_tokens: usize::MAX, packing: Packing::Exact };

    /// For a model, whose text encoder knows so many positions only.
    pub fn new(config: &ModelConfig) -> Self {
        Buckets { pixels: 64, tokens: 16, targets: 32, most_tokens: config.max_tokens(), packing: Packing::Bucket }
    }

    /// A side of the padded images for images of `longest` pixels at most.
    pub fn side(&self, longest: usize) -> usize {
        longest.next_multiple_of(self.pixels)
    }

    /// The length of the padded captions for captions of `longest` tokens at most.
    pub fn tokens(&self, longest: usize) -> usize {
        longest.next_multiple_of(self.tokens).min(self.most_tokens).max(longest)
    }

    /// The number of rows for so many targets.
    pub fn targets(&self, total: usize) -> usize {
        total.next_multiple_of(self.targets)
    }
}

#[cfg(test)]
mod tests {
    use anyhow::Result;
    use mdetr_kernels::Precision;
    use mdetr_model::Mdetr;
    use mdetr_model::criterion::Criterion;

    use super::*;
    use crate::collate::{Collated, Collator};
    use crate::config::RunConfig;
    use crate::data::{Dataset, DatasetConfig, ImageFolders, Split, Tokenizer};
    use crate::emoji::{self, EmojiConfig};
    use crate::engine::{StepReport, Trainer};
    use crate::optimizer::Optimizer;
    use crate::schedule::Rates;
    use crate::settings::Settings;

    const RATES: Rates = Rates { base: 1e-3, backbone: 1e-3, text_encoder: 1e-3 };

    /// Images of 64 pixels a side, as a bucket has them too.
    fn config(positions: &str) -> RunConfig {
        let mut settings = Settings::default();
        let json = r#"{"backbone": "conv5", "text_encoder_type": "words", "hidden_dim": 16, "nheads": 2, "enc_layers": 1,
            "dec_layers": 2, "dim_feedforward": 16, "num_queries": 5, "dropout": 0.0,
            "train_scales": [64], "max_size": 64, "random_crop": false,
            "text_config": {"vocab_size": 50265, "hidden_size": 8, "max_position_embeddings": 64}}"#;
        settings.add_json(json, "tiny").unwrap();
        settings.add_assignment(&format!("position_embedding={positions}")).unwrap();
        settings.resolve().unwrap()
    }

    fn train(config: &RunConfig, batches: Vec<Collated>) -> Vec<StepReport> {
        let mut model = Mdetr::new(&config.model, 1).unwrap();
        let optimizer = Optimizer::new(&model.parameters, Precision::F32, Default::default());
        let mut trainer = Trainer::new(&mut model, optimizer, Precision::F32);
        trainer.train(&Criterion::new(&config.criterion), batches.into_iter().map(Ok), |_| RATES).unwrap()
    }

    #[test]
    fn sizes_are_rounded_up_within_what_the_text_encoder_knows() {
        let buckets = Buckets { most_tokens: 40, ..Buckets::new(&ModelConfig::default()) };
        assert_eq!([1, 64, 801].map(|n| buckets.side(n)), [64, 64, 832]);
        assert_eq!([1, 16, 17, 38].map(|n| buckets.tokens(n)), [16, 16, 32, 40]);
        assert_eq!([0, 1, 33].map(|n| buckets.targets(n)), [0, 32, 64]);
        assert_eq!([0, 801, 17].map(|n| Buckets::NONE.side(n)), [0, 801, 17]);
    }

    /// What lies behind the tokens and targets of a batch moves nothing but the order of sums.
    #[test]
    fn tails_change_no_loss_and_no_gradient() {
        let dir = tempfile::tempdir().unwrap();
        let scenes =
            EmojiConfig { seed: 4, size: 64, train: 6, pretrain: 1, val: 1, val_unseen: 1, ..Default::default() };
        emoji::generate(dir.path(), &scenes, &|_, _| {}).unwrap();
        for positions in ["sine", "learned"] {
            let config = config(positions);
            let of_training = DatasetConfig {
                folders: ImageFolders::one(dir.path().join("images")),
                split: Split::Train,
                transforms: config.data.transforms(),
                max_tokens: config.model.max_tokens(),
                skip_bad: false,
            };
            let annotations = dir.path().join("train.json");
            let dataset = Dataset::load(&annotations, Tokenizer::roberta_base(), of_training).unwrap();
            let batches = |buckets: Buckets| -> Vec<Collated> {
                let collator = Collator::new(&config.model, Tokenizer::roberta_base().pad_id()).with_buckets(buckets);
                let batch = |first: usize| {
                    let examples = (first..first + 3).map(|i| dataset.example(i, 0)).collect::<Result<_>>();
                    collator.collate(examples.unwrap())
                };
                [0, 3].map(batch).into()
            };
            let (exact, bucket) = (batches(Buckets::NONE), batches(Buckets::new(&config.model)));
            let shapes = |c: &Collated| [c.batch.text.ids.shape()[1], c.targets.boxes.shape()[0]];
            assert!(exact.iter().zip(&bucket).all(|(a, b)| shapes(a).iter().zip(shapes(b)).all(|(a, b)| *a < b)));
            for (got, want) in train(&config, bucket).iter().zip(train(&config, exact)) {
                let values = |report: &StepReport| -> Vec<(String, f64)> {
                    let norm = ("gradient norm".to_string(), report.grad_norm.unwrap());
                    report.losses.iter().cloned().chain([norm]).collect()
                };
                for ((name, got), (_, want)) in values(got).iter().zip(values(&want)) {
                    assert!((got - want).abs() <= 1e-5 * want.abs(), "{positions}: {name} is {got}, exactly {want}");
                }
            }
        }
    }
}
