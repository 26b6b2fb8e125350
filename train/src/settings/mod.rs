//! Settings by name, in layers: published defaults < configuration files < `KEY=VALUE` < flags.
//!
//! [`table`] lists every setting. A layer's values are checked against it as they are added, and take the form that
//! [`RunConfig`]'s fields serialize to.

pub mod table;
mod value;

use std::path::Path;

use anyhow::{Context, Result, anyhow, bail};
use serde_json::{Map, Value};

use crate::config::RunConfig;
use crate::data::official;
pub use table::{Kind, Setting};

/// Layers of settings, each over those before it.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    values: Map<String, Value>,
}

impl Settings {
    /// Adds the keys of a JSON object. Errors name `name` and the key.
    pub fn add_json(&mut self, text: &str, name: &str) -> Result<()> {
        let value: Value = serde_json::from_str(text).with_context(|| format!("{name} is not valid JSON"))?;
        let Value::Object(map) = value else { bail!("{name}: expected a JSON object of settings") };
        map.into_iter().try_for_each(|(key, value)| self.add(&key, value).with_context(|| name.to_string()))
    }

    /// Adds a configuration file.
    pub fn add_file(&mut self, path: &Path) -> Result<()> {
        let text = std::fs::read_to_string(crate::download::local(path)?)
            .with_context(|| format!("cannot read {}", path.display()))?;
        self.add_json(&text, &path.display().to_string())
    }

    /// Adds `KEY=VALUE`: VALUE is JSON, or else text; dots reach into nested objects.
    pub fn add_assignment(&mut self, assignment: &str) -> Result<()> {
        let (key, text) = assignment
            .split_once('=')
            .with_context(|| format!("--set {assignment:?}: expected KEY=VALUE, such as epochs=10"))?;
        self.add_text(key, text).with_context(|| format!("--set {assignment}"))
    }

    /// Adds a setting as text: a value of its kind, JSON, or `null` for the default.
    pub fn add_text(&mut self, key: &str, text: &str) -> Result<()> {
        let kind = find(key)?.0.kind;
        self.add(key, value::from_text(kind, text))
    }

    /// Adds a setting; null and the empty text stand for the default.
    pub fn add(&mut self, key: &str, value: Value) -> Result<()> {
        let (setting, is_opposite) = find(key)?;
        let value = canonical(setting, value)?;
        let value = match value {
            Value::Bool(set) => Value::Bool(set != is_opposite),
            value => value,
        };
        match setting.key.split_once('.') {
            None => put(&mut self.values, setting.key, value),
            Some((outer, inner)) => {
                let object = self.values.entry(outer).or_insert_with(|| Value::Object(Map::new()));
                put(object.as_object_mut().expect("only objects have dotted settings"), inner, value);
            }
        }
        Ok(())
    }

    /// Fills the rest with the published defaults, which for image sizes are CLEVR's where the data is.
    pub fn resolve(mut self) -> Result<RunConfig> {
        let resolve = |values| serde_json::from_value(Value::Object(values)).context("the configuration");
        let config: RunConfig = resolve(self.values.clone())?;
        if !config.official.is_clevr() {
            return Ok(config);
        }
        for (key, value) in official::clevr_sizes() {
            self.values.entry(key).or_insert(value);
        }
        resolve(self.values)
    }
}

fn put(map: &mut Map<String, Value>, key: &str, value: Value) {
    match value {
        Value::Null => drop(map.remove(key)),
        value => drop(map.insert(key.into(), value)),
    }
}

/// A value in the form that its field serializes to; null stands for the default.
fn canonical(setting: &Setting, value: Value) -> Result<Value> {
    if let (Kind::Object, Value::Object(map)) = (setting.kind, &value) {
        let mut object = Map::new();
        for (key, value) in map {
            let inner = format!("{}.{key}", setting.key);
            let (inner, _) = find(&inner)?;
            let name = inner.key.split_once('.').map_or(inner.key, |(_, name)| name);
            put(&mut object, name, canonical(inner, value.clone())?);
        }
        return Ok(Value::Object(object));
    }
    let shown = value.to_string();
    value::canonical(setting.kind, value)
        .ok_or_else(|| anyhow!("{} is {shown}: expected {}", setting.key, value::expected(setting.kind)))
}

/// The setting that `name` means, and whether it means the opposite (`no_aux_loss`). Errors name the nearest one.
fn find(name: &str) -> Result<(&'static Setting, bool)> {
    let wanted = name.to_lowercase().replace('-', "_");
    let is_meant = |own: &str| own.to_lowercase() == wanted;
    let meant = table::all().find_map(|setting| match setting.opposite() {
        _ if is_meant(setting.key) => Some((setting, false)),
        Some(opposite) if is_meant(&opposite) => Some((setting, true)),
        _ => None,
    });
    meant.ok_or_else(|| {
        let likeness = |setting: &&Setting| {
            let likeness = |own: &str| strsim::normalized_damerau_levenshtein(&own.to_lowercase(), &wanted);
            setting.opposite().map_or(0.0, |opposite| likeness(&opposite)).max(likeness(setting.key))
        };
        let nearest = table::all().max_by(|a, b| likeness(a).total_cmp(&likeness(b))).expect("the table has rows");
        anyhow!("there is no setting {name:?}; the nearest is {:?}", nearest.key)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn resolve(json: &Value, assignments: &[&str]) -> Result<RunConfig> {
        let mut settings = Settings::default();
        settings.add_json(&json.to_string(), "my.json")?;
        assignments.iter().try_for_each(|assignment| settings.add_assignment(assignment))?;
        settings.resolve()
    }

    #[test]
    fn later_layers_win_and_the_rest_is_published() {
        let file = json!({"epochs": 7, "backbone": "resnet50", "pretrain": {"lr": 1}, "max_steps": 3});
        let sets = ["epochs=3", "text_config.hidden_size=48", "text-config.num-attention-heads=4", "run_name=7"];
        let config = resolve(&file, &[&sets[..], &["pretrain=null", "max-steps=null"]].concat()).unwrap();
        assert_eq!((config.training.epochs, config.training.lr_drop), (3, 35));
        assert_eq!(config.model.backbone, "resnet50");
        assert_eq!((config.model.text().hidden_size, config.model.text().num_attention_heads), (48, 4));
        assert_eq!((config.training.run_name.as_str(), config.training.max_steps), ("7", None));
        assert_eq!(config.training.pretrain, None);
    }

    #[test]
    fn a_value_may_be_written_in_many_ways() {
        let as_resolved = |key: &str, config: &RunConfig| serde_json::to_value(config).unwrap()[key].clone();
        for (written, key, meant) in [
            (json!({"no_aux_loss": 1}), "aux_loss", json!(false)),
            (json!({"aux_loss": 0}), "aux_loss", json!(false)),
            (json!({"detection": false}), "no_detection", json!(true)),
            (json!({"do-qa": "True"}), "do_qa", json!(true)),
            (json!({"lr": "1e-3"}), "lr", json!(1e-3)),
            (json!({"lr": 1}), "lr", json!(1.0)),
            (json!({"epochs": 5.0}), "epochs", json!(5)),
            (json!({"epochs": "5"}), "epochs", json!(5)),
            (json!({"epochs": null}), "epochs", json!(40)),
            (json!({"lvis_subset": "10"}), "lvis_subset", json!(10)),
            (json!({"gt_type": "merged"}), "GT_type", json!("merged")),
            (json!({"load": ""}), "load", json!(null)),
            (json!({"val_ann": "v.json"}), "val_ann", json!(["v.json"])),
            (json!({"train_scales": ["64", 80]}), "train_scales", json!([64, 80])),
            (json!({"epoch_chunks": -1}), "epoch_chunks", json!(-1)),
        ] {
            assert_eq!(as_resolved(key, &resolve(&written, &[]).unwrap()), meant, "{written}");
        }
    }

    #[test]
    fn a_resolved_configuration_reads_back_as_itself() {
        let config = RunConfig::default();
        assert_eq!(resolve(&serde_json::to_value(&config).unwrap(), &[]).unwrap(), config);
    }

    #[test]
    fn errors_say_where_what_and_what_instead() {
        let error = |json: Value, set: &[&str]| format!("{:#}", resolve(&json, set).unwrap_err());
        for (message, parts) in [
            (error(json!({"learning_rate": 1}), &[]), ["my.json", "learning_rate", "nearest is"]),
            (error(json!({"no_aux_los": 1}), &[]), ["my.json", "no_aux_los", "\"aux_loss\""]),
            (error(json!({"text_config": {"hiden_size": 1}}), &[]), ["my.json", "hiden", "text_config.hidden_size"]),
            (error(json!({}), &["epochs=many"]), ["--set epochs=many", "many", "a whole number"]),
            (error(json!({}), &["schedule=cosine"]), ["cosine", "multistep", "warmup_hold_cosine"]),
            (error(json!({}), &["epoch=3"]), ["epoch=3", "nearest", "\"epochs\""]),
            (error(json!({}), &["epochs"]), ["\"epochs\"", "KEY=VALUE", "epochs=10"]),
            (error(json!({"lr": "inf"}), &[]), ["lr", "inf", "a number"]),
            (error(json!({"epochs": -1}), &[]), ["epochs", "-1", "a whole number"]),
            (error(json!({"ema": 2}), &[]), ["ema", "2", "true or false"]),
            (error(json!({"val_ann": true}), &[]), ["val_ann", "true", "list"]),
            (error(json!({"pretrain": {"lr": 1}}), &[]), ["the configuration", "missing", "easy_ann"]),
        ] {
            for part in parts {
                assert!(message.contains(part), "{part:?} is not in: {message}");
            }
        }
    }
}
