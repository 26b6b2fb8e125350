//! `mdetr data`

mod check;
mod emoji;
mod show;
mod source;

use anyhow::Result;
use clap::Subcommand;

#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Look for what is wrong with an annotation file and its images.
    Check(check::Args),
    /// Draw samples as the model sees them.
    Show(show::Args),
    /// Compose scenes of emoji with captions that name some of the objects.
    Emoji(emoji::Args),
}

pub fn run(args: Args) -> Result<()> {
    match args.command {
        Command::Check(args) => check::run(args),
        Command::Show(args) => show::run(args),
        Command::Emoji(args) => emoji::run(args),
    }
}
