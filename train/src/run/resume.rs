//! Where a run starts: anew, or from a checkpoint; and what may have changed meanwhile.

use std::collections::BTreeSet;
use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use mdetr_model::{ModelConfig, TextConfig};
use serde_json::{Map, Value, json};

use super::saver::is_checkpoint;
use crate::checkpoint::{self, LATEST, Phase, Position, State, folder};
use crate::config::RunConfig;
use crate::{environment, tensorboard};

/// What a run leaves in its folder besides checkpoints.
const FILES: [&str; 6] = ["config.json", environment::FILE, "log.txt", "curves.png", "scenes.png", "report.html"];

/// Settings of the model that a resumed run may change: none of them changes what a parameter means.
const FREE: [&str; 5] = ["dropout", "aux_loss", "freeze_text_encoder", "lr_backbone", "tie_key_query_init"];

/// Settings that say which images the steps of an epoch or the warm-up get.
const ORDER: [&str; 7] = ["seed", "batch_size", "accumulate", "train_ann", "emoji", "random_crop", "pretrain"];

/// The checkpoint that a run goes on from.
pub(super) struct Resumed {
    folder: PathBuf,
    config: RunConfig,
    state: State,
}

/// Keeps other programs from training in the folder as long as it lives.
pub(super) struct Lock(#[expect(dead_code, reason = "the lock goes with the file")] File);

/// Makes the folder and locks it. Errors: another program trains in it.
pub(super) fn lock(dir: &Path) -> Result<Lock> {
    std::fs::create_dir_all(dir).with_context(|| format!("cannot make the folder {}", dir.display()))?;
    let file = File::open(dir).with_context(|| format!("cannot open the folder {}", dir.display()))?;
    // Some file systems know no locks: then nobody watches.
    let is_taken = matches!(file.try_lock(), Err(TryLockError::WouldBlock));
    ensure!(!is_taken, "another program is training in {}: choose another folder by --run-name NAME", dir.display());
    Ok(Lock(file))
}

/// What `config` asks for: `None` for a run that starts anew. Its folder is cleared of what a stop left there, and of an
/// earlier run if it is to be overwritten. Errors: the folder holds a run, and nothing says what to do with it.
pub(super) fn start(config: &RunConfig) -> Result<Option<Resumed>> {
    let (dir, t) = (config.run_dir(), &config.training);
    folder::recover(&dir, is_checkpoint)?;
    let own = dir.join(LATEST);
    match t.resume.as_deref() {
        Some("auto") if own.exists() => Resumed::read(own).map(Some),
        Some("auto") | None => make_room(&dir, t.overwrite).map(|()| None),
        Some(path) => {
            ensure!(
                !Path::new(path).is_file() && !path.starts_with("http"),
                "resume={path}: training goes on from the folder of a run of this program; --load {path} starts a new run \
                 from the file's weights, and `mdetr eval` evaluates them"
            );
            let from = checkpoint::find(Path::new(path)).with_context(|| format!("resume={path}"))?;
            let is_own = from.canonicalize()?.parent() == dir.canonicalize().ok().as_deref();
            if !is_own {
                make_room(&dir, t.overwrite)?;
            }
            Resumed::read(from).map(Some)
        }
    }
}

/// Refuses a folder that holds a run, or empties it of that.
fn make_room(dir: &Path, overwrite: bool) -> Result<()> {
    let checkpoints: Vec<String> = folder::names(dir)?.into_iter().filter(|name| is_checkpoint(name)).collect();
    let log = std::fs::read_to_string(dir.join("log.txt")).unwrap_or_default();
    let is_empty = checkpoints.is_empty() && log.is_empty();
    ensure!(
        is_empty || overwrite,
        "{} holds a run already ({} epochs in its log; {}): go on with it by --resume auto, choose another folder by \
         --run-name NAME, or throw it away by --overwrite",
        dir.display(),
        log.lines().count(),
        if checkpoints.is_empty() { "no checkpoint".into() } else { checkpoints.join(", ") }
    );
    checkpoints.iter().try_for_each(|name| folder::remove(&dir.join(name)))?;
    let files = FILES.map(|name| dir.join(name)).into_iter().chain(tensorboard::files(dir)?);
    for file in files.filter(|file| file.exists()) {
        std::fs::remove_file(&file).with_context(|| format!("cannot remove {}", file.display()))?;
    }
    Ok(())
}

impl Resumed {
    fn read(folder: PathBuf) -> Result<Self> {
        let (config, state) = (checkpoint::config(&folder)?, checkpoint::state(&folder)?);
        Ok(Resumed { folder, config, state })
    }

    /// The folder of the checkpoint.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// All but the weights and moments.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// A vocabulary that was made of the captions is that of the checkpoint.
    pub fn fill_vocabulary(&self, config: &mut RunConfig) {
        let (old, new) = (self.config.model.text(), config.model.text());
        if new.vocabulary.is_empty() && config.model.text_encoder_type == self.config.model.text_encoder_type {
            let text = TextConfig { vocab_size: old.vocab_size, vocabulary: old.vocabulary, ..new };
            config.model.text_config = Some(text);
        }
    }

    /// Refuses what cannot change, and says what does.
    pub fn check(&self, config: &RunConfig, steps_per_epoch: usize) -> Result<()> {
        let (from, position) = (self.folder.display(), &self.state.position);
        let changes = changes(&self.config, config);
        for Change { key, text } in &changes {
            ensure!(
                !is_architecture(key),
                "{from} is a model with another {key} ({text}): keep it, or choose a run of its own by --run-name NAME"
            );
            ensure!(
                position.step == 0 || !ORDER.contains(&key.as_str()),
                "{from} stopped at {}, which cannot go on with another {key} ({text}): keep it, or resume from the end of \
                 an epoch, such as {LATEST}0001",
                position.describe()
            );
        }
        ensure!(
            position.phase == Phase::WarmUp || position.step == 0 || position.steps_per_epoch == steps_per_epoch,
            "{from} stopped inside of an epoch of {} steps, now it has {steps_per_epoch}: the training data changed",
            position.steps_per_epoch
        );
        let (old, new) = (&self.config.training.optimizer, &config.training.optimizer);
        ensure!(
            old.rule() == new.rule(),
            "{from} holds what {old:?} keeps between steps, of which {new:?} can make nothing: keep the optimizer, or start \
             a new run from its weights by --load"
        );
        eprintln!("resuming from {from}, {}", position.describe());
        if !changes.is_empty() {
            let texts: Vec<String> = changes.into_iter().map(|c| format!("{} {}", c.key, c.text)).collect();
            eprintln!("changed settings: {}", texts.join(", "));
        }
        Ok(())
    }

    /// Where the run goes on.
    pub fn position(&self) -> Position {
        self.state.position.clone()
    }
}

/// A setting that is not what it was.
struct Change {
    key: String,
    /// Both values.
    text: String,
}

fn changes(old: &RunConfig, new: &RunConfig) -> Vec<Change> {
    let (old, new) = (values(old), values(new));
    let keys: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    let value = |map: &Map<String, Value>, key: &str| map.get(key).cloned().unwrap_or(Value::Null);
    let pairs = keys.into_iter().map(|key| (key, value(&old, key), value(&new, key)));
    let changed = pairs.filter(|(_, old, new)| old != new);
    changed
        .map(|(key, old, new)| Change { key: key.clone(), text: format!("{} -> {}", short(&old), short(&new)) })
        .collect()
}

/// The settings by name, but those that say how and where a run is started.
fn values(config: &RunConfig) -> Map<String, Value> {
    let Ok(Value::Object(mut values)) = serde_json::to_value(config) else { return Map::new() };
    values.retain(|key, _| !["run_name", "output_dir", "resume", "overwrite"].contains(&key.as_str()));
    values.insert("text_config".into(), json!(config.model.text()));
    values
}

fn is_architecture(key: &str) -> bool {
    let known = |key: &str| json!(ModelConfig::default()).get(key).is_some();
    (known(key) || key == "text_config") && !FREE.contains(&key)
}

/// A value for people: long ones are cut.
fn short(value: &Value) -> String {
    let text = value.to_string();
    if text.chars().count() > 60 { text.chars().take(57).chain("...".chars()).collect() } else { text }
}
