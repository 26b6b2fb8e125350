//! The command line: one file a subcommand, each a thin call into the crates below.
//!
//! Results are JSON on stdout; progress, tables and errors go to stderr.
#![forbid(unsafe_code)]

mod arguments;
mod data;
mod device;
mod dump;
mod eval;
mod ground;
mod params;
#[cfg(test)]
mod published_commands;
mod report;
mod settings;
mod train;
mod weights;

use clap::{CommandFactory, Parser, Subcommand};
use mdetr_train::signals::Stopped;

/// MDETR: finds what a text names in an image. Trains, evaluates and runs without a deep-learning framework.
#[derive(Parser)]
#[command(version, arg_required_else_help = true)]
#[command(after_help = "Start here (no data and no GPU needed, about ten minutes):
  mdetr train
  mdetr eval runs/emoji
  mdetr ground runs/emoji -i data/emoji/images/val_000000.png -t 'a dog and a bus' --save out

Options without a command are those of `train`, as the published program takes them:
  mdetr --dataset_config configs/refcoco.json --batch_size 4 --resume CHECKPOINT --ema --eval")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Train a model; without options, a small one on emoji scenes that it makes itself.
    Train(Box<train::Args>),
    /// Measure phrase recall and average precision of a checkpoint.
    Eval(Box<eval::Args>),
    /// Find what captions name in images.
    Ground(ground::Args),
    /// Write every named activation of one forward pass.
    Dump(dump::Args),
    /// List the parameters of a model.
    Params(params::Args),
    /// Write a page of HTML about a run: curves, metrics, pictures, the worst mistakes, settings.
    Report(report::Args),
    /// Check, draw and make datasets.
    Data(data::Args),
}

fn main() -> std::process::ExitCode {
    if let Err(e) = mdetr_kernels::simd::checked_level() {
        eprintln!("error: {e}");
        return std::process::ExitCode::from(2);
    }
    let arguments = match arguments::understood(std::env::args_os(), &Cli::command()) {
        Ok(arguments) => arguments,
        Err(message) => {
            eprintln!("error: {message}");
            return std::process::ExitCode::from(2);
        }
    };
    let command = Cli::parse_from(arguments).command;
    mdetr_kernels::threads::join();
    let result = match command {
        Command::Train(args) => train::run(*args),
        Command::Eval(args) => eval::run(*args),
        Command::Ground(args) => ground::run(args),
        Command::Dump(args) => dump::run(args),
        Command::Params(args) => params::run(args),
        Command::Report(args) => report::run(args),
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
        Cli::command().debug_assert();
    }
}
