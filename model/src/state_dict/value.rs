//! Reading of unpickled objects.

use anyhow::{Result, ensure};

use super::pickle::{Object, ObjectId, Pickle};

/// How deep and how large what is turned into JSON may be: settings, not weights.
const MAX_DEPTH: usize = 16;
const MAX_VALUES: usize = 100_000;

/// One object of a pickle.
#[derive(Clone, Copy, Debug)]
pub struct Value<'a> {
    pub(super) pickle: &'a Pickle,
    pub(super) id: ObjectId,
}

impl<'a> Value<'a> {
    fn object(self) -> &'a Object {
        self.pickle.object(self.id)
    }

    /// Whether it is `None`.
    pub fn is_none(self) -> bool {
        matches!(self.object(), Object::None)
    }

    /// A string's text.
    pub fn as_str(self) -> Option<&'a str> {
        match self.object() {
            Object::Text(text) => Some(text),
            _ => None,
        }
    }

    /// An integer's value, if it is no less than 0.
    pub fn as_usize(self) -> Option<usize> {
        match self.object() {
            Object::Int(i) => (*i).try_into().ok(),
            _ => None,
        }
    }

    /// The `module.name` of a class or function.
    pub fn as_global(self) -> Option<&'a str> {
        match self.object() {
            Object::Global(name) => Some(name),
            _ => None,
        }
    }

    /// The name under which the pickle's owner keeps this object.
    pub fn as_persistent(self) -> Option<Value<'a>> {
        match self.object() {
            Object::Persistent(name) => Some(self.pickle.at(*name)),
            _ => None,
        }
    }

    /// The elements of a tuple, list or set.
    pub fn elements(self) -> Option<Vec<Value<'a>>> {
        match self.object() {
            Object::Tuple(ids) | Object::List(ids) => Some(ids.iter().map(|&id| self.pickle.at(id)).collect()),
            _ => None,
        }
    }

    /// What was called to make this object, and the arguments.
    pub fn as_call(self) -> Option<(&'a str, Vec<Value<'a>>)> {
        let Object::Call(call) = self.object() else { return None };
        let args = match self.pickle.object(call.args) {
            Object::Tuple(ids) => ids.iter().map(|&id| self.pickle.at(id)).collect(),
            _ => return None,
        };
        Some((self.pickle.at(call.callee).as_global()?, args))
    }

    /// Keys and values of a dictionary (ordered ones too), attributes of a namespace. The last of equal keys counts.
    pub fn items(self) -> Option<Vec<(&'a str, Value<'a>)>> {
        let items = match self.object() {
            Object::Dict(items) => items,
            Object::Call(call) => match (self.as_call()?.0, call.state) {
                ("argparse.Namespace", Some(state)) => match self.pickle.object(state) {
                    Object::Dict(items) => items,
                    _ => return None,
                },
                ("argparse.Namespace" | "collections.OrderedDict" | "collections.defaultdict", _) => &call.items,
                _ => return None,
            },
            _ => return None,
        };
        Some(items.iter().filter_map(|&(k, v)| Some((self.pickle.at(k).as_str()?, self.pickle.at(v)))).collect())
    }

    /// The value of a key.
    pub fn get(self, key: &str) -> Option<Value<'a>> {
        self.items()?.into_iter().rev().find(|(k, _)| *k == key).map(|(_, value)| value)
    }

    /// As JSON: dictionaries, lists and scalars. Objects of other classes are null. An error for what is too deep or too
    /// large for settings.
    pub fn json(self) -> Result<serde_json::Value> {
        self.json_within(MAX_DEPTH, &mut { MAX_VALUES })
    }

    fn json_within(self, depth: usize, budget: &mut usize) -> Result<serde_json::Value> {
        use serde_json::{Value as Json, json};
        ensure!(*budget > 0, "it has more than {MAX_VALUES} values");
        ensure!(depth > 0, "it is nested more than {MAX_DEPTH} deep");
        *budget -= 1;
        Ok(match self.object() {
            Object::Bool(b) => json!(b),
            Object::Int(i) => i64::try_from(*i).map_or_else(|_| json!(*i as f64), |i| json!(i)),
            Object::Float(f) => json!(f),
            Object::Text(text) => json!(text),
            Object::Tuple(_) | Object::List(_) => {
                let elements = self.elements().unwrap_or_default();
                Json::Array(elements.into_iter().map(|e| e.json_within(depth - 1, budget)).collect::<Result<_>>()?)
            }
            Object::Dict(_) | Object::Call(_) => match self.items() {
                Some(items) => {
                    let items = items.into_iter().map(|(k, v)| Ok((k.into(), v.json_within(depth - 1, budget)?)));
                    Json::Object(items.collect::<Result<_>>()?)
                }
                None => Json::Null,
            },
            _ => Json::Null,
        })
    }
}
