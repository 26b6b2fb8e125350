//! Settings on the command line: a flag for every row of the table, and the layers of a configuration.

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::{Arg, ArgAction, ArgMatches, Command, FromArgMatches};
use mdetr_train::config::RunConfig;
use mdetr_train::settings::{Kind, Setting, Settings, table};
use serde_json::Value;

/// Flags that stand for a precision.
const PRECISIONS: [(&str, &str); 3] = [
    ("fp16", "Activations and matrices in f16, with a dynamic loss scale"),
    ("bf16", "Activations and matrices in bfloat16"),
    ("tf32", "Matrix products and convolutions of a GPU in TF32 (on the CPU the same as f32)"),
];

/// Where the settings of a run come from.
#[derive(clap::Args)]
pub struct Args {
    /// A configuration file; without one and without --dataset-config, `train` is the embedded emoji run.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// A second configuration file, for the data.
    #[arg(long, value_name = "FILE")]
    pub dataset_config: Option<PathBuf>,
    /// Any setting by its name; dots reach into objects (text_config.hidden_size=128).
    #[arg(long = "set", value_name = "KEY=VALUE")]
    set: Vec<String>,
    #[command(flatten)]
    flags: Flags,
}

impl Args {
    /// The configuration over `base`: files, then `--set`, then flags.
    pub fn resolve(&self, base: Settings) -> Result<RunConfig> {
        let mut settings = base;
        for file in [&self.config, &self.dataset_config].into_iter().flatten() {
            settings.add_file(file)?;
        }
        self.set.iter().try_for_each(|assignment| settings.add_assignment(assignment))?;
        self.flags.0.iter().try_for_each(|flag| flag.add_to(&mut settings))?;
        settings.resolve()
    }
}

/// The flags that were given.
#[derive(Clone, Debug, Default)]
struct Flags(Vec<Flag>);

#[derive(Clone, Debug)]
struct Flag {
    /// A setting, or the opposite of a switch.
    key: String,
    /// One value, or the items of a list.
    values: Vec<String>,
    is_list: bool,
}

impl Flag {
    fn add_to(&self, settings: &mut Settings) -> Result<()> {
        let added = match self.is_list {
            true => settings.add(&self.key, self.values.iter().map(|v| Value::from(v.as_str())).collect()),
            false => settings.add_text(&self.key, &self.values[0]),
        };
        added.with_context(|| format!("--{}", dashed(&self.key)))
    }
}

impl clap::Args for Flags {
    fn augment_args(command: Command) -> Command {
        let rows = table::GROUPS.iter().flat_map(|(heading, rows)| rows.iter().map(move |row| (*heading, row)));
        let flags =
            rows.flat_map(|(heading, row)| flags_of(row).into_iter().map(move |flag| flag.help_heading(heading)));
        let names = PRECISIONS.map(|(name, _)| name);
        let precisions = PRECISIONS.into_iter().map(|(name, help)| {
            let others = names.into_iter().filter(|&other| other != name).chain(["precision"]);
            let flag = Arg::new(name.clone()).long(name).help(help).action(ArgAction::SetTrue).help_heading("Run");
            flag.conflicts_with_all(others.collect::<Vec<_>>())
        });
        command.args(flags).args(precisions).args_override_self(true)
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for Flags {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let values = |id: &str| matches.get_many::<String>(id).map(|values| values.cloned().collect::<Vec<_>>());
        let mut flags = Vec::new();
        for row in table::all() {
            if row.kind == Kind::Switch {
                let names = [Some(row.key.to_string()), row.opposite()].into_iter().flatten();
                let given = names.filter(|name| matches.get_flag(name));
                flags.extend(given.map(|key| Flag { key, values: vec!["1".into()], is_list: false }));
            } else if let Some(values) = values(row.key) {
                flags.push(Flag { key: row.key.into(), values, is_list: is_list(row.kind) });
            }
        }
        let precisions = PRECISIONS.into_iter().filter(|(name, _)| matches.get_flag(name));
        flags.extend(precisions.map(|(name, _)| Flag {
            key: "precision".into(),
            values: vec![name.into()],
            is_list: false,
        }));
        Ok(Flags(flags))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        self.0.extend(Self::from_arg_matches(matches)?.0);
        Ok(())
    }
}

/// The flags of a setting. `--help` shows of a switch the one that turns it from its default.
fn flags_of(row: &'static Setting) -> Vec<Arg> {
    let Some(opposite) = row.opposite() else {
        return vec![value_flag(row)];
    };
    let names = [row.key.to_string(), opposite];
    let flag = |name: &String| {
        let flag = Arg::new(name.clone()).long(dashed(name)).action(ArgAction::SetTrue).help(row.help);
        flag.hide(*name != row.flag()).overrides_with_all(names.clone())
    };
    names.iter().map(flag).collect()
}

fn value_flag(row: &'static Setting) -> Arg {
    let default = match row.default() {
        Value::String(text) => text.clone(),
        Value::Array(items) => {
            items.iter().map(|item| item.to_string().replace('"', "")).collect::<Vec<_>>().join(" ")
        }
        Value::Null => String::new(),
        value => value.to_string(),
    };
    let default = if default.is_empty() { default } else { format!(" [default: {default}]") };
    let choices = match row.kind {
        Kind::Choice(choices) => format!(" [{}]", choices.join(", ")),
        _ => String::new(),
    };
    let flag = Arg::new(row.key).long(dashed(row.key)).value_name(value_name(row.kind)).allow_negative_numbers(true);
    let flag = flag.help(format!("{}{choices}{default}", row.help));
    match row.kind {
        Kind::Words | Kind::Counts => flag.action(ArgAction::Append).num_args(1..),
        Kind::Paths => flag.action(ArgAction::Append),
        _ => flag.action(ArgAction::Set),
    }
}

fn value_name(kind: Kind) -> &'static str {
    match kind {
        Kind::Count | Kind::Integer | Kind::Counts => "N",
        Kind::Number => "X",
        Kind::Path | Kind::Paths => "PATH",
        Kind::Object => "JSON",
        Kind::Switch | Kind::Text | Kind::Choice(_) | Kind::Words => "NAME",
    }
}

fn is_list(kind: Kind) -> bool {
    matches!(kind, Kind::Words | Kind::Counts | Kind::Paths)
}

/// The flag of a key, without its dashes before.
pub fn dashed(key: &str) -> String {
    key.to_lowercase().replace('_', "-")
}
