//! The annotation file that a command looks at, and how a run would read it.

use std::path::PathBuf;

use anyhow::Result;
use mdetr_train::data::{Dataset, ImageFolders, Split, Tokenizer};
use mdetr_train::settings::Settings;

#[derive(clap::Args)]
pub struct Source {
    /// Annotations in MDETR's COCO-style format.
    #[arg(long, value_name = "FILE")]
    ann: PathBuf,
    /// The folder of the images.
    #[arg(long, value_name = "DIR")]
    img_path: PathBuf,
    /// The configuration of the run: sizes of images, the text encoder's longest caption. [default: the published ones]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Any setting by its published name.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// What the file is for: in training every box must have spans, and images are augmented.
    #[arg(long, value_enum, default_value = "train")]
    split: SplitName,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum SplitName {
    Train,
    Val,
}

impl Source {
    /// The good rows of the file; what is wrong with the others is in its report.
    pub fn read(&self) -> Result<Dataset> {
        let mut settings = Settings::default();
        self.config.iter().try_for_each(|file| settings.add_file(file))?;
        self.set.iter().try_for_each(|assignment| settings.add_assignment(assignment))?;
        let config = settings.resolve()?;
        let split = match self.split {
            SplitName::Train => Split::Train,
            SplitName::Val => Split::Val,
        };
        let dataset = config.dataset(ImageFolders::one(&self.img_path), split);
        Dataset::read(&self.ann, Tokenizer::roberta_base(), dataset)
    }
}
