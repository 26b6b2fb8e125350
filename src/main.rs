//! The command line: one file a subcommand, each a thin call into the crates below.
//!
//! Results are JSON on stdout; progress, tables and errors go to stderr.
#![forbid(unsafe_code)]

mod data;
mod device;
mod dump;
mod eval;
mod ground;
mod params;
mod train;
mod weights;

use clap::{Parser, Subcommand};
use mdetr_train::signals::Stopped;

/// MDETR: finds what a text names in an image. Trains, evaluates and runs without a deep-learning framework.
#[derive(Parser)]
#[command(version, arg_required_else_help = true)]
#[command(after_help = "Start here (no data and no GPU needed, about ten minutes):
  mdetr train
  mdetr eval runs/emoji
  mdetr ground runs/emoji -i data/emoji/images/val_000000.png -t 'a dog and a bus' --save out")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Train a model; without options, a small one on emoji scenes that it makes itself.
    Train(train::Args),
    /// Measure phrase recall and average precision of a checkpoint.
    Eval(eval::Args),
    /// Find what captions name in images.
    Ground(ground::Args),
    /// Write every named activation of one forward pass.
    Dump(dump::Args),
    /// List the parameters of a model.
    Params(params::Args),
    /// Make datasets.
    Data(data::Args),
}

fn main() -> std::process::ExitCode {
    let cli = Cli::parse_from(with_dashes(std::env::args_os()));
    let result = match cli.command {
        Command::Train(args) => train::run(args),
        Command::Eval(args) => eval::run(args),
        Command::Ground(args) => ground::run(args),
        Command::Dump(args) => dump::run(args),
        Command::Params(args) => params::run(args),
        Command::Data(args) => data::run(args),
    };
    match &result {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(e) if is_broken_pipe(e) => std::process::ExitCode::SUCCESS,
        Err(e) if let Some(stopped) = e.downcast_ref::<Stopped>() => {
            eprintln!("{e:#}");
            stopped.exit_status().into()
        }
        Err(e) => {
            eprintln!("error: {e:#}");
            std::process::ExitCode::FAILURE
        }
    }
}

/// The reader of our output, such as `head`, has seen enough.
fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<std::io::Error>().is_some_and(|e| e.kind() == std::io::ErrorKind::BrokenPipe)
}

/// The published program writes its options with underscores: both spellings are understood.
fn with_dashes(args: impl Iterator<Item = std::ffi::OsString>) -> Vec<std::ffi::OsString> {
    args.map(|arg| match arg.to_str() {
        Some(text) if text.starts_with("--") => {
            let (name, value) = text.split_once('=').map_or((text, None), |(n, v)| (n, Some(v)));
            let name = name.replace('_', "-");
            value.map_or(name.clone(), |v| format!("{name}={v}")).into()
        }
        _ => arg,
    })
    .collect()
}

/// Prints a result as a line of JSON.
fn print_json(value: &impl serde::Serialize) -> anyhow::Result<()> {
    use std::io::Write;
    let mut out = std::io::stdout().lock();
    serde_json::to_writer(&mut out, value).map_err(std::io::Error::from)?;
    writeln!(out)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }

    #[test]
    fn underscores_are_understood_in_names_only() {
        let args = ["mdetr", "--train_ann=a_b", "--img_path", "x_y"].map(std::ffi::OsString::from);
        assert_eq!(with_dashes(args.into_iter()), ["mdetr", "--train-ann=a_b", "--img-path", "x_y"]);
    }
}
