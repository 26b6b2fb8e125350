//! Arguments as the published program takes them: underscores in names, names cut short, no subcommand.

use std::ffi::OsString;

use clap::Command;
use mdetr_train::settings::{Setting, table};

use crate::settings::dashed;

/// `arguments`, the program's name among them, as `cli` parses them. Errors name what a cut or mistyped name may mean.
pub fn understood(arguments: impl Iterator<Item = OsString>, cli: &Command) -> Result<Vec<OsString>, String> {
    let mut arguments: Vec<OsString> = arguments.collect();
    let is_flag = |argument: &OsString| argument.to_str().is_some_and(|text| text.starts_with("--"));
    let is_own = |argument: &OsString| ["--help", "--version"].iter().any(|own| argument == own);
    if arguments.get(1).is_some_and(|first| is_flag(first) && !is_own(first)) {
        arguments.insert(1, "train".into());
    }
    let names = flags(cli, arguments.get(1..).unwrap_or_default());
    let is_value = |argument: &OsString| argument == "--";
    let values = arguments.iter().position(is_value).unwrap_or(arguments.len());
    for argument in &mut arguments[..values] {
        if let Some(text) = argument.to_str().filter(|text| text.starts_with('-') && !names.is_empty()) {
            *argument = flag(text, &names)?.into();
        }
    }
    Ok(arguments)
}

/// The long flags of the subcommand that `arguments` start with.
fn flags(cli: &Command, arguments: &[OsString]) -> Vec<String> {
    let mut command = cli;
    for argument in arguments {
        let Some(inner) = argument.to_str().and_then(|name| command.find_subcommand(name)) else { break };
        command = inner;
    }
    let own = command.get_arguments().filter_map(|flag| flag.get_long()).map(String::from);
    own.chain(["help".into()]).collect()
}

/// A flag, perhaps with `=VALUE`, under its full name.
fn flag(text: &str, names: &[String]) -> Result<String, String> {
    let (name, value) = text.split_once('=').map_or((text, None), |(name, value)| (name, Some(value)));
    let Some(name) = name.strip_prefix("--") else {
        return single_dash(text, name, names);
    };
    let name = full_name(&dashed(name), names)?;
    Ok(value.map_or(format!("--{name}"), |value| format!("--{name}={value}")))
}

/// `-i` and numbers pass; `-epochs` lacks a dash.
fn single_dash(text: &str, name: &str, names: &[String]) -> Result<String, String> {
    let name = dashed(&name[1..]);
    match name.len() > 1 && names.contains(&name) {
        true => Err(format!("unexpected argument {text:?}: it takes two dashes, --{name}")),
        false => Ok(text.into()),
    }
}

/// The one name that begins with `name`. What is unique among the published program's names keeps its meaning there.
fn full_name(name: &str, names: &[String]) -> Result<String, String> {
    if name.is_empty() || names.iter().any(|full| full == name) {
        return Ok(name.into());
    }
    let candidates: Vec<&String> = names.iter().filter(|full| full.starts_with(name)).collect();
    let published = candidates.iter().copied().filter(|full| is_published(full)).collect::<Vec<_>>();
    match (candidates.as_slice(), published.as_slice()) {
        ([one], _) | (_, [one]) => Ok((*one).clone()),
        // Not ours to explain: the parser says what is like it.
        ([], _) => Ok(name.into()),
        (several, _) => {
            let list: Vec<String> = several.iter().map(|full| format!("--{full}")).collect();
            Err(format!("--{name} is ambiguous: it may be {}", list.join(", ")))
        }
    }
}

/// Whether the published program has the flag.
fn is_published(flag: &str) -> bool {
    let rows = table::all().filter(|row| row.is_published);
    flag == "dataset-config" || rows.map(Setting::flag).any(|name| dashed(&name) == flag)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn understand(words: &str) -> Result<String, String> {
        let words = std::iter::once("mdetr").chain(words.split_whitespace());
        let words = understood(words.map(OsString::from), &crate::Cli::command())?;
        Ok(words[1..].iter().map(|word| word.to_str().unwrap()).collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn the_published_spelling_is_understood() {
        for (given, meant) in [
            ("train --train_ann=a_b --img_path x_y", "train --train-ann=a_b --img-path x_y"),
            ("--dataset_config f_g.json --ema", "train --dataset-config f_g.json --ema"),
            ("eval --GT_type merged runs/a_b", "eval --gt-type merged runs/a_b"),
            ("--lvis_minival /data", "train --lvis-minival-path /data"),
            // Unique in the published program, though not here.
            ("--no_c --mask_m none", "train --no-contrastive-align-loss --mask-model none"),
            ("train --test --split test", "train --test --split test"),
            ("train -- --lr_b", "train -- --lr_b"),
            ("ground runs/x --top_k 3 -t a_b", "ground runs/x --top-k 3 -t a_b"),
            ("data emoji --val_u 3", "data emoji --val-unseen 3"),
            ("--help", "--help"),
            ("--version", "--version"),
            ("train --lrate 3", "train --lrate 3"),
        ] {
            assert_eq!(understand(given).as_deref(), Ok(meant));
        }
    }

    #[test]
    fn what_is_not_understood_is_explained() {
        for (given, parts) in [
            ("--mask smallconv", ["--mask is ambiguous", "--masks", "--mask-model"]),
            ("train --text_enc x", ["ambiguous", "--text-encoder-type", "--text-encoder-lr"]),
            ("--ema -epochs 125", ["-epochs", "two dashes", "--epochs"]),
        ] {
            let message = understand(given).unwrap_err();
            for part in parts {
                assert!(message.contains(part), "{part:?} is not in: {message}");
            }
        }
    }
}
