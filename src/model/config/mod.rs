//! `config.json` as written by transformers 4.x and 5.x, read by name and type.
//!
//! A key has three states. A missing one has the default of its family's class in transformers; `null` is another
//! value, which often means "off"; a value of a wrong type is refused.

mod class;
mod json;
mod layers;
mod rope;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

pub(super) use class::Class;
pub(crate) use json::parse_python;
pub(super) use rope::{RopeKeys, RopeKinds};
use serde_json::{Map, Value};

use super::{Gguf, ModelError};

/// A model's `config.json`, beside the defaults of its family.
#[derive(Debug)]
pub struct Config {
    path: PathBuf,
    values: Map<String, Value>,
    /// None for a family nobody knows here.
    class: Option<&'static Class>,
}

impl Config {
    /// Reads `dir/config.json`, or what a GGUF file says in its place.
    ///
    /// # Errors
    /// When the file is missing, is not JSON, or is not an object.
    pub fn read(dir: &Path) -> Result<Self, ModelError> {
        if let Some(path) = Gguf::file_of(dir) {
            let values = Gguf::open(&path)?.config()?;
            let class = values.get("model_type").and_then(Value::as_str).and_then(Class::of);
            return Ok(Self { path, values, class });
        }
        let path = dir.join("config.json");
        let text =
            std::fs::read_to_string(&path).map_err(|source| ModelError::Io { path: path.clone(), source })?;
        match parse_python(text.as_bytes()) {
            Ok(Value::Object(values)) => {
                let class = values.get("model_type").and_then(Value::as_str).and_then(Class::of);
                Ok(Self { path, values, class })
            }
            Ok(_) => Err(ModelError::Config { path, reason: "not a JSON object".into() }),
            Err(e) => Err(ModelError::Config { path, reason: format!("not JSON: {e}") }),
        }
    }

    /// The family's name, `model_type`.
    ///
    /// # Errors
    /// When there is none.
    pub fn family(&self) -> Result<&str, ModelError> {
        self.str("model_type")
    }

    /// The object under `key`, to be read like a file of its own; none when it is missing or null.
    ///
    /// # Errors
    /// When it is something else.
    pub(super) fn part(&self, key: &str) -> Result<Option<Self>, ModelError> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let values = value.as_object().ok_or_else(|| self.wrong(key, "an object or null", value))?;
        Ok(Some(Self { path: self.path.clone(), values: values.clone(), class: None }))
    }

    /// The text half of a multimodal model, of the family `default` where it does not say: `text_config`, or the file
    /// itself as Qwen 2 VL's first files have it.
    ///
    /// # Errors
    /// When `text_config` is no object.
    pub(super) fn text_half(&self, default: &str) -> Result<Self, ModelError> {
        let mut text = if let Some(text) = self.part("text_config")? {
            text
        } else {
            let mut values = self.values.clone();
            values.remove("model_type");
            Self { path: self.path.clone(), values, class: None }
        };
        if !text.values.contains_key("model_type") {
            text.values.insert("model_type".into(), default.into());
        }
        text.class = Class::of(text.family()?);
        Ok(text)
    }

    /// Every key of the family's class that holds what its type does not allow is refused; `may_be_null` names keys
    /// that nobody reads, of which a null does no harm.
    pub(super) fn check_types(&self, may_be_null: &[&str]) -> Result<(), ModelError> {
        let Some(class) = self.class else { return Ok(()) };
        for (key, value) in &self.values {
            if value.is_null() && may_be_null.contains(&key.as_str()) {
                continue;
            }
            if let Some(types) = class.refuses(key, value) {
                return Err(self.wrong(key, &types, value));
            }
        }
        Ok(())
    }

    /// What the file itself holds under `key`, or under another of its names; null included.
    pub(super) fn stored(&self, key: &str) -> Option<&Value> {
        let aliases = self.class.into_iter().flat_map(|class| class.aliases(key));
        aliases.chain([key]).find_map(|name| self.values.get(name))
    }

    /// The value under `key`: of the file, else of the class; none when that is null, or neither has the key.
    pub fn get(&self, key: &str) -> Option<&Value> {
        let default = || self.class.and_then(|class| class.default(key));
        self.stored(key).or_else(default).filter(|value| !value.is_null())
    }

    /// The value under `key`, which must be there.
    fn need(&self, key: &str) -> Result<&Value, ModelError> {
        let absent = if self.stored(key).is_some() { "null" } else { "missing" };
        self.get(key).ok_or_else(|| self.error(format!("`{key}` is {absent}")))
    }

    /// An error about this file.
    pub fn error(&self, reason: impl Into<String>) -> ModelError {
        ModelError::Config { path: self.path.clone(), reason: reason.into() }
    }

    /// An option of this family that is not supported, named with its value.
    pub fn unsupported(&self, key: &str, hint: &str) -> ModelError {
        let family = self.family().unwrap_or("model").to_owned();
        let value = self.get(key).map_or("null".into(), Value::to_string);
        ModelError::Unsupported { family, option: format!("{key} = {value}"), hint: hint.to_owned() }
    }

    /// Fails unless `key` is missing, null or false.
    ///
    /// # Errors
    /// Naming the option when it is on.
    pub fn refuse_if_true(&self, key: &str) -> Result<(), ModelError> {
        if self.flag(key)? { Err(self.unsupported(key, "")) } else { Ok(()) }
    }

    /// A positive whole number.
    ///
    /// # Errors
    /// When it is missing, null or something else.
    pub fn usize(&self, key: &str) -> Result<usize, ModelError> {
        let value = self.need(key)?;
        let number = value.as_u64().filter(|n| (1..=u64::from(u32::MAX)).contains(n));
        number.map(|n| n as usize).ok_or_else(|| self.wrong(key, "a positive whole number", value))
    }

    /// As [`Config::usize`]; none for null.
    ///
    /// # Errors
    /// When it is something else.
    pub fn optional_usize(&self, key: &str) -> Result<Option<usize>, ModelError> {
        self.get(key).map(|_| self.usize(key)).transpose()
    }

    /// A whole number, which may be negative.
    ///
    /// # Errors
    /// When it is missing, null or something else.
    pub fn whole(&self, key: &str) -> Result<i64, ModelError> {
        let value = self.need(key)?;
        value.as_i64().ok_or_else(|| self.wrong(key, "a whole number", value))
    }

    /// The number of a token.
    ///
    /// # Errors
    /// When it is missing, null or no whole number from zero on.
    pub(super) fn token(&self, key: &str) -> Result<usize, ModelError> {
        let id = self.whole(key)?;
        usize::try_from(id).map_err(|_| self.error(format!("`{key}` is {id}: no token")))
    }

    /// A number.
    ///
    /// # Errors
    /// When it is missing, null or something else.
    pub fn f64(&self, key: &str) -> Result<f64, ModelError> {
        let value = self.need(key)?;
        value.as_f64().ok_or_else(|| self.wrong(key, "a number", value))
    }

    /// As [`Config::f64`]; none for null.
    ///
    /// # Errors
    /// When it is something else.
    pub fn optional_f64(&self, key: &str) -> Result<Option<f64>, ModelError> {
        self.get(key).map(|_| self.f64(key)).transpose()
    }

    /// A truth value; null is false.
    ///
    /// # Errors
    /// When it is something else.
    pub fn flag(&self, key: &str) -> Result<bool, ModelError> {
        let Some(value) = self.get(key) else { return Ok(false) };
        value.as_bool().ok_or_else(|| self.wrong(key, "true or false", value))
    }

    /// A text.
    ///
    /// # Errors
    /// When it is missing, null or something else.
    pub fn str(&self, key: &str) -> Result<&str, ModelError> {
        let value = self.need(key)?;
        value.as_str().ok_or_else(|| self.wrong(key, "a text", value))
    }

    fn wrong(&self, key: &str, expected: &str, value: &Value) -> ModelError {
        self.error(format!("`{key}` must be {expected}, got {value}"))
    }
}
