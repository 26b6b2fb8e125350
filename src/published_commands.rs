//! The published program's options and the commands of its instructions, held against what its own parser made of them
//! (`tests/goldens/commands`).

use clap::{CommandFactory, Parser};
use mdetr_train::config::RunConfig;
use mdetr_train::settings::{Kind, Settings, table};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::{Cli, Command, arguments};

#[derive(Deserialize)]
struct Recorded {
    /// What the parser of `main.py` gives to an empty command line.
    defaults: Map<String, Value>,
    options: Vec<PublishedOption>,
    /// The official configuration files.
    configs: Map<String, Value>,
    commands: Vec<PublishedCommand>,
}

#[derive(Deserialize)]
struct PublishedOption {
    dest: String,
    /// The flag, and a value where it takes one.
    args: Vec<String>,
    /// What it is stored as.
    value: Value,
}

#[derive(Deserialize)]
struct PublishedCommand {
    file: String,
    line: usize,
    args: Vec<String>,
    /// Why the published parser refused it; `values` are those of the command as it was meant.
    rejected: Option<String>,
    /// A configuration file that it names and that does not exist.
    missing: Option<String>,
    /// Where they differ from the defaults.
    #[serde(default)]
    values: Map<String, Value>,
}

fn recorded() -> Recorded {
    serde_json::from_str(include_str!("../tests/goldens/commands/commands.json")).unwrap()
}

/// The resolved settings of `mdetr ARGS`, or the error.
fn resolve(args: &[String]) -> Result<RunConfig, String> {
    let words = std::iter::once("mdetr").chain(args.iter().map(String::as_str)).map(Into::into);
    let cli = Cli::try_parse_from(arguments::understood(words, &Cli::command())?).map_err(|e| e.to_string())?;
    let Command::Train(args) = cli.command else { panic!("without a command, it is train") };
    args.settings.resolve(Settings::default()).map_err(|e| format!("{e:#}"))
}

/// `args` with the official configuration files where `dir` has them.
fn with_files(args: &[String], dir: &std::path::Path) -> Vec<String> {
    let place = |arg: &String| match arg.starts_with("configs/") {
        true => dir.join(arg).to_str().unwrap().to_string(),
        false => arg.clone(),
    };
    args.iter().map(place).collect()
}

/// Whether a setting is what was recorded: the empty text is no text, and 1 is true.
fn is_same(ours: &Value, published: &Value) -> bool {
    match (ours, published) {
        (Value::Null, published) => published.is_null() || published == "",
        (Value::String(text), Value::Null) => text.is_empty(),
        (Value::Bool(set), Value::Number(number)) => number.as_f64() == Some(f64::from(u8::from(*set))),
        (ours, published) if published.is_number() => ours.as_f64() == published.as_f64(),
        (ours, published) => ours == published,
    }
}

#[test]
fn published_commands_resolve_to_the_published_values() {
    let recorded = recorded();
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("configs")).unwrap();
    for (name, config) in &recorded.configs {
        std::fs::write(dir.path().join(name), config.to_string()).unwrap();
    }
    assert_eq!(recorded.commands.len(), 51);
    for command in &recorded.commands {
        let at = format!("{}:{}", command.file, command.line);
        let mut args = with_files(&command.args, dir.path());
        // The published parser knows `--output-dir` alone, and a dash is missing.
        if command.rejected.as_ref().is_some_and(|reason| reason.contains("-epochs")) {
            assert!(resolve(&args).unwrap_err().contains("two dashes, --epochs"), "{at}");
            args.iter_mut().filter(|arg| *arg == "-epochs").for_each(|arg| *arg = "--epochs".into());
        } else if let Some(reason) = &command.rejected {
            assert!(reason.contains("--output_dir"), "{at}: {reason}");
        }
        if let Some(missing) = &command.missing {
            assert!(resolve(&args).unwrap_err().contains(missing), "{at}");
            continue;
        }
        let config = serde_json::to_value(resolve(&args).unwrap_or_else(|e| panic!("{at}: {e}"))).unwrap();
        let mut expected = recorded.defaults.clone();
        expected.extend(command.values.clone());
        expected.insert("device".into(), json!("auto"));
        // There, a configuration file wins over flags; here, flags win.
        let given = |key: &str| args.iter().position(|arg| arg == &format!("--{key}")).map(|i| args.get(i + 1));
        let file = given("dataset_config").flatten().map(|file| std::fs::read_to_string(file).unwrap()).unwrap();
        let file: Map<String, Value> = serde_json::from_str(&file).unwrap();
        for (key, value) in file.keys().filter_map(|key| Some((key, given(key)?))) {
            let value = value.filter(|value| !value.starts_with("--")).map_or("1", String::as_str);
            expected.insert(key.clone(), serde_json::from_str(value).unwrap());
        }
        for (key, value) in &expected {
            assert!(is_same(&config[key], value), "{at}: {key} is {}, published: {value}", config[key]);
        }
    }
}

#[test]
fn every_published_option_is_a_flag_a_key_and_json() {
    let recorded = recorded();
    assert_eq!(recorded.options.len(), 87);
    for option in &recorded.options {
        let PublishedOption { dest, args, value } = option;
        let written = if let Value::String(text) = value { text.clone() } else { value.to_string() };
        let stem = args[0].trim_start_matches("--");
        let (switched, is_switch) = (json!(true), value.is_boolean());
        let set = |key: &str, text: &str| ["--set".to_string(), format!("{key}={text}")].to_vec();
        let json = |key: &str, value: &Value| {
            let mut settings = Settings::default();
            settings.add_json(&json!({key: value}).to_string(), "json").unwrap();
            settings.resolve().unwrap()
        };
        let dashed = [&[args[0].replace('_', "-")], &args[1..]].concat();
        for (how, config) in [
            ("flag", resolve(args).unwrap()),
            ("flag with dashes", resolve(&dashed).unwrap()),
            ("--set", resolve(&[&["--ema".into()], &set(dest, &written)[..]].concat()).unwrap()),
            (
                "--set of the flag's name",
                resolve(&[&["--ema".into()], &set(stem, if is_switch { "1" } else { &written })[..]].concat())
                    .unwrap(),
            ),
            ("JSON", json(dest, value)),
            ("JSON of the flag's name", json(stem, if is_switch { &switched } else { value })),
        ] {
            let config = serde_json::to_value(config).unwrap();
            assert!(is_same(&config[dest], value), "{dest} by {how} is {}, published: {value}", config[dest]);
        }
        if is_switch {
            let opposite = stem.strip_prefix("no_").map_or(format!("--no-{stem}"), |stem| format!("--{stem}"));
            let config = serde_json::to_value(resolve(&[args[0].clone(), opposite]).unwrap()).unwrap();
            assert_eq!(config[dest], json!(value != true), "{dest}");
        }
    }
}

#[test]
fn every_key_of_the_official_configurations_is_a_flag_too() {
    let is_switch = |key: &String| table::all().any(|row| row.key == key && row.kind == Kind::Switch);
    for (name, config) in &recorded().configs {
        for (key, value) in config.as_object().unwrap() {
            let mut args = vec![format!("--{key}")];
            match value {
                Value::Array(items) => args.extend(items.iter().map(|item| item.as_str().unwrap().to_string())),
                Value::Number(_) if is_switch(key) => {}
                Value::String(text) => args.push(text.clone()),
                value => args.push(value.to_string()),
            }
            let config = serde_json::to_value(resolve(&args).unwrap()).unwrap();
            assert!(is_same(&config[key], value), "{name}: {key} is {}", config[key]);
        }
    }
}
