//! The small JSON files beside `tokenizer.json` that name special tokens.

use super::error::TextError;
use crate::model::parse_python;
use serde_json::Value;
use std::path::{Path, PathBuf};

/// `tokenizer_config.json`, `special_tokens_map.json` and `config.json` of a model folder.
pub(super) struct ConfigFiles {
    pub(super) dir: PathBuf,
    pub(super) tokenizer: ConfigFile,
    pub(super) special: ConfigFile,
    pub(super) model: ConfigFile,
}

/// One of them; `null` when the file is not there.
pub(super) struct ConfigFile {
    pub(super) path: PathBuf,
    pub(super) value: Value,
}

impl ConfigFiles {
    pub(super) fn load(dir: &Path) -> Result<Self, TextError> {
        Ok(Self {
            dir: dir.into(),
            tokenizer: ConfigFile::load(dir.join("tokenizer_config.json"))?,
            special: ConfigFile::load(dir.join("special_tokens_map.json"))?,
            model: ConfigFile::load(dir.join("config.json"))?,
        })
    }
}

impl ConfigFile {
    fn load(path: PathBuf) -> Result<Self, TextError> {
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Ok(Self { path, value: Value::Null });
            }
            Err(source) => return Err(TextError::io(path.display().to_string(), source)),
        };
        match parse_python(&bytes) {
            Ok(value) if value.is_object() => Ok(Self { path, value }),
            Ok(_) => Err(TextError::BadConfig { path, message: "expected a JSON object".into() }),
            Err(error) => Err(TextError::BadConfig { path, message: format!("not JSON: {error}") }),
        }
    }

    /// A special token's text: a string, or an object with `content`. `None` when absent or null.
    pub(super) fn token(&self, key: &str) -> Result<Option<&str>, TextError> {
        let named = match &self.value[key] {
            Value::Null => return Ok(None),
            Value::String(token) => Some(token.as_str()),
            Value::Object(object) => object.get("content").and_then(Value::as_str),
            _ => None,
        };
        let message = || format!("{key} must be a string or an object with a string \"content\"");
        named.map(Some).ok_or_else(|| TextError::BadConfig { path: self.path.clone(), message: message() })
    }

    /// A token id, at the top level or inside `text_config` (models that also see images). Of a list, the first.
    pub(super) fn token_id(&self, key: &str) -> Result<Option<u64>, TextError> {
        let value =
            if self.value[key].is_null() { &self.value["text_config"][key] } else { &self.value[key] };
        let number = if let Value::Array(list) = value { list.first() } else { Some(value) };
        match number {
            None | Some(Value::Null) => Ok(None),
            Some(number) => number.as_u64().map(Some).ok_or_else(|| TextError::BadConfig {
                path: self.path.clone(),
                message: format!("{key} must be a token id or null, got {value}"),
            }),
        }
    }

    /// The file's name without its folder.
    pub(super) fn name(&self) -> &str {
        self.path.file_name().and_then(|name| name.to_str()).unwrap_or_default()
    }
}
